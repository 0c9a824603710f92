"""What a shell offers where TAB is pressed; see https://click.palletsprojects.com/en/stable/shell-completion/."""

from contextlib import suppress
from typing import TYPE_CHECKING

import click

from triton_env.errors import TritonError
from triton_env.services.built_in import BUILT_IN

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_ENGINE_TIMEOUT = 1.0
"""Seconds that an engine gets to list what it has."""


def services(context: click.Context, parameter: click.Parameter, incomplete: str) -> "list[str]":
    """Services that are not named yet; of several with commas between, the last one."""
    before, comma, last = incomplete.rpartition(",")
    words = (name for words in ("services_argument", "words") for name in context.params.get(words) or ())
    named = {*before.split(","), *words}
    return [f"{before}{comma}{name}" for name in BUILT_IN if name.startswith(last) and name not in named]


def runtimes(context: click.Context, parameter: click.Parameter, incomplete: str) -> "list[str]":
    """Runtimes that may be asked for."""
    from triton_env.core.forms import RUNTIME_NAMES

    return [name for name in RUNTIME_NAMES if name.startswith(incomplete)]


def sessions(context: click.Context, parameter: click.Parameter, incomplete: str) -> "list[CompletionItem]":
    """The ids of the sessions and shared environments that run, each with where it was started."""
    from click.shell_completion import CompletionItem

    from triton_env.settings import Settings
    from triton_env.state.registry import Registry

    try:
        records = Registry.of(Settings()).running()
    except TritonError:
        return []
    return [CompletionItem(record.id, help=record.title) for record in records if record.id.startswith(incomplete)]


def stoppable(context: click.Context, parameter: click.Parameter, incomplete: str) -> "list[CompletionItem]":
    """The ids of what `stop` ends: the sessions and shared environments that run or are starting."""
    from click.shell_completion import CompletionItem

    from triton_env.settings import Settings
    from triton_env.state.starting import Starts

    starts = Starts.of(Settings()).under_way()
    starting = [CompletionItem(start.id, help=start.title) for start in starts if start.id.startswith(incomplete)]
    return [*sessions(context, parameter, incomplete), *starting]


def environments(context: click.Context, parameter: click.Parameter, incomplete: str) -> "list[CompletionItem]":
    """The ids of what runs, and the projects whose persistent services do."""
    return [*sessions(context, parameter, incomplete), *_projects(incomplete)]


def environments_and_services(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> "list[CompletionItem]":
    """Of the first word also the ids of what runs; else services that are not named yet."""
    from click.shell_completion import CompletionItem

    is_first = not context.params.get("words")
    found = environments(context, parameter, incomplete) if is_first else []
    return [*found, *map(CompletionItem, services(context, parameter, incomplete))]


def projects(context: click.Context, parameter: click.Parameter, incomplete: str) -> "list[CompletionItem]":
    """The projects whose persistent services run."""
    return _projects(incomplete)


def _projects(incomplete: str) -> "list[CompletionItem]":
    from click.shell_completion import CompletionItem

    from triton_env.core.threads import in_thread
    from triton_env.inspection.persistent import here, on_engine
    from triton_env.settings import Settings

    settings = Settings()
    listed = in_thread(on_engine, settings)
    found = list(here(settings))
    with suppress(TimeoutError, TritonError):  # an engine that hangs is not what a person waits for
        found += listed.result(_ENGINE_TIMEOUT)[0]
    names = {project.entry.id for project in found}
    return [CompletionItem(name, help="persistent services") for name in sorted(names) if name.startswith(incomplete)]
