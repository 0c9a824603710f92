"""Patience with services that are there, where a test asks them but once: a slow machine may be late with an answer."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from triton_env.services import SERVICES

SECONDS = 30


@contextmanager
def patient_probes() -> Iterator[None]:
    """One try of a probe gets this long, instead of two seconds, which are meant for one of many tries."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        for service in SERVICES.values():
            monkeypatch.setattr(sys.modules[service.__module__], "CONNECT_TIMEOUT", SECONDS)
        yield
