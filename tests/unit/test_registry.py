"""The list of running environments: who is on it, who may read it, and that the dead do not stay on it."""

import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import forkserver
from triton_env import Settings
from triton_env.errors import InvalidSetting, UsageError
from triton_env.settings.project_folders import project_root
from triton_env.state.registry import Registry, here, named
from unit.records import SECRET, record

TESTS = Path(__file__).parents[1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state" / "environments"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_published_record_is_there_as_long_as_the_block_lasts(folder: Path) -> None:
    registry = Registry(folder)
    with registry.published(record()):
        assert Registry(folder).running() == (record(),)
    assert Registry(folder).running() == ()
    assert list(folder.iterdir()) == []


def test_several_come_the_oldest_first(folder: Path) -> None:
    registry = Registry(folder)
    old, new = record("bbbb2222", started=1), record("aaaa1111", started=2)
    with registry.published(new), registry.published(old):
        assert registry.running() == (old, new)


def test_an_exception_takes_the_record_away(folder: Path) -> None:
    registry = Registry(folder)
    with pytest.raises(ZeroDivisionError), registry.published(record()):
        _ = 1 / 0
    assert registry.running() == ()


def test_nobody_else_can_read_it(folder: Path) -> None:
    before = os.umask(0)
    try:
        with Registry(folder).published(record()):
            assert mode(folder) == 0o700
            assert mode(folder / "aaaa1111.json") == 0o600
    finally:
        os.umask(before)


def test_a_folder_with_loose_permissions_is_tightened(folder: Path) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    Registry(folder)
    assert mode(folder) == 0o700


def test_secrets_are_not_in_its_repr() -> None:
    assert SECRET not in repr(record())
    assert SECRET not in record().title


@pytest.fixture
def killed_owner(folder: Path) -> None:
    """An owner that was killed while it published a record."""
    script = textwrap.dedent(f"""
        import sys, time
        from pathlib import Path
        sys.path.insert(0, {str(TESTS)!r})
        from triton_env.state.registry import Registry
        from unit.records import record
        with Registry(Path({str(folder)!r})).published(record("dead0000")):
            print("published", flush=True)
            time.sleep(600)
    """)
    owner = forkserver.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    with owner.stdout:
        assert owner.stdout.readline() == "published\n"
    # It lives: others see it.
    assert [each.id for each in Registry(folder).running()] == ["dead0000"]
    owner.send_signal(signal.SIGKILL)
    owner.wait()


@pytest.mark.usefixtures("killed_owner")
def test_the_record_of_a_killed_owner_is_ignored_and_removed(folder: Path) -> None:
    assert (folder / "dead0000.json").exists()
    registry = Registry(folder)
    with registry.published(record()):
        assert [each.id for each in registry.running()] == ["aaaa1111"]
    assert list(folder.iterdir()) == []


@pytest.mark.usefixtures("killed_owner")
def test_a_sweep_removes_the_records_of_killed_owners_alone(folder: Path) -> None:
    registry = Registry(folder)
    with registry.published(record()):
        registry.sweep()
        assert sorted(path.name for path in folder.iterdir()) == ["aaaa1111.json", "aaaa1111.lock"]


def test_another_record_takes_the_place_of_the_first(folder: Path) -> None:
    registry = Registry(folder)
    listing = registry.add(record(held_by="python", is_offered=False))
    listing.replace(record(held_by="serve"))
    assert [each.held_by for each in registry.running()] == ["serve"]
    listing.end()
    listing.end()
    assert list(folder.iterdir()) == []


@pytest.mark.usefixtures("killed_owner")
def test_readers_at_the_same_time_do_not_take_each_other_for_the_owner(folder: Path) -> None:
    script = f"""
from pathlib import Path
from triton_env.state.registry import Registry
print(len(Registry(Path({str(folder)!r})).running()))
"""
    readers = [forkserver.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert [reader.communicate()[0] for reader in readers] == ["0\n"] * 4


@pytest.mark.parametrize(
    "content",
    ["", "not json", "[]", "{}", '{"format": 1}', '{"format": 2, "id": "x"}', '{"format": 2, "services": null}'],
)
def test_records_that_cannot_be_read_are_passed_over(content: str, folder: Path) -> None:
    registry = Registry(folder)
    with registry.published(record("cccc3333")), registry.published(record()):
        (folder / "cccc3333.json").write_text(content)
        assert [each.id for each in registry.running()] == ["aaaa1111"]


def test_more_fields_than_are_known_are_a_record_that_cannot_be_read(folder: Path) -> None:
    registry = Registry(folder)
    with registry.published(record()):
        path = folder / "aaaa1111.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"color": "red"}))
        assert registry.running() == ()


def test_a_folder_that_is_a_symlink_is_refused(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    folder.parent.mkdir()
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InvalidSetting, match="cannot be kept"):
        Registry(folder)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder to another user")
@pytest.mark.parametrize("whose", ["folder", "parent"])
def test_a_folder_of_somebody_else_is_refused(whose: str, folder: Path) -> None:
    folder.mkdir(parents=True)
    os.chown(folder if whose == "folder" else folder.parent, 12345, 12345)
    with pytest.raises(InvalidSetting, match="cannot be kept") as caught:
        Registry(folder)
    assert "TRITON_STATE_DIR" in caught.value.hint


def test_a_file_in_the_place_of_the_folder_is_refused(folder: Path) -> None:
    folder.parent.parent.mkdir(exist_ok=True)
    folder.parent.write_text("")
    with pytest.raises(InvalidSetting):
        Registry(folder)


def test_the_settings_name_the_folder_and_keep_its_permissions(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with Registry.of(Settings(triton_state_dir=str(tmp_path))).published(record()):
        assert (tmp_path / "environments" / "aaaa1111.json").exists()
    assert mode(tmp_path) == 0o755


def test_without_a_setting_it_is_in_the_users_runtime_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with Registry.of(Settings()).published(record()):
        assert (tmp_path / "triton-env" / "environments" / "aaaa1111.json").exists()


@pytest.fixture
def projects(tmp_path: Path) -> dict[str, Path]:
    """Folders: two projects, a folder in one of them, one of no project, and one below that."""
    folders = {name: tmp_path / path for name, path in PATHS.items()}
    for folder in folders.values():
        folder.mkdir(parents=True)
    for name in ("one", "nested", "two"):
        (folders[name] / "pyproject.toml").touch()
    return folders


PATHS = {"one": "one", "sub": "one/a/b", "nested": "one/nested", "two": "two", "loose": "x/loose", "below": "x/loose/y"}


@pytest.mark.parametrize(
    ("started", "asked", "expected"),
    [
        (["one"], "one", [0]),
        (["one"], "sub", [0]),
        (["sub"], "one", [0]),
        (["one"], "nested", []),  # a project of its own
        (["nested"], "one", []),
        (["one"], "two", []),  # also where it is the only one that runs
        (["one", "two"], "two", [1]),
        (["one", "sub"], "sub", [0, 1]),
        (["loose"], "below", [0]),
        (["below"], "loose", []),
        (["loose", "below"], "below", [1]),  # the nearest
        (["loose"], "one", []),
    ],
)
def test_an_environment_runs_here_if_it_was_started_in_this_project(
    started: list[str], asked: str, expected: list[int], projects: dict[str, Path]
) -> None:
    records = tuple(record(f"{number}abc", str(project_root(projects[name]))) for number, name in enumerate(started))
    assert here(records, projects[asked]) == tuple(records[number] for number in expected)


def test_a_session_that_a_program_has_for_itself_does_not_run_here(projects: dict[str, Path]) -> None:
    own = record("0abc", str(projects["one"]), is_offered=False)
    served = record("1abc", str(projects["one"]))
    assert here((own, served), projects["one"]) == (served,)
    assert named((own, served), "0abc") == own


@pytest.mark.parametrize(("name", "expected"), [("1abc", 1), ("0", 0), ("two", 1), ("one", 0)])
def test_a_session_is_named_by_its_id_or_by_the_folder_of_its_project(name: str, expected: int) -> None:
    records = (record("0abc", "/projects/one"), record("1abc", "/projects/two"))
    assert named(records, name) == records[expected]


def test_sessions_that_could_all_be_meant_are_listed() -> None:
    records = (record("1abc"), record("2abc"), record("3abc", "/projects/two"))
    with pytest.raises(UsageError) as caught:
        named(records, "one")
    assert "1abc" in str(caught.value)
    assert "2abc" in str(caught.value)
    assert "3abc" not in str(caught.value)
    assert caught.value.hint.startswith("--session ID")


def test_the_beginning_of_an_id_that_is_also_a_project_is_not_guessed() -> None:
    records = (record("db12", "/projects/one"), record("1abc", "/projects/db"))
    with pytest.raises(UsageError, match="2 sessions are named 'db'"):
        named(records, "db")
    assert named(records, "db12") == records[0]


def test_a_whole_id_names_its_session_also_where_a_project_has_that_name() -> None:
    records = (record("db12", "/projects/one"), record("1abc", "/projects/db12"))
    assert named(records, "db12") == records[0]


def test_an_unknown_session_lists_what_runs() -> None:
    with pytest.raises(UsageError, match="1abc"):
        named((record("1abc"),), "zzz")


def test_where_nothing_runs_the_hint_starts_something() -> None:
    with pytest.raises(UsageError) as caught:
        named((), "zzz")
    assert "python -m triton_env serve" in caught.value.hint


def test_its_title_tells_its_age() -> None:
    assert "for 0 s" in record(started=time.time() + 5).title
    assert "min" in record(started=time.time() - 600).title
    assert " h)" in record(started=time.time() - 9000).title


@pytest.mark.parametrize("suffix", ["json", "lock"])
@pytest.mark.parametrize("kind", ["folder", "link"])
def test_what_is_not_a_file_is_no_record(folder: Path, suffix: str, kind: str) -> None:
    folder.mkdir(parents=True)
    (folder / "01234567.json").write_text("{}")
    (folder / "01234567.lock").write_text("")
    path = folder / f"01234567.{suffix}"
    path.unlink()
    if kind == "folder":
        (path / "content").mkdir(parents=True)
    else:
        path.symlink_to("/absent")
    registry = Registry(folder)
    assert registry.running() == ()
    assert registry.dead() in ((), (("01234567", None),))
