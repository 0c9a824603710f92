"""Which compose file is used, whose it may be, and where that of an installed triton-env is kept."""

import os
import shutil
from pathlib import Path

import pytest

from triton_env import Settings
from triton_env.core import packaged_files
from triton_env.errors import InvalidSetting
from triton_env.persistent.compose_file import compose_file, is_same_stack, kept_folder, unused, used_file

REPOSITORY = Path(__file__).parents[2]
OURS = (REPOSITORY / "docker-compose.yml").read_text("utf-8")
ANOTHER_USER = 65534


def installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have this process take a copy of the package's files for those of its installation; its compose file."""
    package = folder / "site-packages" / "triton_env"
    shutil.copytree(REPOSITORY / "docker", package / "compose" / "docker")
    shutil.copy(REPOSITORY / "docker-compose.yml", package / "compose")
    monkeypatch.setattr(packaged_files, "_PACKAGE", package)
    return package / "compose" / "docker-compose.yml"


def project(folder: Path) -> Path:
    """A folder below a project's root; the compose file to be in the latter."""
    (folder / "app" / "src").mkdir(parents=True)
    (folder / "app" / "pyproject.toml").touch()
    return folder / "app" / "docker-compose.yml"


def test_the_search_ends_at_the_root_of_the_project(tmp_path: Path) -> None:
    ours = project(tmp_path)
    (tmp_path / "docker-compose.yml").write_text(OURS)
    assert compose_file(tmp_path / "app" / "src") == REPOSITORY / "docker-compose.yml"
    ours.write_text(OURS)
    assert compose_file(tmp_path / "app" / "src") == ours


def test_the_search_ends_where_others_can_put_files(tmp_path: Path) -> None:
    inner = tmp_path / "open" / "mine"
    inner.mkdir(parents=True)
    (tmp_path / "open" / "docker-compose.yml").write_text(OURS)
    assert compose_file(inner) == tmp_path / "open" / "docker-compose.yml"
    for mode in (0o777, 0o1777):
        (tmp_path / "open").chmod(mode)
        (tmp_path / "docker-compose.yml").write_text(OURS)
        if mode == 0o777:
            assert compose_file(inner) == REPOSITORY / "docker-compose.yml"
    if os.geteuid() == 0:
        (tmp_path / "open").chmod(0o755)
        os.chown(tmp_path / "open", ANOTHER_USER, ANOTHER_USER)
        assert compose_file(inner) == REPOSITORY / "docker-compose.yml"


def test_a_file_that_others_can_write_is_refused_by_name(tmp_path: Path) -> None:
    ours = project(tmp_path)
    ours.write_text(OURS)
    ours.chmod(0o666)
    with pytest.raises(InvalidSetting, match="others can write to it") as caught:
        compose_file(ours.parent)
    assert str(ours) in str(caught.value)
    ours.chmod(0o644)
    ours.parent.chmod(0o777)
    with pytest.raises(InvalidSetting, match="others can put files into"):
        compose_file(ours.parent)
    ours.parent.chmod(0o755)
    assert compose_file(ours.parent) == ours
    if os.geteuid() == 0:
        os.chown(ours, ANOTHER_USER, ANOTHER_USER)
        with pytest.raises(InvalidSetting, match="belongs to the user"):
            compose_file(ours.parent)
        # Nor is a link a way around it.
        elsewhere = tmp_path / "elsewhere.yml"
        ours.rename(elsewhere)
        ours.symlink_to(elsewhere)
        with pytest.raises(InvalidSetting, match="belongs to the user"):
            compose_file(ours.parent)


def test_a_checkout_uses_its_own_files_and_an_installation_copies_of_its(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(triton_state_dir=str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    assert used_file(settings) == REPOSITORY / "docker-compose.yml"
    first = installed(tmp_path / "one", monkeypatch)
    # What Python writes beside modules differs between its versions.
    (first.parent / "docker" / "localstack" / "triton_persistence" / "__pycache__").mkdir(exist_ok=True)
    (first.parent / "docker" / "localstack" / "triton_persistence" / "__pycache__" / "x.pyc").write_text("one")
    copy = used_file(settings)
    assert copy.parent == kept_folder(settings)
    before = {path: path.read_bytes() for path in copy.parent.rglob("*") if path.is_file()}
    # All of it is there, and all that is mounted; nothing leads to the environment any more.
    text = copy.read_text("utf-8")
    mounted = [line.split("- ./")[1].split(":")[0] for line in text.splitlines() if "- ./" in line]
    assert len(mounted) >= 6
    for path in mounted:
        assert (copy.parent / path).exists()
    assert str(tmp_path / "one") not in text
    shutil.rmtree(tmp_path / "one")
    # A second environment with the same version comes to the same files.
    installed(tmp_path / "two", monkeypatch)
    assert used_file(settings) == copy
    assert {path: path.read_bytes() for path in copy.parent.rglob("*") if path.is_file()} == before
    assert is_same_stack(copy, copy)
    assert is_same_stack(first, copy)
    assert not is_same_stack(REPOSITORY / "docker-compose.yml", copy)
    assert not is_same_stack(copy, REPOSITORY / "docker-compose.yml")


def test_copies_are_private_whole_and_put_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(triton_state_dir=str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    installed(tmp_path / "one", monkeypatch)
    previous = os.umask(0)
    try:
        copy = used_file(settings)
    finally:
        os.umask(previous)
    assert copy.parent.stat().st_mode & 0o777 == 0o700
    # Servers run as other users, and read them through a mount.
    assert {path.stat().st_mode & 0o777 for path in copy.parent.rglob("*") if path.is_dir()} == {0o755}
    assert {path.stat().st_mode & 0o777 for path in copy.parent.rglob("*") if path.is_file()} == {0o644, 0o755}
    start = next(copy.parent.glob("redis-*/start.sh"))
    content = start.read_bytes()
    start.write_bytes(content[:20])
    used_file(settings)
    assert start.read_bytes() == content


def test_another_version_shares_what_has_not_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(triton_state_dir=str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    installed(tmp_path / "one", monkeypatch)
    first = used_file(settings)
    second_source = installed(tmp_path / "two", monkeypatch)
    (second_source.parent / "docker" / "redis" / "redis.conf").write_text("appendonly yes\n")
    second = used_file(settings)
    assert second != first
    assert is_same_stack(first, second)
    changed = set(second.read_text("utf-8").splitlines()) - set(first.read_text("utf-8").splitlines())
    assert changed
    assert all("redis-" in line for line in changed)


def test_only_copies_that_nothing_has_used_for_long_may_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(triton_state_dir=str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    assert unused(settings, ()) == ()
    installed(tmp_path / "one", monkeypatch)
    copy = used_file(settings)
    assert unused(settings, ()) == ()
    for path in copy.parent.iterdir():
        os.utime(path, (0, 0))
    redis = next(copy.parent.glob("redis-*"))
    mounted = (str(redis / "redis.conf"), str(copy))
    assert set(unused(settings, mounted)) == set(copy.parent.iterdir()) - {redis, copy}
