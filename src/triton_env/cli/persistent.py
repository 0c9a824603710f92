"""What the commands for persistent services share: settings, how they begin, and how Ctrl-C ends them."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from triton_env.cli.signals import Interrupted, interruptible
from triton_env.cli.words import say_interrupted
from triton_env.errors import TritonError

if TYPE_CHECKING:
    from triton_env.infrastructure import Infrastructure
    from triton_env.settings import Settings


def settings_for(project: str | None) -> "Settings":
    """The settings of this call; `project` wins over TRITON_PROJECT.

    Raises:
        InvalidSetting: one cannot be used.
    """
    from triton_env.settings import Settings

    return Settings() if project is None else Settings(triton_project=project)


def infrastructure(project: str | None) -> "Infrastructure":
    """The persistent services of that project, or of TRITON_PROJECT."""
    # Loads the Docker SDK.
    from triton_env.infrastructure import Infrastructure

    return Infrastructure(settings_for(project))


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
    """These services in words: "PostgreSQL, ClickHouse and Redis"."""
    from triton_env.services import SERVICES

    *others, last = [SERVICES[name].title for name in names]
    return f"{', '.join(others)} and {last}" if others else last


def option_of(project: str | None) -> str:
    """How this project is named on a command line that is shown to people; begins with a space, or is empty."""
    return f" --project {project}" if project else ""


def not_running(names: Sequence[str], infrastructure: "Infrastructure", project: str | None) -> TritonError:
    """The error that persistent services do not run."""
    return TritonError(
        f"{titles(names)} {'does' if len(names) == 1 else 'do'} not run.",
        where=f"project {infrastructure.project}",
        hint=f"start what is missing with: python -m triton_env up{option_of(project)}",
    )
