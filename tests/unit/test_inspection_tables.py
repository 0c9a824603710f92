"""The reference of inspections is written from their data."""

import runpy
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "inspection_tables.py"


def test_the_reference_has_the_fields_of_the_data() -> None:
    written = runpy.run_path(str(SCRIPT))
    text = written["REFERENCE"].read_text("utf-8")
    assert written["rewritten"](text).rstrip() == text.rstrip(), "just inspection-tables"
    damaged = text.replace("| `cpu_percent` |", "| `cpu` |")
    assert written["rewritten"](damaged).rstrip() == text.rstrip() != damaged.rstrip()
