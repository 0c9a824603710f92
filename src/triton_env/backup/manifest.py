"""What an archive says of itself: its format, when and where it was made, and what is in it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

FORMAT = 1
"""Raised with every change that an older version could not read."""


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

    name: str
    service: str
    kind: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class SavedService:
    """What was saved of one service.

    Attributes:
        version: the server's version, for people.
        contents: the names of its databases or buckets.
        notes: what is not in the backup, or not as it was, one sentence each.
    """

    version: str
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

    tool: str
    created: str
    runtime: str
    services: Mapping[str, SavedService]
    members: tuple[Member, ...] = field(repr=False)
    format: int = FORMAT

    def as_data(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        return asdict(self)

    @classmethod
    def from_data(cls, data: Any) -> Self:
        """Read what `as_data` gave.

        Raises:
            ValueError, TypeError, KeyError, AttributeError: it is something else.
        """
        return cls(
            tool=str(data["tool"]),
            created=str(data["created"]),
            runtime=str(data["runtime"]),
            services={
                str(name): SavedService(
                    str(saved["version"]), tuple(map(str, saved["contents"])), tuple(map(str, saved["notes"]))
                )
                for name, saved in data["services"].items()
            },
            members=tuple(Member(**member) for member in data["members"]),
            format=int(data["format"]),
        )

    @property
    def size(self) -> int:
        """Bytes of all members together, uncompressed."""
        return sum(member.size for member in self.members)
