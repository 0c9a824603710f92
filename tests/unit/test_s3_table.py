"""The table of what S3 servers answer is written from what a test expects of them."""

import re
import runpy
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "s3_table.py"


def test_the_reference_has_the_answers_of_the_servers() -> None:
    table = runpy.run_path(str(SCRIPT))["TABLE"]
    text = table.document.read_text("utf-8")
    assert table.rewritten(text) == text, "just s3-table"
    damaged = re.sub(r"^.*NextMarker.*\n", "", text, flags=re.MULTILINE)
    assert table.rewritten(damaged) == text != damaged
