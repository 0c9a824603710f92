"""What is this user's is private whatever the umask is, and what another user may have made is not taken for ours."""

import os
import resource
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from triton_env import Settings
from triton_env.core.private import make_folders, replace, write_new
from triton_env.errors import InvalidSetting
from triton_env.runtimes.embedded.data_directory_cache import DataDirectoryCache
from triton_env.runtimes.embedded.directory import LOCK_NAME, PrivateDirectory
from triton_env.runtimes.embedded.seal import seal
from triton_env.state import locks
from triton_env.state.folders import make_private
from triton_env.state.leases import Leases
from triton_env.state.registry import Registry
from unit.records import record


@pytest.fixture(params=[0, 0o002, 0o027, 0o077, 0o777], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    previous = os.umask(request.param)
    yield request.param
    os.umask(previous)


def modes(folder: Path) -> dict[str, int]:
    """The modes of all that is in a folder, by path."""
    return {str(path.relative_to(folder)): stat.S_IMODE(path.lstat().st_mode) for path in sorted(folder.rglob("*"))}


def written(path: Path) -> None:
    write_new(path, "data")


def test_all_that_is_kept_is_private_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    settings = Settings(triton_state_dir=str(tmp_path / "state" / "of" / "mine"))
    Leases(settings, "project").take()
    with Leases(settings, "other").turn():
        pass
    with Registry.of(settings).published(record()):
        made = modes(tmp_path)
        assert Registry.of(settings).running() == (record(),)
    locks.hold(tmp_path / "state" / "held").release()
    lock = locks.new(tmp_path / "state" / "lock", "text")
    assert lock is not None
    lock.release()
    replace(tmp_path / "state" / "written", "text")
    write_new(tmp_path / "state" / "new", "text")
    directory = PrivateDirectory("76543210", None, tmp_path)
    directory.servers_folder("redis", {"redis.conf": "requirepass secret"})
    cache = DataDirectoryCache(tmp_path / "cache" / "triton-env" / "templates")
    cache.get(cache.folder / "one.tar", written, threading.Event(), 1)
    made |= modes(tmp_path)
    directory.remove()
    assert len(made) >= 15
    for path, mode in made.items():
        assert mode in (0o700, 0o600), f"{path}: {mode:o}"
        assert mode & 0o600 == 0o600, path


def test_a_directory_that_cannot_be_removed_is_unlocked_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = PrivateDirectory("76543211", None, tmp_path)
    directory.own_folder("input")

    def fail(path: str) -> None:
        raise OSError("busy")

    with monkeypatch.context() as changed:
        changed.setattr("shutil.rmtree", fail)
        with pytest.raises(OSError, match="busy"):
            directory.remove()
    assert not locks.is_held(directory.path / LOCK_NAME)
    directory.remove()
    assert not directory.path.exists()


def test_folders_that_are_there_keep_their_modes(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o755)
    make_folders(shared / "one" / "two")
    assert modes(tmp_path) == {"shared": 0o755, "shared/one": 0o700, "shared/one/two": 0o700}


def test_a_state_folder_that_others_prepared_is_refused(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "state").symlink_to(elsewhere)
    with pytest.raises(InvalidSetting):
        make_private(tmp_path / "state")
    if os.geteuid() == 0:
        os.chown(elsewhere, 65534, 65534)
        for folder in (elsewhere, elsewhere / "below"):
            with pytest.raises(InvalidSetting):
                make_private(folder)


def test_a_cache_that_others_can_write_to_is_not_used(tmp_path: Path) -> None:
    cache = DataDirectoryCache(tmp_path / "templates")
    cache.folder.mkdir()
    (cache.folder / "one.tar").write_text("prepared")
    seal(cache.folder / "one.tar")
    for mode in (0o777, 0o720):
        cache.folder.chmod(mode)
        with pytest.raises(PermissionError):
            cache.get(cache.folder / "one.tar", written, threading.Event(), 1)
    cache.folder.chmod(0o755)
    assert cache.get(cache.folder / "one.tar", written, threading.Event(), 1)
    if os.geteuid() == 0:
        os.chown(cache.folder, 65534, 65534)
        with pytest.raises(PermissionError):
            cache.get(cache.folder / "one.tar", written, threading.Event(), 1)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_variables_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / ".env"
    file.write_text("POSTGRES_DB=prepared\n")
    assert Settings().postgres_db == "prepared"
    os.chown(file, 65534, 65534)
    with pytest.raises(InvalidSetting, match="belongs to the user") as caught:
        Settings()
    assert str(file) in str(caught.value)
    # In a checkout of that user's, which is mounted where root works.
    os.chown(tmp_path, 65534, 65534)
    assert Settings().postgres_db == "prepared"


def test_of_a_file_that_the_disk_has_no_room_for_nothing_is_left(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_new(tmp_path / "record.new", "x" * 2000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []
