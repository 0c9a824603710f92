from collections.abc import Iterator

import pytest

from unit.fakes import FakeRuntimes, installed


@pytest.fixture
def runtimes() -> Iterator[FakeRuntimes]:
    """Environments run on fake runtimes in this test."""
    with installed() as runtimes:
        yield runtimes
