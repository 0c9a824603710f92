"""Patience, since a slow machine may be late: with what has to come true, and with services that are asked but once."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from triton_env.services import SERVICES

WAIT = 90.0
"""Seconds within which something has to come true that takes a few on a machine that has time."""
SECONDS = 30
"""Seconds for one answer."""

TO_BOOT = {f"triton_{name}_timeout": 900.0 for name in SERVICES}
"""Settings for what many tests share: a machine that has no time takes minutes to make a data directory."""
TO_BOOT_IN_COMMANDS = {name.upper(): str(value) for name, value in TO_BOOT.items()}
"""The same as variables."""


def until(condition: Callable[[], object], seconds: float = WAIT) -> bool:
    """Wait until `condition` holds; whether it comes to that within so many seconds."""
    deadline = time.monotonic() + seconds
    while not (holds := condition()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return bool(holds)


@contextmanager
def patient_probes() -> Iterator[None]:
    """One try of a probe gets this long, instead of two seconds, which are meant for one of many tries."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("triton_env.services.base.CONNECT_TIMEOUT", SECONDS)
        yield
