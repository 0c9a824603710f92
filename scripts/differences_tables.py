"""Write the tables of what differs between the images and the embedded servers into docs/reference/runtimes.md.

python scripts/differences_tables.py [--check]

The answers are those of tests/server_differences.py, which a test gets from the servers. With --check nothing is
written, and the status is 1 where something would be.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests")]

from marked_table import MarkedTable  # noqa: E402

from server_differences import DIFFERENCES  # noqa: E402

TABLES = [
    MarkedTable(
        ROOT / "docs" / "reference" / "runtimes.md",
        f"{Path(__file__).name} {service}",
        [["", "`docker`", "`embedded`"], *([each.subject, each.docker, each.embedded] for each in differences)],
    )
    for service, differences in DIFFERENCES.items()
]

if __name__ == "__main__":
    sys.exit(max([table.write() for table in TABLES]))
