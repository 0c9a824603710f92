"""Write the table of what S3 servers answer in different ways into docs/reference/runtimes.md.

python scripts/s3_table.py [--check]

The answers are those of tests/s3_differences.py, which a test gets from the servers. With --check nothing is written,
and the status is 1 where something would be.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from s3_differences import DIFFERENCES, SERVERS  # noqa: E402

REFERENCE = ROOT / "docs" / "reference" / "runtimes.md"
MARKS = ("<!-- scripts/s3_table.py: table begins -->\n", "<!-- scripts/s3_table.py: table ends -->\n")


def table() -> str:
    """The table in Markdown."""
    lines = [f"| | S3 | {' | '.join(SERVERS.values())} |", "|---" * (len(SERVERS) + 2) + "|"]
    for each in DIFFERENCES:
        answers = (each.aws, *(getattr(each, name) for name in SERVERS))
        lines.append(f"| {each.subject} | {' | '.join(answers)} |")
    return "\n".join(lines) + "\n"


def rewritten(old: str) -> str:
    """The document with the table as it has to be."""
    begin, end = MARKS
    return re.sub(f"(?<={re.escape(begin)}).*?(?={re.escape(end)})", lambda _: table(), old, flags=re.DOTALL)


def main() -> int:
    """Write it, or check it; returns the exit status."""
    old = REFERENCE.read_text("utf-8")
    new = rewritten(old)
    if new == old:
        return 0
    if "--check" in sys.argv[1:]:
        print(f"{REFERENCE} differs from the answers of the servers: python scripts/s3_table.py", file=sys.stderr)
        return 1
    REFERENCE.write_text(new, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
