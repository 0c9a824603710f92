"""What the commands for persistent services share: how they begin, and how Ctrl-C ends them."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from triton_env.cli.choice import Choice, sessions_elsewhere, settings_for, way_to_start
from triton_env.cli.output import say_interrupted, say_notice
from triton_env.cli.signals import Interrupted, interruptible
from triton_env.core.forms import Form, forms_for
from triton_env.errors import RuntimeUnavailable, TritonError

if TYPE_CHECKING:
    from triton_env.persistent.stack import Stack


def stack_of(choice: Choice, command: str = "", names: Iterable[str] = (), *, starts: bool = False) -> "Stack":
    """The persistent services of that project, or of TRITON_PROJECT.

    Args:
        command: one that is for persistent services alone.
        names: of services that are asked for.
        starts: whether services may be started.

    Raises:
        NotOffered: one of these cannot be persistent.
        UsageError: no engine answers, and a session runs here, which the command cannot be used on.
        TritonError: no environment runs here, and no engine answers that could run persistent services.
    """
    from triton_env.persistent.choice import open_stack
    from triton_env.persistent.stack import check_offered

    settings = settings_for(choice)
    check_offered(names, settings.triton_project)
    try:
        return open_stack(settings, starts=starts, any_checkout=choice.any_checkout)
    except RuntimeUnavailable as error:
        if choice.names_persistent or forms_for(settings.triton_runtime) == (Form.CONTAINER,):
            raise
        _check_not_meant(command)
        raise nothing_runs(f"persistent services: {error.what} {error.cause}") from error


def named_or_offered(services: tuple[str, ...], stack: "Stack") -> tuple[str, ...]:
    """The services that were named; where none was, those that can be persistent in this place."""
    from triton_env.services import SERVICES

    if services:
        return services
    offered = stack.offered()
    if without := [name for name in SERVICES if name not in offered]:
        say_notice(f"without {titles(without)}, which cannot be persistent on the runtime {stack.runtime}.")
    return offered


@contextmanager
def ended_by_signals(words: str) -> Iterator[None]:
    """Where a signal ends the block, say so with `words` about what is the case now, and exit with its status."""
    try:
        with interruptible():
            yield
    except Interrupted as interrupted:
        say_interrupted(interrupted.signal_name, interrupted, words)
        raise click.exceptions.Exit(interrupted.exit_code) from interrupted


def titles(names: Iterable[str]) -> str:
    """These services in words, with commas and an "and"."""
    from triton_env.services.selection import title_of

    *others, last = map(title_of, names)
    return f"{', '.join(others)} and {last}" if others else last


def nothing_runs(cause: str = "") -> TritonError:
    """The error that no environment runs here."""
    return TritonError(
        "No environment is running here.",
        cause="\n".join(line for line in (" ".join(cause.split()), sessions_elsewhere()) if line),
        hint=f"start one with: {way_to_start(settings_for(Choice()))}",
    )


def not_running(names: Sequence[str], stack: "Stack", choice: Choice, command: str = "") -> TritonError:
    """The error that persistent services do not run.

    Raises:
        UsageError: a session runs here, which `command` cannot be used on.
    """
    if not choice.names_persistent:
        _check_not_meant(command)
    return TritonError(
        f"{titles(names)} {'does' if len(names) == 1 else 'do'} not run.",
        where=f"project {stack.project}",
        cause="" if choice.names_persistent else sessions_elsewhere(),
        hint=f"start what is missing with: python -m triton_env up{choice.option}"
        if choice.names_persistent
        else f"start it with: {way_to_start(stack.settings)}",
    )


def _check_not_meant(command: str) -> None:
    from triton_env.cli.session import refused, session_here

    if command and (record := session_here()):
        raise refused(command, record)
