"""A table in a document, between two marks that name the script that writes it."""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class MarkedTable:
    """
    Attributes:
        document: the file that has it.
        script: the name of what writes it, in this folder.
        rows: its cells in Markdown, the headline first.
    """

    document: Path
    script: str
    rows: Sequence[Sequence[str]]

    @property
    def text(self) -> str:
        """The table in Markdown."""
        headline, *rows = (f"| {' | '.join(row)} |".replace("|  |", "| |") for row in self.rows)
        return "\n".join([headline, "|---" * len(self.rows[0]) + "|", *rows, ""])

    def rewritten(self, old: str) -> str:
        """The document with the table as it has to be."""
        begin, end = (f"<!-- scripts/{self.script}: table {word} -->\n" for word in ("begins", "ends"))
        return re.sub(f"(?<={re.escape(begin)}).*?(?={re.escape(end)})", lambda _: self.text, old, flags=re.DOTALL)

    def write(self) -> int:
        """Write it, or with --check look whether it is as it has to be; returns the exit status."""
        old = self.document.read_text("utf-8")
        new = self.rewritten(old)
        if new == old:
            return 0
        if "--check" in sys.argv[1:]:
            print(f"{self.document} has another table: python scripts/{self.script}", file=sys.stderr)
            return 1
        self.document.write_text(new, "utf-8")
        return 0
