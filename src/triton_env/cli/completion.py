"""What a shell offers where TAB is pressed; see https://click.palletsprojects.com/en/stable/shell-completion/."""

from typing import TYPE_CHECKING

import click

from triton_env.errors import TritonError
from triton_env.services.built_in import BUILT_IN

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


def services(context: click.Context, parameter: click.Parameter, incomplete: str) -> "list[str]":
    """Services that are not named yet; of several with commas between, the last one."""
    before, comma, last = incomplete.rpartition(",")
    named = {*before.split(","), *(context.params.get("services_argument") or ())}
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
