"""Stamps: what persistent data was made with, noted beside it."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from triton_env.state import store


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a service's data was made with when the service was ready last.

    Attributes:
        service: the service's name.
        version: what the server said of its version.
        image: the image reference.
        image_id: the engine's id of that image.
        checkout: the folder of the compose file.
        facts: by variable, what the server was initialised with.
        written: when, in ISO 8601.
    """

    service: str
    version: str
    image: str
    image_id: str
    checkout: str
    facts: Mapping[str, str] = field(default_factory=dict)
    written: str = ""

    FORMAT: ClassVar[int] = 1

    def to_json(self) -> bytes:
        """The content of the file."""
        return store.text_of(self).encode()

    @classmethod
    def from_json(cls, content: bytes) -> "Stamp | None":
        """The stamp of a file's content; None for one that was cut off, or of a format that is not known here."""
        try:
            data = json.loads(content)
            if isinstance(data, dict):
                # Of earlier versions, which kept a hash of the password.
                data.pop("secrets", None)
            return store.of_text(json.dumps(data), cls)
        except ValueError:
            return None

    def is_like(self, other: "Stamp") -> bool:
        """Whether both say the same of how the data was made, apart from its facts and from when that was noted."""
        names = ("service", "version", "image", "image_id", "checkout")
        return all(getattr(self, name) == getattr(other, name) for name in names)


def last_checkout(stamps: Iterable[Stamp], checkout: str) -> str:
    """The folder which used the data last, if it is another one; else empty.

    Args:
        checkout: the folder of the compose file.
    """
    last = max(stamps, key=lambda stamp: stamp.written, default=None)
    return last.checkout if last and last.checkout != checkout else ""
