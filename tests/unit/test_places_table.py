"""The table of where services can run is written from one description, which is true of the code."""

import re
import runpy
from pathlib import Path

import pytest

from places import LINES, OVER_SSH, PLACES, Place
from triton_env import Settings
from triton_env.core.forms import RUNTIME_NAMES
from triton_env.modes.persistent import can_have_persistent_services

SCRIPT = Path(__file__).parents[2] / "scripts" / "places_table.py"


def test_the_document_has_the_table() -> None:
    table = runpy.run_path(str(SCRIPT))["TABLE"]
    text = table.document.read_text("utf-8")
    assert table.rewritten(text) == text, "just places-table"
    damaged = re.sub(r"^.*`internal_url`.*\n", "", text, flags=re.MULTILINE)
    assert table.rewritten(damaged) == text != damaged
    assert all(f"\n| {subject} |" in text for subject in LINES)


def test_every_runtime_is_there() -> None:
    assert {place.runtime for place in PLACES} == {*RUNTIME_NAMES} - {"auto"}


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.title)
def test_persistent_services_are_where_the_code_has_them(place: Place) -> None:
    # `tests/contract/test_ssh_engine.py` has the one that is refused by its address.
    can = can_have_persistent_services(Settings(triton_runtime=place.runtime)) and place is not OVER_SSH
    assert bool(place.persistent) == can
