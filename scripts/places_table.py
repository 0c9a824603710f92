"""Write the table of where services can run into docs/how-to/choose-where-it-runs.md, from tests/places.py.

python scripts/places_table.py [--check]

With --check nothing is written, and the status is 1 where something would be.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests")]

from marked_table import MarkedTable  # noqa: E402

from places import LINES, PLACES  # noqa: E402

TABLE = MarkedTable(
    ROOT / "docs" / "how-to" / "choose-where-it-runs.md",
    Path(__file__).name,
    [
        ["", *(place.title for place in PLACES)],
        *([subject, *(value(place) or "no" for place in PLACES)] for subject, value in LINES.items()),
    ],
)

if __name__ == "__main__":
    sys.exit(TABLE.write())
