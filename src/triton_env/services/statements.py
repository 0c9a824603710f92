"""A statement in a text of SQL, as the splitters of the services find them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Parameter:
    """A `:name` in a statement: the text from `start` up to `end`."""

    name: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement.

    Attributes:
        text: from its first to its last word, without the semicolon.
        start: where it begins in the whole text.
        verb: its first word in upper case; empty where it begins with none.
        parameters: each `:name` in it, by its place in `text`. A service whose parameters have another form has none.
    """

    text: str
    start: int
    verb: str
    parameters: tuple[Parameter, ...] = ()
