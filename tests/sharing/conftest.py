from collections.abc import Iterator
from pathlib import Path

import pytest

from sharing.users import Sharing, sharing


@pytest.fixture
def shared(tmp_path: Path, embedded_packages: None) -> Iterator[Sharing]:
    """Shared environments of this test, embedded, which end at once when they are unused. Nothing is left of them."""
    with sharing(tmp_path / "state") as shared:
        yield shared
