"""The cached data directory of an embedded PostgreSQL: made once, and never trusted when it is not what was written."""

import logging
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import forkserver
from patience import patient_probes
from triton_env import Settings, TritonEnvironment
from triton_env.core.private import make_folders
from triton_env.errors import ServiceExited, ServiceNotReady
from triton_env.runtimes.embedded.data_directory_cache import DataDirectoryCache
from triton_env.runtimes.embedded.runtime import EmbeddedRuntime
from triton_env.runtimes.embedded.seal import is_intact, seal

pytestmark = [pytest.mark.usefixtures("embedded_packages"), pytest.mark.timeout(500)]

PATIENCE = 300
STARTER = """
from triton_env import TritonEnvironment
with TritonEnvironment(services=("postgres",), runtime="embedded") as env:
    with env.postgres.connect() as connection:
        assert connection.execute("select count(*) from pg_class").fetchone()[0] > 100
    print("made" if "creating subdirectories" in env.logs("postgres", 500) else "copied")
"""
IS_ROOT = os.geteuid() == 0


@pytest.fixture(scope="module", autouse=True)
def patient() -> Iterator[None]:
    with patient_probes():
        yield


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "triton-env" / "templates"


def started(**settings: str) -> str:
    """Whether the data directory of an environment was made or copied."""
    with TritonEnvironment(Settings(**settings), services=("postgres",), runtime="embedded") as env:  # type: ignore[arg-type]
        with env.postgres.connect() as connection:
            (count,) = connection.execute("select count(*) from pg_class").fetchone() or (0,)
            assert count > 100
        return "made" if "creating subdirectories" in env.logs("postgres", 500) else "copied"


def archive_in(cache: Path) -> Path:
    (archive,) = cache.glob("*.tar")
    return archive


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, embedded_packages: None) -> Path:
    """An archive that a start has made, to be copied."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
        assert [started(), started()] == ["made", "copied"]
    return archive_in(folder / "triton-env" / "templates")


@pytest.fixture
def archive(made: Path, cache: Path) -> Path:
    """The archive in the cache of this test, as an earlier start has left it there."""
    make_folders(cache)
    return Path(shutil.copy2(made, cache / made.name))


def overwrite(archive: Path, member: str, content: bytes = b"") -> None:
    """Replace what a file in an archive holds by as many bytes: `content` and line feeds, or zeros."""
    with tarfile.open(archive) as opened:
        found = opened.getmember(member)
    replacement = content.ljust(found.size, b"\n") if content else bytes(found.size)
    with archive.open("r+b") as file:
        file.seek(found.offset_data)
        file.write(replacement)


def in_its_place(archive: Path, make: Callable[[Path], object]) -> None:
    archive.unlink()
    make(archive)


def folder(path: Path) -> None:
    path.mkdir()
    (path / "content").write_text("content")


def listening(path: Path) -> None:
    # The path may be too long for a socket.
    here = os.open(".", os.O_RDONLY)
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.fchdir(here)
        os.close(here)


UNFIT: dict[str, Callable[[Path], object]] = {
    "cut short": lambda path: os.truncate(path, 1_000),
    "one byte short": lambda path: os.truncate(path, path.stat().st_size - 1),
    "empty": lambda path: os.truncate(path, 0),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "a folder": lambda path: in_its_place(path, folder),
    "a link": lambda path: path.rename(path.with_suffix(".moved")) and path.symlink_to(path.with_suffix(".moved")),
    "a link to nothing": lambda path: in_its_place(path, lambda path: path.symlink_to("/absent")),
    "a pipe": lambda path: in_its_place(path, os.mkfifo),
    "a socket": lambda path: in_its_place(path, listening),
    "open to others": lambda path: path.chmod(0o666),
} | ({"another user's": lambda path: os.chown(path, 12345, 12345)} if IS_ROOT else {})


class TestCache:
    """The cache by itself, with archives that hold next to nothing."""

    @pytest.mark.parametrize("damage", UNFIT)
    def test_what_cannot_be_what_was_written_is_made_again(
        self, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        cache, archive = DataDirectoryCache(tmp_path / "cache"), tmp_path / "cache" / "one.tar"
        (tmp_path / "content").write_bytes(bytes(range(256)) * 40)

        def make(path: Path) -> None:
            with tarfile.open(path, "w") as opened:
                opened.add(tmp_path / "content", "content")

        def was_there() -> bool:
            return cache.get(archive, make, threading.Event(), PATIENCE)

        assert [was_there(), was_there()] == [False, True]
        UNFIT[damage](archive)
        with caplog.at_level(logging.WARNING):
            assert not was_there()
        (record,) = caplog.records
        assert "cached data directory" in record.getMessage()
        assert "so it is made again" in record.getMessage()
        assert was_there()
        assert cache.is_intact(archive)
        assert not [path for path in archive.parent.iterdir() if path.suffix in (".old", ".new")]


# As many bytes as before, so that only its content shows it; one of these is found when a server starts on it.
DAMAGES: dict[str, Callable[[Path], object]] = {
    "no users": lambda path: overwrite(path, "./global/1260"),
    "no catalog": lambda path: overwrite(path, "./base/1/1249"),
    "no control file": lambda path: overwrite(path, "./global/pg_control"),
    "no way in": lambda path: overwrite(path, "./pg_hba.conf", b"local all all reject\nhost all all all reject\n"),
}


class TestDamage:
    @pytest.mark.parametrize("damage", DAMAGES)
    def test_damage_of_any_part_is_seen(self, archive: Path, damage: str) -> None:
        assert is_intact(archive)
        DAMAGES[damage](archive)
        assert not is_intact(archive)

    @pytest.mark.parametrize("damage", [DAMAGES["no users"], UNFIT["a pipe"]], ids=["no users", "a pipe"])
    def test_what_is_not_as_it_was_written_is_made_again(
        self, archive: Path, damage: Callable[[Path], object], caplog: pytest.LogCaptureFixture
    ) -> None:
        damage(archive)
        with caplog.at_level(logging.WARNING):
            assert started() == "made"
        (record,) = [record for record in caplog.records if "cached data directory" in record.getMessage()]
        assert "so it is made again" in record.getMessage()
        assert started() == "copied"
        assert not [path for path in archive.parent.iterdir() if path.suffix in (".old", ".new")]

    def test_one_with_which_a_start_fails_is_made_again_in_that_start(
        self, archive: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Such as one that was made by a program with a fault: it is intact, and no client gets in."""
        overwrite(archive, "./global/1260")
        content = archive.read_bytes()
        archive.write_bytes(content[: content.rindex(b"triton-env crc32")])
        seal(archive)
        assert is_intact(archive)
        with caplog.at_level(logging.WARNING):
            assert started() == "made"
        assert "PostgreSQL did not start with a copy of it, so it is made again" in caplog.text
        assert started() == "copied"

    def test_where_it_cannot_be_removed_the_start_does_without(
        self, archive: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        overwrite(archive, "./global/1260")

        def refuse(path: Path, target: object) -> None:
            raise PermissionError(1, "Operation not permitted", str(path))

        with monkeypatch.context() as patched:
            patched.setattr(
                Path, "rename", lambda path, to: refuse(path, to) if path.suffix == ".tar" else os.rename(path, to)
            )
            assert started() == "made"
        assert "cannot be removed: Operation not permitted" in caplog.text

    def test_folders_where_files_are_to_be_made_are_not_in_the_way(self, archive: Path) -> None:
        archive.unlink()
        for suffix in (".new", ".lock"):
            archive.with_suffix(suffix).mkdir()
        assert [started(), started()] == ["made", "copied"]

    def test_a_start_that_fails_for_another_reason_fails_once_again(
        self, archive: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert archive.exists()
        tries = []

        def not_ready(self: EmbeddedRuntime, *arguments: object) -> None:
            tries.append(arguments)
            raise ServiceNotReady("not ready")

        monkeypatch.setattr(EmbeddedRuntime, "_wait", not_ready)
        with pytest.raises(ServiceNotReady):
            started()
        assert len(tries) == 2


class TestMaking:
    def test_one_that_was_made_in_a_start_that_failed_is_not_kept(
        self, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Such as one of a server that cannot work here: what it has made is not known to be good."""
        with pytest.raises(ServiceExited, match="no_such_option"):
            started(triton_postgres_options="no_such_option=1")
        assert not list(cache.glob("*.tar"))
        assert "PostgreSQL did not start with it, so it is made again" in caplog.text
        assert [started(), started()] == ["made", "copied"]

    def test_many_starters_make_it_once(self, cache: Path) -> None:
        processes = [
            forkserver.Popen([sys.executable, "-c", STARTER], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for _ in range(4)
        ]
        outcomes = [process.communicate(timeout=PATIENCE) for process in processes]
        assert sorted(output.strip() for output, _ in outcomes) == ["copied", "copied", "copied", "made"], outcomes
        assert not list(cache.glob("*.new"))
        assert is_intact(archive_in(cache))

    def test_other_settings_make_another(self, archive: Path, cache: Path) -> None:
        assert started(postgres_db="other") == "made"
        assert started(postgres_user="guest") == "made"
        assert started(postgres_db="other") == "copied"
        assert len(list(cache.glob("*.tar"))) == 3

    def test_it_holds_no_password_and_is_private(self, cache: Path) -> None:
        with TritonEnvironment(services=("postgres",), runtime="embedded") as env:
            archive = archive_in(cache)
            content = archive.read_bytes()
            assert env.postgres.password.encode() not in content
            assert b"SCRAM-SHA-256$" not in content
        assert stat.S_IMODE(archive.stat().st_mode) == 0o600

    def test_without_a_place_for_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        assert [started(), started()] == ["made", "made"]

    def test_the_wait_for_another_process_that_makes_it_is_bounded(self, tmp_path: Path) -> None:
        cache = DataDirectoryCache(tmp_path)
        code = (
            "import fcntl, sys; lock = open(sys.argv[1], 'w'); fcntl.flock(lock, fcntl.LOCK_EX);"
            "print('locked', flush=True); sys.stdin.read()"
        )
        holder = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "one.lock")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "locked\n"
            holder.send_signal(signal.SIGSTOP)
            with pytest.raises(TimeoutError, match="another process"):
                cache.get(tmp_path / "one.tar", lambda path: None, threading.Event(), 0.3)
        finally:
            holder.kill()
            holder.communicate()

    def test_it_is_on_the_disk_before_it_has_its_name(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        steps: list[str] = []
        fsync, rename = os.fsync, Path.rename

        def synced(descriptor: int) -> None:
            steps.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
            fsync(descriptor)

        def renamed(path: Path, target: Path) -> Path:
            steps.append("rename")
            return rename(path, target)

        monkeypatch.setattr(os, "fsync", synced)
        monkeypatch.setattr(Path, "rename", renamed)
        DataDirectoryCache(tmp_path).get(
            tmp_path / "one.tar", lambda path: path.write_text("content") and None, threading.Event(), 1
        )
        assert steps == ["file", "rename", "folder"]
