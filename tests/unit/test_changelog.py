"""News fragments: a release finds only those whose names say what kind of change they are."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_news_fragment_is_found_by_a_release() -> None:
    types = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["towncrier"]["type"]
    kinds = "|".join(each["directory"] for each in types)
    names = {path.name for path in (ROOT / "changelog.d").iterdir()} - {"README.md"}
    assert not [name for name in names if not re.fullmatch(rf"\+[a-z0-9-]+\.({kinds})\.md", name)]
