"""Collects what the documents claim: their code blocks, links, anchors, tables and words in code."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
DOCUMENTS = (
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of code.

    Attributes:
        document: the file that it is in.
        line: the number of its first line of code, counted from 1.
        language: the first word after the fence ("python").
        words: the other words after the fence ("run", "output").
        file: the name in `file=NAME` after the fence, or empty.
        text: the code.
        no_run: why it is not run, from a comment `<!-- no-run: REASON -->` before it; empty for all others.
    """

    document: Path
    line: int
    language: str
    words: frozenset[str]
    file: str
    text: str
    no_run: str

    @property
    def place(self) -> str:
        """Where it is, for messages."""
        return f"{title(self.document)}:{self.line}"

    @property
    def commands(self) -> tuple[str, ...]:
        """The commands of a console block: what follows `$ `, with continued lines joined."""
        return tuple(command for command, _ in self.exchanges)

    @property
    def exchanges(self) -> tuple[tuple[str, str], ...]:
        """The commands of a console block, each with the output that is shown for it."""
        found: list[tuple[str, str]] = []
        lines = iter(self.text.splitlines())
        for line in lines:
            if line.startswith("$ "):
                command = line.removeprefix("$ ")
                while command.endswith("\\"):
                    command = f"{command[:-1]}{next(lines).strip()}"
                found.append((command, ""))
            else:
                command, output = found.pop()
                found.append((command, f"{output}{line}\n"))
        return tuple(found)


def title(document: Path) -> str:
    """The document's name for people."""
    return str(document.relative_to(ROOT))


@cache
def tokens(document: Path) -> tuple[Token, ...]:
    return tuple(MarkdownIt("commonmark").enable("table").parse(document.read_text("utf-8")))


def inline(document: Path) -> Iterator[Token]:
    """The tokens within paragraphs, headings and cells: text, code, links."""
    for token in tokens(document):
        yield from token.children or ()


@cache
def blocks(document: Path) -> tuple[Block, ...]:
    found = []
    before: Token | None = None
    for token in tokens(document):
        if token.type == "fence":
            assert token.map is not None
            language, *words = token.info.split() or [""]
            files = [word.removeprefix("file=") for word in words if word.startswith("file=")]
            found.append(
                Block(
                    document,
                    token.map[0] + 2,
                    language,
                    frozenset(word for word in words if "=" not in word),
                    files[0] if files else "",
                    token.content,
                    _reason(before),
                )
            )
        before = token
    return tuple(found)


def _reason(token: Token | None) -> str:
    if token is None or token.type != "html_block":
        return ""
    comment = token.content.strip().removeprefix("<!--").removesuffix("-->").strip()
    return comment.removeprefix("no-run:").strip() if comment.startswith("no-run:") else ""


def links(document: Path) -> tuple[str, ...]:
    return tuple(
        str(token.attrs["href" if token.type == "link_open" else "src"])
        for token in inline(document)
        if token.type in ("link_open", "image")
    )


@cache
def anchors(document: Path) -> frozenset[str]:
    """The anchors that GitHub gives to the headings."""
    found: dict[str, int] = {}
    previous: Token | None = None
    for token in tokens(document):
        if previous is not None and previous.type == "heading_open":
            text = "".join(child.content for child in token.children or ())
            kept = "".join(letter for letter in text.lower() if letter.isalnum() or letter in "-_ ")
            slug = kept.replace(" ", "-")
            found[slug] = found.get(slug, 0) + 1
        previous = token
    return frozenset(
        slug if number == 0 else f"{slug}-{number}" for slug, count in found.items() for number in range(count)
    )


@cache
def tables(document: Path) -> tuple[tuple[tuple[str, ...], ...], ...]:
    """The tables, each a tuple of rows without the head, each a tuple of cells in Markdown."""
    found: list[list[list[str]]] = []
    in_body = False
    for token in tokens(document):
        if token.type == "table_open":
            found.append([])
        elif token.type in ("tbody_open", "tbody_close"):
            in_body = token.type == "tbody_open"
        elif token.type == "tr_open" and in_body:
            found[-1].append([])
        elif token.type == "inline" and in_body:
            found[-1][-1].append(token.content)
    return tuple(tuple(tuple(row) for row in table) for table in found)


def code(document: Path) -> Iterator[str]:
    """All text that is code: fenced blocks and code within sentences."""
    yield from (block.text for block in blocks(document))
    yield from (token.content for token in inline(document) if token.type == "code_inline")
