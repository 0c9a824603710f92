"""What backup and restore ask of an environment."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from triton_env.core.model import Program
from triton_env.services import Service
from triton_env.settings import Settings


class _Mode(Protocol):
    """What the environment is for its user; see `triton_env.modes`."""

    @property
    def data_is_yours(self) -> bool:
        """Whether the servers hold data that was there before and stays."""

    @property
    def is_of_project(self) -> bool:
        """Whether the services are a project's persistent ones."""


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

    @property
    def _mode(self) -> _Mode: ...
