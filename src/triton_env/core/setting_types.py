"""What a setting may be: types, limits, and the error for a value that is neither.

Every command and every test process reads settings, most of them to do little else. So this is not a model of a library
that takes a tenth of a second to load.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import isfinite
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, get_args, get_origin

from triton_env.core.model import Storage


class SecretStr:
    """A text that is shown as stars. Its value is `get_secret_value()`."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def get_secret_value(self) -> str:
        """The text itself."""
        return self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretStr) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __len__(self) -> int:
        return len(self._value)

    def __str__(self) -> str:
        return "**********" if self._value else ""

    def __repr__(self) -> str:
        return f"SecretStr({str(self)!r})"


class _HasSecret(Protocol):
    """A `SecretStr`, of pydantic too."""

    def get_secret_value(self) -> str: ...


if TYPE_CHECKING:
    # Fields that hold one type and take texts as well: a constructor takes what `__set__` does.

    class Secret:
        """The type of a field that holds a secret."""

        def __init__(self, value: str) -> None: ...
        def __get__(self, settings: object, kind: type) -> SecretStr: ...
        def __set__(self, settings: object, value: str | _HasSecret) -> None: ...

    class StorageName:
        """The type of a field that holds a kind of storage."""

        def __init__(self, value: str) -> None: ...
        def __get__(self, settings: object, kind: type) -> Storage: ...
        def __set__(self, settings: object, value: str) -> None: ...

else:
    Secret, StorageName = SecretStr, Storage


@dataclass(frozen=True, slots=True)
class Number:
    """The limits of a number: `gt` is greater than, `ge` greater than or equal to, `le` less than or equal to."""

    gt: float | None = None
    ge: float | None = None
    le: float | None = None

    def __call__(self, value: float) -> float:
        """Raise `ValueError` if a number is beyond the limits; else return it."""
        if isinstance(value, float) and not isfinite(value):
            raise ValueError("it must be a finite number")
        if self.gt is not None and not value > self.gt:
            raise ValueError(f"it must be greater than {self.gt}")
        if self.ge is not None and not value >= self.ge:
            raise ValueError(f"it must be {self.ge} or more")
        if self.le is not None and not value <= self.le:
            raise ValueError(f"it must be {self.le} or less")
        return value


@dataclass(frozen=True, slots=True)
class Text:
    """The limits of a text: the least and the most characters, and a pattern for all of it, with what it allows."""

    least: int = 0
    most: int | None = None
    pattern: str = ""
    allowed: str = ""

    def __call__(self, value: str) -> str:
        """Raise `ValueError` if a text is beyond the limits; else return it."""
        if len(value) < self.least:
            raise ValueError(f"it must have at least {_characters(self.least)}")
        if self.most is not None and len(value) > self.most:
            raise ValueError(f"it must have at most {_characters(self.most)}")
        if self.pattern and not re.fullmatch(self.pattern, value):
            raise ValueError(f"it may only hold {self.allowed}")
        return value


PortNumber = Annotated[int, Number(ge=1, le=65535)]
Seconds = Annotated[float, Number(gt=0)]
Name = Annotated[str, Text(1)]
Identifier = Annotated[
    str,
    Text(most=63, pattern=r"[A-Za-z_][A-Za-z0-9_]*", allowed="letters, digits and _, without a digit at the beginning"),
]
"""A name that databases take unquoted: an image may paste it unquoted into SQL and XML."""


def converted(value: object, kind: Any) -> object:
    """A value, or the text of a variable, as one of a type.

    Raises:
        ValueError: it is none, with words that say what is allowed.
    """
    if get_origin(kind) is Literal:
        return _choice(value, dict(zip(get_args(kind), get_args(kind), strict=True)))
    if issubclass(kind, StrEnum):
        return _choice(value, {str(member): member for member in kind})
    return _CONVERSIONS[kind](value)


def plain_text(value: object) -> str:
    """A value as a variable has it, a secret's too."""
    return str(value.get_secret_value() if isinstance(value, SecretStr) else value)


def problem_of_text(text: str) -> str:
    """Why a text cannot be a setting; empty where it can.

    Servers get settings in lines: of configuration, of a password file, of HTTP headers.
    """
    if text.isascii() and text.isprintable():
        return ""
    categories = {unicodedata.category(character) for character in text}
    if "Cc" in categories or not categories.isdisjoint(("Zl", "Zp")):
        return "it may not hold line breaks and other control characters"
    return "it has to be text in UTF-8" if "Cs" in categories else ""


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("it must be text")
    return value


def _secret(value: object) -> SecretStr:
    # Of pydantic, too.
    return SecretStr(_text(value.get_secret_value() if hasattr(value, "get_secret_value") else value))


def _whole_number(value: object) -> int:
    if isinstance(value, str):
        try:
            return int(re.sub(r"\.0+\s*$", "", _ascii(value)))
        except ValueError:
            raise ValueError("it must be a whole number") from None
    if not isinstance(value, int | float):
        raise ValueError("it must be a whole number")
    if isinstance(value, float) and not value.is_integer():
        raise ValueError("it must be a whole number")
    return int(value)


def _number(value: object) -> float:
    if isinstance(value, str):
        try:
            return float(_ascii(value))
        except ValueError:
            raise ValueError("it must be a number") from None
    if not isinstance(value, int | float):
        raise ValueError("it must be a number")
    try:
        return float(value)
    except OverflowError:
        raise ValueError("it must be a number") from None


def _ascii(number: str) -> str:
    """A number as servers, shells and Compose read it too; Python takes the digits of all scripts."""
    if not number.strip().isascii():
        raise ValueError("not ASCII")
    return number


def _truth(value: object) -> bool:
    if not isinstance(value, bool | int | float | str):
        raise ValueError("it must be true or false")
    known = value.lower() if isinstance(value, str) else value
    if known in (1, "1", "true", "t", "yes", "y", "on"):
        return True
    if known in (0, "0", "false", "f", "no", "n", "off"):
        return False
    raise ValueError("it must be true or false")


def _choice(value: object, choices: Mapping[str, object]) -> object:
    if isinstance(value, str) and value in choices:
        return choices[value]
    *others, last = (repr(choice) for choice in choices)
    raise ValueError(f"it must be {', '.join(others)} or {last}{_guess(value, choices)}")


def _guess(value: object, choices: Mapping[str, object]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(str(value).lower(), choices, 1)
    return f" (did you mean {close[0]!r}?)" if close else ""


_CONVERSIONS: Mapping[type, Callable[[object], object]] = {
    str: _text,
    int: _whole_number,
    float: _number,
    bool: _truth,
    SecretStr: _secret,
}


def _characters(count: int) -> str:
    return "1 character" if count == 1 else f"{count} characters"
