"""What the pytest plugin has to know of a service before it is needed: the module `fixtures` of a service.

pytest loads it in every project, so it loads no settings, no driver and no service.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Fixtures:
    """The fixtures of a service.

    Attributes:
        words: what its fixture gives, in a sentence.
        kind: the type of that, as it is written in annotations.
        client_words: what its fixture for asynchronous tests gives, in a sentence.
        client_kind: the type of that.
        connect: makes a connected asynchronous client of the service. It is closed by `aclose`, else by `close`. None
            where there are no such clients.
    """

    words: str
    kind: str
    client_words: str = ""
    client_kind: str = ""
    connect: Callable[[Any], Awaitable[Any]] | None = None
