"""Which environment a command is about: the one that runs here, or the one that its options name."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from triton_env.cli.output import say, say_notice
from triton_env.errors import TritonError, UsageError

if TYPE_CHECKING:
    from triton_env.settings import Settings
    from triton_env.state.registry import Record


@dataclass(frozen=True, slots=True)
class Choice:
    """What the options of a command say about its environment.

    Attributes:
        session: an id, the beginning of one, or the name of a project's folder; empty where no session is named.
        persistent: whether the persistent services are meant, also while a session runs here.
        project: of the persistent services; None for the one of the settings.
        any_checkout: whether the project may be that of another checkout, as its id was named to look at it.
        runtime: where the persistent services are to run; empty for the one of the settings.
    """

    session: str = ""
    persistent: bool = False
    project: str | None = None
    any_checkout: bool = False
    runtime: str = ""

    @property
    def names_persistent(self) -> bool:
        """Whether the options name the persistent services."""
        return self.persistent or self.project is not None

    @property
    def option(self) -> str:
        """How the project is named on a command line that is shown to people; begins with a space, or is empty."""
        return f" --project {self.project}" if self.project else ""


def settings_for(choice: Choice) -> "Settings":
    """The settings of this call; `--project` wins over TRITON_PROJECT, and `--runtime` over TRITON_RUNTIME.

    Raises:
        InvalidSetting: one cannot be used.
    """
    from triton_env.settings import Settings

    given: dict[str, Any] = {} if choice.project is None else {"triton_project": choice.project}
    return Settings(**given | ({"triton_runtime": choice.runtime} if choice.runtime else {}))


def session_of(choice: Choice, *, only_looks: bool = False) -> "Record | None":
    """The session that a command is about; None for the persistent services.

    It is the one that the options name, else the one of TRITON_SESSION, else the one that runs here. Where more than
    one environment runs here, a person is asked which one is meant.

    Args:
        only_looks: whether the command cannot change data; see `environments_here`.

    Raises:
        UsageError: no session has that name, or more than one environment runs here and no person can be asked.
    """
    found = environments_here(choice, only_looks=only_looks)
    if len(found) == 1:
        return found[0]
    return _asked(found, settings_for(choice).triton_project)


def environments_here(choice: Choice, *, only_looks: bool) -> "tuple[Record | None, ...]":
    """What a command may be about: sessions, and None for the persistent services. Without a session it is these.

    Args:
        only_looks: whether it takes another environment, with a notice, where the session of TRITON_SESSION has ended.
            What can change or replace data must not: it was meant for that session.

    Raises:
        UsageError: no session is as the options or TRITON_SESSION name it.
    """
    if choice.session and choice.names_persistent:
        raise UsageError("--session names a session, and --persistent and --project name the persistent services.")
    if choice.names_persistent:
        return (None,)
    from triton_env.settings import Settings
    from triton_env.state.registry import Registry, here, named

    settings = Settings()
    records = Registry.of(settings).running()
    if choice.session:
        return (named(records, choice.session),)
    if settings.triton_session:
        for record in records:
            if record.id == settings.triton_session:
                return (record,)
        ended = f"the session {settings.triton_session}, which TRITON_SESSION names, has ended."
        if not only_looks:
            raise UsageError(
                ended[0].upper() + ended[1:],
                cause="this command does not take another environment in its place",
                hint="unset TRITON_SESSION, or choose one with --session or --persistent; what runs here is shown by:"
                " python -m triton_env status",
            )
        say_notice(ended)
    found = here(records, Path.cwd())
    return (*found, None) if not found or persistent_services_run(settings) else found


def persistent_services_run(settings: "Settings") -> bool:
    """Whether some of the persistent services of the settings run, as far as an engine answers or none is needed."""
    from triton_env.core.forms import Form, form_of
    from triton_env.modes.persistent import can_have_persistent_services
    from triton_env.persistent.choice import open_stack, place_of
    from triton_env.runtimes.choice import docker_problem

    if not can_have_persistent_services(settings):
        return False
    # An engine that is not there, or hangs, is not what was asked about.
    if form_of(place_of(settings)) is Form.CONTAINER and docker_problem(settings, ()):
        return False

    try:
        with open_stack(settings) as services:
            return bool(services.running())
    except TritonError:
        return False


def way_to_start(settings: "Settings", option: str = "") -> str:
    """How to start what a command needs, as a hint; the runtime of the settings may have no persistent services.

    Args:
        option: which names the project.
    """
    from triton_env.modes.persistent import can_have_persistent_services

    up = f"python -m triton_env up{option}"
    serve = "python -m triton_env serve"
    return f"{serve}, or {up}" if can_have_persistent_services(settings) else serve


def sessions_elsewhere() -> str:
    """The sessions that run in other projects, in words; empty where none does."""
    from triton_env.settings import Settings
    from triton_env.state.registry import Registry, here

    records = Registry.of(Settings()).running()
    near = here(records, Path.cwd())
    far = [record for record in records if record.is_offered and record not in near]
    # The id first: a long line is cut.
    return "\n".join(f"--session {record.id} runs in {record.project}" for record in far)


def _asked(found: "tuple[Record | None, ...]", project: str) -> "Record | None":
    lines = [record.title if record else f"--persistent  the services of the project {project}" for record in found]
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        listed = "\n".join(f"  {line}" for line in lines)
        ways = [f"--session {record.id}" if record else "--persistent" for record in found]
        raise UsageError(f"{len(found)} environments run here:\n{listed}", hint=f"choose one with {' or '.join(ways)}")
    say(f"{len(found)} environments run here:")
    for number, line in enumerate(lines, 1):
        say(f"  {number}  {line}")
    return found[click.prompt("Which one", type=click.IntRange(1, len(found)), err=True) - 1]
