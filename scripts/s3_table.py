"""Write the table of what S3 servers answer in different ways into docs/reference/runtimes.md.

python scripts/s3_table.py [--check]

The answers are those of tests/s3_differences.py, which a test gets from the servers. With --check nothing is written,
and the status is 1 where something would be.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests")]

from marked_table import MarkedTable  # noqa: E402

from s3_differences import DIFFERENCES, SERVERS  # noqa: E402

TABLE = MarkedTable(
    ROOT / "docs" / "reference" / "runtimes.md",
    Path(__file__).name,
    [
        ["", "S3", *SERVERS.values()],
        *([each.subject, each.aws, *(getattr(each, name) for name in SERVERS)] for each in DIFFERENCES),
    ],
)

if __name__ == "__main__":
    sys.exit(TABLE.write())
