"""Sentences for terminals: folded between words, with commands and paths left whole, so that they can be copied."""

import re

_COMMAND = re.compile(
    r"(?<![\w./-])(?:python -m|pip install|docker|export|unset|eval|ls|sed|chown|chmod|iconv|ALTER|RENAME) [^,;]*"
)
"""A command in a sentence: as far as the next comma or semicolon."""
_GLUE = "\N{NO-BREAK SPACE}"


def fold(text: str, width: int) -> list[str]:
    """The lines of `text`, each with as many words as `width` has room for.

    Nothing that is to be copied is broken: a word or a command that is longer than `width` has a line of its own.
    """
    lines: list[str] = []
    for line in text.splitlines() or [""]:
        glued = _COMMAND.sub(lambda found: found[0].replace(" ", _GLUE), line.replace(_GLUE, " "))
        current = ""
        for word in glued.split(" "):
            if current and len(current) + 1 + len(word) > width:
                lines.append(current)
                current = word
            else:
                current = f"{current} {word}" if current else word
        lines.append(current)
    return [line.replace(_GLUE, " ") for line in lines]
