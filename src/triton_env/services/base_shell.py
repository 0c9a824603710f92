"""How people get into a service: the part `way_in` of a service.

Shells are named in the help of the command line, so their modules load no settings, no driver and no service.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from triton_env.core.model import Endpoint, Program

Arguments = tuple[str, ...]


class Shell(ABC):
    """A program that talks to a service, with its address and credentials set."""

    command: ClassVar[str]
    """Its name on the command line."""
    summary: ClassVar[str]
    """What the command does, in a line."""
    description: ClassVar[str]
    """The command's help."""
    needs_arguments: ClassVar[bool] = False
    """Whether the command is of no use without arguments."""

    @abstractmethod
    def way_in(self, service: Any) -> str:
        """A command line that opens a shell in the service, for a terminal of this machine. It may hold passwords.

        Args:
            service: bound to the namespace that is meant.
        """


class ServerShell(Shell):
    """A shell that comes with the server: it runs beside that, in its container where there is one."""

    program: ClassVar[str]
    """Its name there."""
    protocol: ClassVar[str]
    """That it speaks: the name of a port."""
    instead: ClassVar[str]
    """What to do where it is not there, or does not help: a hint, in which SESSION stands for the id of the session."""
    is_always_there: ClassVar[bool] = True
    """Whether each container of the service has it."""

    @abstractmethod
    def arguments(self, service: Any, at: "Endpoint", given: Arguments) -> Arguments:
        """Its arguments.

        Args:
            service: to talk to.
            at: where that listens, seen from the program.
            given: the user's.
        """

    @abstractmethod
    def variables(self, service: Any, at: "Endpoint") -> Mapping[str, str]:
        """Its environment, which may be secret; see `arguments`."""

    def without(self, options: str) -> str:
        """What can be done without it, in words; empty where nothing can.

        Args:
            options: those that choose the environment on the command line.
        """
        return ""


class OwnShell(Shell):
    """A shell that runs on this machine wherever the service does."""

    needs_arguments = True
    interrupted: ClassVar[str]
    """What is the case where a signal ends it, in words."""

    @abstractmethod
    def check(self, given: Arguments) -> None:
        """See that the arguments can be used, before a server is asked for anything.

        Raises:
            UsageError: they cannot.
        """

    @abstractmethod
    def replacement(self, service: Any, given: Arguments) -> "Program | None":
        """The program to run in its place where that is installed; None where it is not."""

    @abstractmethod
    def run(self, service: Any, given: Arguments, show: Callable[[str], None]) -> int:
        """Do it and return its exit status.

        Args:
            service: to talk to.
            given: the user's arguments.
            show: prints a line on standard output.

        Raises:
            UsageError: the command or option does not exist.
            TritonError: the server refuses.
            BrokenPipeError: what is printed is no longer read.
        """
