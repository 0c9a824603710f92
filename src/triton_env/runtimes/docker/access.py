"""Access to a service in a container, by the container's name."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from triton_env.core.ending import BEGIN_ANEW, Ending
from triton_env.core.model import Placement, Program
from triton_env.errors import TritonError
from triton_env.runtimes.access import ImageAccess
from triton_env.runtimes.docker import execution

if TYPE_CHECKING:
    from triton_env.runtimes.docker.engine import Engine


@dataclass(frozen=True, slots=True)
class ContainerAccess(ImageAccess):
    """See `Access`.

    Attributes:
        engine: URL of the engine that has the container.
        container: its name.
    """

    engine: str
    container: str

    sees_endings: ClassVar[bool] = True

    @classmethod
    def of_session(cls, engine: str, environment: str, service: str) -> "ContainerAccess":
        """The access to a service of a session: the containers of sessions have these names."""
        return cls(engine, f"triton-{environment}-{service}")

    def logs(self, lines: int, since: float | None = None) -> str:
        from docker.errors import APIError

        with _engine() as engine, engine.translated("read a log", self.container):
            try:
                text = engine.client.containers.get(self.container).logs(tail=lines, since=since)
            except APIError:  # it is gone
                return ""
            return bytes(text).decode(errors="replace")

    def log_position(self) -> float:
        return time.time()

    def disk(self) -> int | None:
        from triton_env.runtimes.docker.usage import disk_of

        with _engine() as engine:
            return disk_of(engine, self.container)

    def lines(self, tail: int | None, *, follow: bool) -> Iterator[str]:
        from docker.errors import DockerException

        with _engine() as engine, engine.translated("read a log", self.container):
            parts = engine.client.containers.get(self.container).logs(
                stream=True, follow=follow, tail="all" if tail is None else tail
            )
            rest = b""
            try:
                for part in parts:
                    *lines, rest = (rest + part).split(b"\n")
                    yield from (line.decode(errors="replace") for line in lines)
                if rest:
                    yield rest.decode(errors="replace")
            finally:
                # The end of the client leaves a connection open that something is still to come on.
                with suppress(OSError, DockerException):
                    parts.close()
                # That closes the socket under the response, which holds it until it is closed itself.
                parts._response.close()  # type: ignore[attr-defined]

    def program_inside(self, argv: Sequence[str], environment: Mapping[str, str], *, terminal: bool = False) -> Program:
        return execution.in_container(self.engine, self.container, argv, environment, terminal=terminal)

    def has(self, program: str) -> bool:
        """Whether the container has a program."""
        with _engine() as engine:
            return execution.container_has(engine, self.container, program)

    def ending(self, placement: Placement) -> Ending | None:
        try:
            with _engine() as engine:
                return engine.ending(self.container, placement, where=f"container {self.container}", hint=BEGIN_ANEW)
        except TritonError:
            return None


@contextmanager
def _engine() -> "Iterator[Engine]":
    from triton_env.runtimes.docker.engine import Engine

    engine = Engine()
    try:
        yield engine
    finally:
        engine.close()
