"""`reset`: destroy the persistent services with their data."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from triton_env.cli.choice import Choice, settings_for
from triton_env.cli.options import named_services, persistent_options
from triton_env.cli.output import say, say_notice
from triton_env.cli.persistent import ended_by_signals, stack_of, titles
from triton_env.cli.session import refuse, refused, session_here
from triton_env.core.sizes import size_words
from triton_env.errors import UsageError

if TYPE_CHECKING:
    from triton_env.persistent.stack import Belongings, Stack


@click.command()
@persistent_options("reset")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--backup",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write a backup to FILE first; it must not exist.",
)
@click.option("--no-backup", is_flag=True, help="Do not offer a backup.")
@named_services
def command(services: tuple[str, ...], choice: Choice, yes: bool, backup: Path | None, no_backup: bool) -> int:
    """Destroy the persistent services of this project with all their data.

    \b
    python -m triton_env reset
    python -m triton_env reset --yes --backup before.backup
    python -m triton_env reset $other

    That is their containers, network and volumes, or their processes and folders. On a terminal it lists what will be
    gone, offers a backup, and asks; elsewhere it needs --yes. It removes what was made for this project, and nothing
    else.

    Exit status: 0, also where there is nothing; 1 if the answer was no, if the backup failed, or if something is left;
    2 for wrong use; 130 after Ctrl-C.
    """
    from triton_env.persistent.choice import forget

    if backup and no_backup:
        raise UsageError("--backup and --no-backup exclude each other.")
    if not choice.names_persistent and settings_for(choice).triton_session:
        # In a shell of that session it may be meant for that.
        refuse("reset", choice)
    if backup:
        from triton_env.archive.archive import check_free

        check_free(backup, force=False)
    with stack_of(choice, "reset", services) as persistent:
        with ended_by_signals("Nothing was destroyed."):
            agreed = _agreed(persistent, services, choice, yes=yes, backup=backup, offer=not no_backup)
        if not agreed:
            return 1
        with ended_by_signals(f"Some of it may remain: python -m triton_env reset{choice.option}"):
            began = time.monotonic()
            gone = persistent.remove(services)
            forget(persistent)
        if not gone:
            if not choice.names_persistent and (record := session_here()):
                raise refused("reset", record)
            say(f"Nothing to remove: the project {persistent.project} has no servers and no data.")
            return 0
        from triton_env.persistent.stack import Words

        networks = Words("network", "networks")
        counts = {gone.server: len(gone.servers), networks: len(gone.networks), gone.holder: len(gone.data)}
        parts = ", ".join(
            f"{count} {kind.one if count == 1 else kind.several}" for kind, count in counts.items() if count
        )
        say(f"Removed {parts} in {time.monotonic() - began:.1f} s.", fg="green")
        say(f"Start afresh with: python -m triton_env up{choice.option}")
    return 0


def _agreed(
    persistent: "Stack",
    names: tuple[str, ...],
    choice: Choice,
    *,
    yes: bool,
    backup: Path | None,
    offer: bool,
) -> bool:
    """Say what will be gone, ask, and make a backup if one is wanted; whether it may all go now."""
    belongings = persistent.belongings(names)
    if not belongings:
        return True
    if not yes and not sys.stdin.isatty():
        raise UsageError(
            "This destroys data, so it asks first, which needs a terminal.",
            where=f"project {persistent.project}",
            hint="python -m triton_env reset --yes --backup FILE, or without --backup if the data may go",
        )
    say(f"This will be gone from the project {persistent.project}:\n{_listed(persistent, belongings)}")
    if persistent.in_use():
        say_notice("other processes of triton-env use these services at present; they will fail.")
    with_data = persistent.with_data(names)
    if with_data and not yes and offer and backup is None:
        backup = _offered(persistent.project)
    if backup:
        _back_up(backup, with_data, choice)
    if yes or click.confirm("Destroy all of this?", default=False, err=True):
        return True
    say("Nothing was changed.")
    return False


def _listed(persistent: "Stack", belongings: "Belongings") -> str:
    sizes = persistent.sizes(belongings.data)
    lines = [f"{belongings.server.one} {name}" for name in sorted(belongings.servers.values())]
    lines += [f"network {name}" for name in belongings.networks.values()]
    lines += [
        f"{belongings.holder.one} {name}{f' ({size_words(sizes[name])})' if name in sizes else ''}, with all its data"
        for name in belongings.data
    ]
    return "\n".join(f"  {line}" for line in lines)


def _offered(project: str) -> Path | None:
    """Where the backup shall be, if one is wanted."""
    path = Path(f"{project}-{time.strftime('%Y%m%d-%H%M%S')}.backup")
    return path if click.confirm(f"Write a backup to {path} first?", default=True, err=True) else None


def _back_up(path: Path, names: tuple[str, ...], choice: Choice) -> None:
    """Write a backup of these services, which are started where they do not run."""
    if not names:
        say_notice("there is no data to back up.")
        return
    from triton_env.archive.archive import check_free
    from triton_env.backup import create
    from triton_env.backup.display import shown
    from triton_env.environment import TritonEnvironment

    # Before services are started for it.
    check_free(path, force=False)
    settings = settings_for(choice)
    say(f"Backing up {titles(names)} ...")
    with (
        TritonEnvironment(settings, services=names, persistent=True) as environment,
        shown(settings.triton_progress) as report,
    ):
        create(environment, path, services=names, report=report)
    say(f"The backup is in {path}. Restore it with: python -m triton_env restore {path}{choice.option}")
