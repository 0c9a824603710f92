"""Locks of files, which several processes take and look at."""

import fcntl
import threading
from pathlib import Path

import pytest

from patience import WAIT
from triton_env.state import locks


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lock"


def test_a_look_is_not_in_the_way_of_who_takes_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_MOMENT", WAIT)
    # What `is_held` does, held for longer.
    with path.open("w") as looker:
        fcntl.flock(looker, fcntl.LOCK_SH)
        end = threading.Timer(0.1, fcntl.flock, (looker, fcntl.LOCK_UN))
        end.start()
        locks.hold(path, timeout=0).release()
        end.join()


@pytest.mark.parametrize("is_shared", [True, False])
def test_one_that_is_taken_is_refused(path: Path, is_shared: bool) -> None:
    held = locks.hold(path, together=is_shared)
    with pytest.raises(BlockingIOError):
        locks.hold(path, timeout=0)
    held.release()
    locks.hold(path, timeout=0).release()
