"""Programs in the containers of persistent services, in place of this process."""

import os
import sys
from collections.abc import Callable, Mapping
from typing import NoReturn, TypeVar

from triton_env.cli.persistent import infrastructure, not_running
from triton_env.errors import TritonError
from triton_env.model import Program
from triton_env.services import Service

_ServiceT = TypeVar("_ServiceT", bound=Service)


def run_in_container(
    kind: type[_ServiceT],
    program: str,
    arguments: Callable[[_ServiceT], tuple[str, ...]],
    variables: Callable[[_ServiceT], Mapping[str, str]],
    project: str | None,
    *,
    lacking: str = "",
    instead: str = "",
) -> NoReturn:
    """Become a program in the container of a persistent service.

    Args:
        kind: the service.
        program: its name.
        arguments: its arguments.
        variables: its environment, which may be secret.
        project: of the persistent services; None for the one of the settings.
        lacking: what it means that the container lacks the program.
        instead: a command to run where the container lacks the program; empty where it always has it.

    Raises:
        TritonError: the service does not run, or the container has no such program.
    """
    with infrastructure(project) as services:
        service = services.running().get(kind.name)
        if service is None:
            raise not_running([kind.name], services, project)
        assert isinstance(service, kind)
        if instead and not services.has_program(kind.name, program):
            raise TritonError(
                f"The container of {kind.title} has no {program}.",
                where=f"project {services.project}",
                cause=lacking,
                hint=instead,
            )
        terminal = sys.stdin.isatty() and sys.stdout.isatty()
        words = (program, *arguments(service))
        inside = services.program(kind.name, words, variables(service), terminal=terminal)
    become(inside)


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
