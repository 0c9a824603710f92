"""`restore`: have the services hold what a backup holds."""

import sys
import time
from pathlib import Path

import click

from triton_env.cli.backup import environment_of, noted_once_complete, say_contents, say_notes
from triton_env.cli.choice import Choice, session_of, settings_for
from triton_env.cli.options import environment_options, file_and_services
from triton_env.cli.output import say
from triton_env.cli.persistent import ended_by_signals, titles
from triton_env.cli.session import check_has
from triton_env.errors import UsageError


@click.command()
@file_and_services
@environment_options
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--trust-code", is_flag=True, help="Let code in FILE run with the rights of the servers' superusers.")
def command(file: Path, services: tuple[str, ...], choice: Choice, yes: bool, trust_code: bool) -> int:
    """Replace the contents of the services that run here with those of the backup FILE.

    \b
    python -m triton_env restore monday.backup
    python -m triton_env restore monday.backup $service --yes

    The whole file is verified before anything is touched, and loaded beside what is there before anything is replaced.
    On a terminal it shows what the file holds and asks; elsewhere it needs --yes. Persistent services that do not run
    are started for it, and stopped again. The data may come from another runtime, and from an older version of a
    server.

    A backup that holds code which needs the rights of a superuser (functions in C, event triggers, other superusers)
    is refused without --trust-code. Use it only for a file whose origin you know.

    All services take over together, or none does. If the process is killed on the way, `status` says so, and `up` or
    the next restore finishes it or takes it back.

    Exit status: 0 when all of it is restored; 1 if the answer was no, or if it failed (the message says what the
    services hold); 2 for wrong use; 130 after Ctrl-C.
    """
    from triton_env.backup import read_manifest, restore
    from triton_env.backup.display import shown
    from triton_env.backup.restoration import held_services

    # Before anything is asked, and before services are started for it.
    manifest = read_manifest(file)
    names = held_services(manifest, services, file)
    if not yes and not sys.stdin.isatty():
        raise UsageError(
            f"This replaces what {titles(names)} {_hold(names)}, so it asks first, which needs a terminal.",
            hint=f"python -m triton_env restore {file} --yes",
        )
    record = session_of(choice)
    if record:
        check_has(record, names)
    say_contents(manifest)
    say_notes(manifest)
    of = f"the session {record.title}" if record else f"the project {settings_for(choice).triton_project}"
    say(f"It is restored into {of}")
    if not yes and not click.confirm(f"Replace what {titles(names)} {_hold(names)} now?", default=False, err=True):
        say("Nothing was changed.")
        return 1
    settings = settings_for(choice)
    began = time.monotonic()
    with (
        ended_by_signals("Nothing was changed."),
        noted_once_complete("The restore was complete.") as complete,
        environment_of(record, choice, names) as environment,
        shown(settings.triton_progress) as report,
    ):
        restore(environment, file, services=names, replace=True, trusted=trust_code, report=report)
        complete()
    say(f"Restored {titles(names)} in {time.monotonic() - began:.1f} s.", fg="green")
    say(f"See what is there: python -m triton_env status{choice.option}")
    return 0


def _hold(names: tuple[str, ...]) -> str:
    return "holds" if len(names) == 1 else "hold"
