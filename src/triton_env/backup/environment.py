"""What backup and restore ask of an environment."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from triton_env.core.model import Program
from triton_env.services import Service
from triton_env.settings import Settings


class _Run(Protocol):
    """How its services run."""

    @property
    def lasting(self) -> bool:
        """Whether the servers outlive every process that uses them."""

    @property
    def persistent(self) -> object | None:
        """Not None where the services are a project's persistent ones."""


class RunningEnvironment(Protocol):
    """A running environment, such as a `TritonEnvironment`."""

    @property
    def id(self) -> str:
        """Its id."""

    @property
    def runtime(self) -> str:
        """Where its services run."""

    @property
    def services(self) -> tuple[str, ...]:
        """The names of its services."""

    @property
    def settings(self) -> Settings:
        """Those in force."""

    def service(self, name: str) -> Service:
        """The running service of that name."""

    def program(self, service: str, argv: Sequence[str], environment: Mapping[str, str]) -> Program:
        """How to run a program beside the server of a service."""

    def _running(self) -> _Run: ...
