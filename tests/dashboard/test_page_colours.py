"""The contrast of the dashboard's colours, in both themes, by the formula of WCAG 2."""

import re
from collections.abc import Mapping
from itertools import product
from pathlib import Path

import pytest

import triton_env

_TOKENS = Path(triton_env.__file__).parent / "dashboard" / "static" / "tokens.css"
_LEAST = 4.5
"""Of text, for AA."""
_LEAST_OF_EDGES = 3.0
"""Of what shows where a field or a button is."""

SURFACES = ("page", "surface", "sunken")
TEXTS = ("text", "text-soft", "text-faded", "good", "warn", "bad", *(f"colour-{number}" for number in range(1, 7)))
ON_THEIR_OWN = [
    ("accent", "page"),
    ("accent", "surface"),
    ("accent-text", "accent"),
    ("danger-text", "danger"),
    ("text", "accent-wash"),
    ("text", "bad-wash"),
    ("text-soft", "bad-wash"),
    ("text-faded", "bad-wash"),
    ("bad", "bad-wash"),
    ("mark-text", "mark"),
    # Of an entry at the side that is the current one.
    ("text-faded", "accent-wash"),
]


def themes() -> Mapping[str, Mapping[str, str]]:
    """The colours by theme."""
    found = re.findall(r"--([\w-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\);", _TOKENS.read_text())
    return {
        "light": {name: light for name, light, _ in found},
        "dark": {name: dark for name, _, dark in found},
    }


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_black_on_white_has_the_most() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_can_be_read(theme: str) -> None:
    colours = themes()[theme]
    found = {
        f"{text} on {surface}": round(contrast(colours[text], colours[surface]), 2)
        for text, surface in [*product(TEXTS, SURFACES), *ON_THEIR_OWN]
    }
    assert {pair: ratio for pair, ratio in found.items() if ratio < _LEAST} == {}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_fields_and_lines_can_be_seen(theme: str) -> None:
    colours = themes()[theme]
    found = {
        f"{edge} on {surface}": round(contrast(colours[edge], colours[surface]), 2)
        for edge, surface in product(("edge-strong", "line", "accent"), ("page", "surface"))
    }
    assert {pair: ratio for pair, ratio in found.items() if ratio < _LEAST_OF_EDGES} == {}
