"""The tables of what differs from the images are written from what a test expects of the servers."""

import re
import runpy
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "differences_tables.py"


def test_the_reference_has_the_answers_of_the_servers() -> None:
    for table in runpy.run_path(str(SCRIPT))["TABLES"]:
        text = table.document.read_text("utf-8")
        assert table.rewritten(text) == text, "just differences-tables"
        subject = table.rows[1][0]
        damaged = re.sub(rf"^\| {re.escape(subject)} \|.*\n", "", text, flags=re.MULTILINE)
        assert table.rewritten(damaged) == text != damaged
