"""Leases: known for certain who uses shared services, however a holder ends."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import forkserver
from triton_env import Settings
from triton_env.errors import InvalidSetting, TritonError
from triton_env.state import locks
from triton_env.state.leases import Leases

HOLDER = """
import sys
from triton_env import Settings
from triton_env.state.leases import Leases
leases = Leases(Settings(triton_state_dir=sys.argv[1]), "project")
leases.take()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(triton_state_dir=str(tmp_path))


@pytest.fixture
def holder(settings: Settings) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-c", HOLDER, settings.triton_state_dir]
    with forkserver.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdin
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_my_own_lease_is_not_one_of_others(settings: Settings) -> None:
    leases = Leases(settings, "project")
    leases.take()
    leases.take()
    assert not leases.others()
    leases.release()
    leases.release()
    assert not leases.others()


def test_two_holders_in_one_process_see_each_other(settings: Settings) -> None:
    one, two = Leases(settings, "project"), Leases(settings, "project")
    one.take()
    assert two.others()
    one.release()
    assert not two.others()


def test_another_project_is_none_of_my_business(settings: Settings) -> None:
    one = Leases(settings, "project")
    one.take()
    assert not Leases(settings, "project2").others()
    assert not Leases(settings, "proj").others()
    one.release()


def test_a_lease_ends_with_its_process_even_by_sigkill(settings: Settings, holder: "subprocess.Popen[str]") -> None:
    leases = Leases(settings, "project")
    assert leases.others()
    holder.send_signal(signal.SIGKILL)
    holder.wait(60)
    assert not leases.others()
    assert not list(Path(settings.triton_state_dir).rglob("*.lease"))


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to("/absent")], ids=["folder", "link"])
def test_what_is_in_the_place_of_a_lock_is_named(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "turn"
    make(path)
    assert not locks.is_held(path)
    assert locks.abandoned(path) is None
    with pytest.raises(InvalidSetting, match="something else has its name") as caught:
        locks.hold(path)
    assert f"mv {path}" in str(caught.value)


def test_one_thread_after_the_other_has_its_turn(settings: Settings) -> None:
    leases = Leases(settings, "project")
    with leases.turn():
        with pytest.raises(TritonError, match=r"of the project project for 0 s") as caught, leases.turn(timeout=0):
            pass
        assert caught.value.where == str(Path(settings.triton_state_dir) / "leases" / "project.turn")
    with leases.turn(timeout=0):
        pass
