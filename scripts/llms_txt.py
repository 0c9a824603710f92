"""Write docs/llms.txt, which says to agents what there is to read, from the list in docs/README.md.

python scripts/llms_txt.py [--check]

A document is described by its first sentence. With --check nothing is written, and the status is 1 where something
would be.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
TARGET = DOCS / "llms.txt"
_ABOUT = """\
# triton-env

> Real PostgreSQL, ClickHouse, Redis and S3 for tests, notebooks and daily development in Python: started together in
> one line, on Docker or as processes of this machine, fresh for each run and gone afterwards.

- Install it with `pip install triton-env`; without Docker, `pip install 'triton-env[embedded]'`.
- In Python: `with TritonEnvironment() as env:`, then `env.postgres.connect()`, `env.redis.client()` and so on. In
  pytest, the fixtures of the same names. In a shell: `python -m triton_env serve`.
- An agent looks into what runs with `python -m triton_env mcp`: see how-to/agents.md.
- Each error says what failed, where and why, and ends with a command that helps.
"""
_OPTIONAL = "Explanation"
"""The part that a reader in a hurry leaves out."""
_CODE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_INNER_LINK = re.compile(r"\[([^]]+)\]\([^)]*\)")
_LINK = re.compile(r"^- \[(?P<title>.+)\]\((?P<path>[^)]+)\)$", re.MULTILINE)


def written() -> str:
    """What the file has to be."""
    _, *parts = re.split(r"^## (.*)\n", (DOCS / "README.md").read_text("utf-8"), flags=re.MULTILINE)
    lines = [_ABOUT]
    for headline, text in zip(parts[::2], parts[1::2], strict=True):
        lines += [f"## {'Optional' if headline == _OPTIONAL else headline}\n", *_documents(text), ""]
    return "\n".join(lines)


def _documents(text: str) -> Iterator[str]:
    for link in _LINK.finditer(text):
        yield f"- [{link['title']}]({link['path']}): {_first_sentence(DOCS / link['path'])}"


def _first_sentence(document: Path) -> str:
    """The first sentence below the headline of a document."""
    text = _CODE.sub("", document.read_text("utf-8"))
    for paragraph in text.split("\n\n"):
        words = _INNER_LINK.sub(r"\1", " ".join(paragraph.split()))
        sentence = re.split(r"(?<=[.:])\s(?=[A-Z`])", words)[0]
        if words[:1] not in ("", *"#<|>-!") and sentence.endswith("."):
            return sentence
    raise ValueError(f"{document} has no sentence below its headline")


if __name__ == "__main__":
    if "--check" in sys.argv[1:]:
        sys.exit(TARGET.read_text("utf-8") != written())
    TARGET.write_text(written(), "utf-8")
