"""Programs that talk to a service, in place of this process."""

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Generic, NoReturn, TypeVar

from triton_env.cli.choice import Choice, session_of
from triton_env.cli.persistent import infrastructure, not_running
from triton_env.cli.session import attached
from triton_env.core.forms import Form, form_of
from triton_env.core.model import Endpoint, Program
from triton_env.errors import TritonError
from triton_env.services import Service

if TYPE_CHECKING:
    from triton_env.attached import AttachedEnvironment
    from triton_env.settings import Settings
    from triton_env.state.registry import Record

_ServiceT = TypeVar("_ServiceT", bound=Service)


class Shell(Generic[_ServiceT]):
    """A program that talks to a service, with its address and credentials set.

    Args:
        kind: the service.
        program: its name.
        arguments: its arguments, by the service and where that listens, seen from the program.
        variables: its environment, which may be secret.
        lacking: what it means that a container lacks the program; empty where it always has it.
        instead: what to do where the program is not there, or does not help; the hint of an error.
        port: the protocol that it speaks.
    """

    def __init__(
        self,
        kind: type[_ServiceT],
        program: str,
        arguments: Callable[[_ServiceT, Endpoint], tuple[str, ...]],
        variables: Callable[[_ServiceT, Endpoint], Mapping[str, str]],
        *,
        port: str,
        instead: str,
        lacking: str = "",
    ) -> None:
        self._kind = kind
        self._program = program
        self._arguments = arguments
        self._variables = variables
        self._port = port
        self._lacking = lacking
        self._instead = instead

    def run(self, choice: Choice) -> NoReturn:
        """Become the program, for the service of the environment that is meant.

        Raises:
            TritonError: the service does not run, or the program is not there.
        """
        if record := session_of(choice):
            self._run_in_session(record)
        become(self._in_project(choice))

    def _in_project(self, choice: Choice) -> Program:
        kind, name = self._kind, self._kind.name
        with infrastructure(choice) as services:
            service = services.running().get(name)
            if service is None:
                raise not_running([name], services, choice)
            assert isinstance(service, kind)
            if self._lacking and not services.has_program(name, self._program):
                raise self._absent(f"project {services.project}")
            words, variables = self._inside(service, services.settings)
            return services.program(name, words, variables, terminal=_has_terminal())

    def _run_in_session(self, record: "Record") -> NoReturn:
        kind, name = self._kind, self._kind.name
        with attached(record, (name,)) as environment:
            service = environment.service(name)
            assert isinstance(service, kind)
            if form_of(record.runtime) is not Form.CONTAINER:
                program = self._beside(environment, service)
            else:
                if self._lacking and not environment.container_has(name, self._program):
                    raise self._absent(f"session {record.id}")
                words, variables = self._inside(service, environment.settings)
                program = environment.program_in_container(name, words, variables, terminal=_has_terminal())
            environment.hand_over()
            become(program)

    def _inside(self, service: _ServiceT, settings: "Settings") -> tuple[tuple[str, ...], Mapping[str, str]]:
        """The command line and the variables in the service's container."""
        ports = {port.name: port.number for port in service.recipe(settings).ports}
        at = Endpoint("127.0.0.1", ports[self._port])
        return (self._program, *self._arguments(service, at)), self._variables(service, at)

    def _beside(self, environment: "AttachedEnvironment", service: _ServiceT) -> Program:
        """The program on this machine."""
        from triton_env.settings import process_environment

        where = f"session {environment.record.id}, which runs without containers"
        at = service.placement.endpoints.get(self._port)
        if at is None:
            raise TritonError(
                f"The embedded {service.title} does not speak the protocol of {self._program}.",
                where=where,
                cause=self._lacking,
                hint=self._instead,
            )
        path = environment.packaged_program(service.name, self._program) or shutil.which(self._program)
        if path is None:
            raise TritonError(f"{self._program} is not installed on this machine.", where=where, hint=self._instead)
        inherited = {name: value for name, value in process_environment().items() if name not in service.misleading}
        return Program((path, *self._arguments(service, at)), inherited | dict(self._variables(service, at)))

    def _absent(self, where: str) -> TritonError:
        return TritonError(
            f"The container of {self._kind.title} has no {self._program}.",
            where=where,
            cause=self._lacking,
            hint=self._instead,
        )


def become(program: Program) -> NoReturn:
    """Replace this process: terminal, signals, standard input and exit status are then the program's own.

    Raises:
        TritonError: it cannot be run.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execve(program.argv[0], program.argv, dict(program.environment))  # noqa: S606 - no shell is wanted
    except OSError as error:
        raise TritonError(f"{program.argv[0]} cannot be run.", cause=str(error)) from error


def _has_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()
