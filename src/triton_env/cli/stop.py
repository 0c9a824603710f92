"""`stop`: end sessions and shared environments."""

import sys
from typing import TYPE_CHECKING

import click

from triton_env.cli import completion
from triton_env.cli.ending import end
from triton_env.cli.output import say
from triton_env.errors import UsageError

if TYPE_CHECKING:
    from triton_env.settings import Settings
    from triton_env.state.registry import Record
    from triton_env.state.starting import Starting

_STOP = "python -m triton_env stop"


@click.command()
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.argument("ids", nargs=-1, required=True, metavar="ID...", shell_complete=completion.stoppable)
def command(ids: tuple[str, ...], yes: bool) -> int:
    """End sessions and shared environments, also those that are starting. Their data is gone then.

    \b
    python -m triton_env stop ID

    ID is an id that `ps` shows, its beginning, or the name of the folder of its project. What `serve` holds ends as by
    Ctrl-C. A program or test run that started its own session ends with it, and processes that use a shared environment
    lose it: so these are named, and on a terminal there is a question; elsewhere that needs --yes. Persistent services
    are stopped by `down`.

    Exit status: 0; 1 if the answer was no, or if one does not end; 2 for wrong use; 130 after Ctrl-C.
    """
    from triton_env.settings import Settings

    settings = Settings()
    # All of them first: a mistake in the second name should not be found when the first has ended.
    records = {record.id: record for record in (_named(name, settings) for name in ids)}.values()
    if affected := [words for record in records if (words := _affected(record, settings))]:
        listed = "\n".join(f"  {words}" for words in affected)
        if not yes and not sys.stdin.isatty():
            raise UsageError(
                f"This ends more than an environment, so it asks first, which needs a terminal:\n{listed}",
                hint=f"{_STOP} --yes {' '.join(record.id for record in records)}",
            )
        say(f"This ends more than an environment:\n{listed}")
        if not yes and not click.confirm("End all of it?", default=False, err=True):
            say("Nothing was changed.")
            return 1
    for record in records:
        # The process of one before it may have had this one too, and what was starting may be ready.
        if now := next((each for each in _all(settings) if each.id == record.id), None):
            end(now)
    return 0


def _all(settings: "Settings") -> "tuple[Record | Starting, ...]":
    from triton_env.state.registry import Registry
    from triton_env.state.starting import Starts

    # In this order: a start is on its list until its environment is on the other one.
    starts = Starts.of(settings).under_way()
    return (*Registry.of(settings).running(), *starts)


def _named(name: str, settings: "Settings") -> "Record | Starting":
    from triton_env.inspection import inspect
    from triton_env.state import starting
    from triton_env.state.registry import Registry, matching, named

    starts = starting.Starts.of(settings).under_way()
    if not matching(Registry.of(settings).running(), name) and (start := starting.named(starts, name)):
        return start
    try:
        return named(Registry.of(settings).running(), name, option=f"{_STOP} ")
    except UsageError:
        if any(each.id == name and each.is_persistent for each in inspect(settings).environments):
            raise UsageError(
                f"{name!r} is a project of persistent services, which are stopped by another command.",
                hint=f"python -m triton_env down --project {name}",
            ) from None
        raise


def _affected(record: "Record | Starting", settings: "Settings") -> str:
    """What else suffers from the end of an environment, in words; empty where nothing does."""
    from triton_env.inspection import command_of
    from triton_env.sharing.users import users_of
    from triton_env.state.starting import Starting

    if isinstance(record, Starting) and record.held_by in ("serve", "up", "reuse", "mcp"):
        return ""
    if isinstance(record, Starting) or record.held_by not in ("serve", "mcp", "reuse"):
        return f"{record.id}: process {record.pid} ends with it: {command_of(record.pid)}"
    users = users_of(record, settings)
    processes = f"process{'es' if len(users) > 1 else ''} {', '.join(map(str, users))}"
    return f"{record.id}: {processes} use{'' if len(users) > 1 else 's'} it" if users else ""
