"""Write the table of packages into docs/architecture.md, from the first lines of their docstrings.

python scripts/packages_table.py [--check]

With --check nothing is written, and the status is 1 where something would be.
"""

import ast
import sys
from pathlib import Path

from marked_table import MarkedTable

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "triton_env"


def first_line(module: Path) -> str:
    """What its docstring begins with."""
    docstring = ast.get_docstring(ast.parse(module.read_text("utf-8"))) or ""
    return docstring.partition("\n")[0].replace("|", "\\|")


def places() -> dict[str, Path]:
    """The packages and the modules beside them, as people read them, with the files that have their docstrings."""
    packages = {f"{each.parent.relative_to(SOURCE)}/": each for each in SOURCE.glob("*/**/__init__.py")}
    modules = {each.name: each for each in SOURCE.glob("*.py") if each.stem not in ("__init__", "__main__", "_version")}
    return dict(sorted({**packages, **modules}.items()))


TABLE = MarkedTable(
    ROOT / "docs" / "architecture.md",
    Path(__file__).name,
    [["Place", "What it is"], *([f"`{name}`", first_line(path)] for name, path in places().items())],
)

if __name__ == "__main__":
    sys.exit(TABLE.write())
