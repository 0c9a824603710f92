"""What an archive says of itself: its format, when and where it was made, and what is in it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Self

from pydantic import Field, TypeAdapter, ValidationError

from triton_env.core.printable import one_line

FORMAT = 1
"""Raised with every change that an older version could not read."""

SHOWN = 80
"""Characters of a name from a file that are shown."""

_Path = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$", max_length=200)]
_Word = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$", max_length=40)]
_Short = Annotated[str, Field(max_length=200)]


@dataclass(frozen=True, slots=True)
class Member:
    """One file in the archive.

    Attributes:
        name: its path in the archive.
        service: the service that it belongs to.
        kind: what it holds ("index", "database", "table", "keys", "bucket").
        size: bytes, uncompressed.
        sha256: of these bytes, in hexadecimal.
    """

    name: _Path
    service: _Word
    kind: _Word
    size: Annotated[int, Field(ge=0, lt=1 << 63)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True, slots=True)
class SavedService:
    """What was saved of one service.

    Attributes:
        version: the server's version, for people.
        contents: the names of its databases or buckets.
        notes: what is not in the backup, or not as it was, one sentence each.
    """

    version: _Short
    contents: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an archive holds. No passwords, but names.

    Attributes:
        tool: the version of triton-env that made it.
        created: when, in UTC, as ISO 8601.
        runtime: where the services ran ("docker").
        services: what was saved, by the service's name.
        members: the files in the archive.
        format: the format of the archive.
    """

    tool: _Short
    created: _Short
    runtime: _Short
    services: Mapping[_Word, SavedService]
    members: tuple[Member, ...] = field(repr=False)
    format: Annotated[int, Field(ge=0, lt=1 << 20)] = FORMAT

    def as_data(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Read what `as_data` gave, as JSON.

        Raises:
            pydantic.ValidationError: it is something else.
        """
        return TypeAdapter(cls).validate_json(data)

    @property
    def size(self) -> int:
        """Bytes of all members together, uncompressed."""
        return sum(member.size for member in self.members)


def first_problem(error: ValidationError) -> str:
    """What the first problem with a form is, and where, on one line."""
    problem = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part)[:SHOWN] for part in problem["loc"])
    return one_line(f"{place}: {problem['msg']}" if place else problem["msg"])
