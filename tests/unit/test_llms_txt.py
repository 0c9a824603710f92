"""docs/llms.txt, which agents read, has every document that people find, with its first sentence."""

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_it_is_what_the_documents_say() -> None:
    written = runpy.run_path(str(ROOT / "scripts" / "llms_txt.py"))["written"]()
    assert (ROOT / "docs" / "llms.txt").read_text("utf-8") == written, "just llms-txt"
    listed = (ROOT / "docs" / "README.md").read_text("utf-8").count("](")
    # Those in the list, each with a sentence.
    assert sum(line.startswith("- [") and line.endswith(".") for line in written.splitlines()) == listed
