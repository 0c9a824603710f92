"""The commands that open the shell of a service: a program in place of this process."""

import os
import shutil
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn, cast

import click

from triton_env.cli.choice import Choice, session_of
from triton_env.cli.options import environment_options, passed_on
from triton_env.cli.output import print_data, stop_printing
from triton_env.core.forms import form_of
from triton_env.errors import TritonError
from triton_env.services.base_shell import Arguments, OwnShell, ServerShell, Shell

if TYPE_CHECKING:
    from triton_env.core.model import Program
    from triton_env.runtimes.access import ImageAccess
    from triton_env.services import Service
    from triton_env.settings import Settings
    from triton_env.state.registry import Record


def command_of(name: str, shell: Shell) -> click.Command:
    """The command for the shell of a service."""

    @click.command(shell.command, context_settings=passed_on, help=shell.description, short_help=shell.summary)
    @environment_options
    @click.argument("args", nargs=-1, required=shell.needs_arguments, type=click.UNPROCESSED)
    def command(choice: Choice, args: Arguments) -> int:
        if isinstance(shell, ServerShell):
            _ServerProgram(name, shell, args).run(choice)
        assert isinstance(shell, OwnShell)
        return _run_here(name, shell, choice, args)

    return command


def _run_here(name: str, shell: OwnShell, choice: Choice, args: Arguments) -> int:
    from triton_env.cli.persistent import not_running, stack_of
    from triton_env.cli.session import attached

    shell.check(args)
    if record := session_of(choice):
        with attached(record, (name,)) as environment:
            return _replaced_or_run(shell, environment.service(name), args, environment.hand_over)
    with stack_of(choice, names=(name,)) as services:
        service = services.running().get(name)
        if service is None:
            raise not_running([name], services, choice)
    return _replaced_or_run(shell, service, args, lambda: None)


def _replaced_or_run(shell: OwnShell, service: "Service", args: Arguments, before_exec: Callable[[], None]) -> int:
    from triton_env.cli.persistent import ended_by_signals

    if program := shell.replacement(service, args):
        before_exec()
        _become(program)
    with ended_by_signals(shell.interrupted):
        try:
            return shell.run(service, args, print_data)
        except BrokenPipeError:
            stop_printing()
            return 0


class _ServerProgram:
    """The shell that comes with a server, with the user's arguments."""

    def __init__(self, name: str, shell: ServerShell, given: Arguments) -> None:
        self._name = name
        self._shell = shell
        self._given = given

    def run(self, choice: Choice) -> NoReturn:
        """Become the program, for the service of the environment that is meant.

        Raises:
            TritonError: the service does not run, or the program is not there.
        """
        if record := session_of(choice):
            self._run_in_session(record, choice)
        _become(self._in_project(choice))

    def _in_project(self, choice: Choice) -> "Program":
        from triton_env.cli.persistent import not_running, stack_of

        name = self._name
        with stack_of(choice, names=(name,)) as services:
            service = services.running().get(name)
            if service is None:
                raise not_running([name], services, choice)
            where = f"project {services.project}"
            access = services.access(name)
            if form_of(services.runtime).has_image:
                return self._inside(cast("ImageAccess", access), service, services.settings, where, choice)
            recipe = service.recipe(services.settings)
            packaged = access.program(recipe, service.placement, (self._shell.program,), {}).argv[0]
            where += ", which runs without containers"
            return self._beside(packaged if os.path.exists(packaged) else None, service, where, "", choice)

    def _run_in_session(self, record: "Record", choice: Choice) -> NoReturn:
        from triton_env.cli.session import attached

        with attached(record, (self._name,)) as environment:
            service = environment.service(self._name)
            if access := environment.container(self._name):
                program = self._inside(access, service, environment.settings, f"session {record.id}", choice)
            else:
                packaged = environment.packaged_program(service.name, self._shell.program)
                where = f"session {record.id}, which runs without containers"
                program = self._beside(packaged, service, where, record.id, choice)
            environment.hand_over()
            _become(program)

    def _inside(
        self, access: "ImageAccess", service: "Service", settings: "Settings", where: str, choice: Choice
    ) -> "Program":
        """The program in the service's container."""
        from triton_env.core.model import Endpoint

        shell, recipe = self._shell, service.recipe(settings)
        if not shell.is_always_there and not access.has(shell.program):
            raise TritonError(
                f"The container of {service.title} has no {shell.program}.",
                where=where,
                cause=shell.without(_options(choice)),
                hint=shell.instead,
            )
        ports = {port.name: port.number for port in recipe.ports}
        at = Endpoint("127.0.0.1", ports[shell.protocol])
        words = (shell.program, *shell.arguments(service, at, self._given))
        return access.program_inside(words, shell.variables(service, at), terminal=_has_terminal())

    def _beside(self, packaged: str | None, service: "Service", where: str, session: str, choice: Choice) -> "Program":
        """The program on this machine: the one that comes with the server, or one that is installed."""
        from triton_env.core.model import Program
        from triton_env.settings.process import process_environment

        shell = self._shell
        at = service.placement.endpoints.get(shell.protocol)
        if at is None:
            raise TritonError(
                f"The embedded {service.title} does not speak the protocol of {shell.program}.",
                where=where,
                cause=shell.without(_options(choice)),
                hint=shell.instead,
            )
        path = packaged or shutil.which(shell.program)
        if path is None:
            hint = shell.instead.replace("--session SESSION", f"--session {session}" if session else "--persistent")
            raise TritonError(f"{shell.program} is not installed on this machine.", where=where, hint=hint)
        inherited = {name: value for name, value in process_environment().items() if name not in service.misleading}
        words = (path, *shell.arguments(service, at, self._given))
        return Program(words, inherited | dict(shell.variables(service, at)))


def _options(choice: Choice) -> str:
    return f" --persistent{choice.option}" if choice.names_persistent else ""


def _become(program: "Program") -> NoReturn:
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
