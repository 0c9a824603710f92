"""What lets any process of this user at a service that runs: its log and its programs, without who started it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol

from triton_env.core.codec import from_data
from triton_env.core.ending import Ending
from triton_env.core.model import Placement, Program, ServiceRecipe

_PLACEHOLDER = re.compile(r"\{(host|port:([^{}]+))\}")


class Access(Protocol):
    """The way to one service. It is plain data, and holds no secret; logs may."""

    sees_endings: ClassVar[bool]
    """Whether it can see how a server has ended. Elsewhere only the process that started the server can."""

    def logs(self, lines: int, since: float | None = None) -> str:
        """The last lines that the service wrote, as it wrote them; see `Runtime.logs`."""

    def log_position(self) -> float:
        """Where its log ends now; see `Runtime.log_position`."""

    def disk(self) -> int | None:
        """What its files take, in bytes; None where that is not known.

        Raises:
            TritonError: the engine failed.
        """

    def lines(self, tail: int | None, *, follow: bool) -> Iterator[str]:
        """The lines that it wrote, as it wrote them.

        Args:
            tail: how many at most of those that are there; None for all.
            follow: whether those come too that it writes from now on, as long as it runs.
        """

    def program(
        self,
        recipe: ServiceRecipe,
        placement: Placement,
        argv: Sequence[str],
        environment: Mapping[str, str],
    ) -> Program:
        """How to run a program that comes with the service; see `Runtime.program`.

        Args:
            argv: the program and its arguments, with placeholders.
        """

    def ending(self, placement: Placement) -> Ending | None:
        """How its server has ended; None while it runs, and where that is not known."""


class ImageAccess(Access, Protocol):
    """The way to a service in a container, whose image brings programs."""

    def program_inside(self, argv: Sequence[str], environment: Mapping[str, str], *, terminal: bool = False) -> Program:
        """How to run a program beside the server; its arguments hold no placeholders. See `Access.program`.

        Args:
            terminal: whether it gets a terminal, which is this process's.
        """

    def program(
        self,
        recipe: ServiceRecipe,
        placement: Placement,
        argv: Sequence[str],
        environment: Mapping[str, str],
    ) -> Program:
        ports = {port.name: port.number for port in recipe.ports}

        def value(match: re.Match[str]) -> str:
            return "127.0.0.1" if match[2] is None else str(ports[match[2]])

        return self.program_inside([_PLACEHOLDER.sub(value, word) for word in argv], environment)

    def has(self, program: str) -> bool:
        """Whether the image has a program."""


def access_from_data(data: Mapping[str, Any]) -> Access:
    """The access that `to_data` wrote."""
    if "container" in data:
        from triton_env.runtimes.docker.access import ContainerAccess

        return from_data(ContainerAccess, data)
    if "pod" in data:
        from triton_env.runtimes.kubernetes.access import PodAccess

        return from_data(PodAccess, data)
    from triton_env.runtimes.embedded.access import FolderAccess

    return from_data(FolderAccess, data)
