"""Text from files and servers, made safe to be written to a terminal. The one place that decides what is escaped."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from triton_env.errors import TritonError

_UNSAFE = re.compile(
    "["
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # controls, which move the cursor, rename the window or write to the clipboard
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # directions of writing, which show one text as another
    "\u2028\u2029\ufeff"  # line breaks that look like none, and nothing that looks like nothing
    "\ud800-\udfff"  # halves of characters, which cannot be encoded
    "]"
)

_COLOUR = re.compile(r"(\x1b\[[0-9;]*m)")


def printable(text: str) -> str:
    """`text` with characters that a terminal obeys, or that hide others, as escapes. Line feeds and tabs stay."""
    return _UNSAFE.sub(lambda found: _escape(found[0]), text)


def coloured(text: str) -> str:
    """As `printable`, with colours kept: for lines of a server's log."""
    return "".join(part if _COLOUR.fullmatch(part) else printable(part) for part in _COLOUR.split(text))


def in_one_line(error: "TritonError") -> str:
    """What went wrong, and the last cause."""
    return " ".join(f"{error.what} {error.cause}".split())


def one_line(text: str) -> str:
    """As `printable`, with line feeds and tabs escaped too: for names within a sentence."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def listed(names: Sequence[str], most: int = 6) -> str:
    """The first of these names within a sentence, and how many more there are: "a, b and 3 more"."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
