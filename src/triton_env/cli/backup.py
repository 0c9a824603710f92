"""`backup`: what the services hold, in one file."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from triton_env.cli.choice import Choice, session_of, settings_for
from triton_env.cli.options import environment_options, file_and_services
from triton_env.cli.output import say, say_notice
from triton_env.cli.persistent import ended_by_signals, named_or_offered, stack_of
from triton_env.cli.session import attached
from triton_env.core.printable import one_line
from triton_env.errors import UsageError

if TYPE_CHECKING:
    from triton_env.backup import Manifest
    from triton_env.environment import TritonEnvironment
    from triton_env.state.registry import Record


@click.command()
@file_and_services
@environment_options
@click.option("-f", "--force", is_flag=True, help="Replace FILE if it exists.")
@click.option("--verify", is_flag=True, help="Only check that the backup FILE is whole, and show what it holds.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON about the backup.")
def command(file: Path, services: tuple[str, ...], choice: Choice, force: bool, verify: bool, as_json: bool) -> None:
    """Save what the services that run here hold to FILE, which only its owner can read.

    \b
    python -m triton_env backup monday.backup
    python -m triton_env backup monday.backup $service $other
    python -m triton_env backup monday.backup --verify

    Persistent services that do not run are started for it, and stopped again. FILE appears when it is complete and was
    read back; nothing is left of a backup that fails. Each service is saved by itself, one after another: stop the
    application first if several have to agree. With --json, {"file", "format", "tool", "created", "runtime", "size",
    "services"} goes to standard output.

    Exit status: 0 when FILE is there and whole; 1 if it is not; 2 for wrong use; 130 after Ctrl-C.
    """
    if verify and (services or force):
        raise UsageError("--verify looks at FILE as it is, so it goes without --services and --force.")
    with ended_by_signals("No backup was made, and nothing is left of it." if not verify else ""):
        manifest = _verified(file) if verify else _made(file, services, choice, force)
    if as_json:
        about = manifest.as_data() | {"file": str(file), "size": manifest.size}
        click.echo(json.dumps({name: value for name, value in about.items() if name != "members"}))


def _made(file: Path, services: tuple[str, ...], choice: Choice, force: bool) -> "Manifest":
    from triton_env.archive.archive import check_free
    from triton_env.backup import create
    from triton_env.backup.display import shown
    from triton_env.core.sizes import size_words

    # Before services are started for it.
    check_free(file, force=force)
    settings = settings_for(choice)
    if record := session_of(choice):
        say(f"This is about the session {record.title}", dim=True)
    began = time.monotonic()
    with (
        noted_once_complete(f"The backup {file} was complete.") as complete,
        environment_of(record, choice, services) as environment,
        shown(settings.triton_progress) as report,
    ):
        # Without a name: those that offer a backup.
        manifest = create(environment, file, services=services or None, force=force, report=report)
        complete()
    say_notes(manifest)
    say(f"Saved to {file} ({size_words(file.stat().st_size)}) in {time.monotonic() - began:.1f} s.", fg="green")
    say(f"Restore it with: python -m triton_env restore {file}{choice.option}")
    return manifest


def environment_of(
    record: "Record | None", choice: Choice, services: tuple[str, ...]
) -> "AbstractContextManager[TritonEnvironment]":
    """A session as it is, or the persistent services (without a record), which are started where they do not run."""
    from triton_env.environment import TritonEnvironment

    if record:
        return attached(record, services)
    if not services:
        with stack_of(choice, starts=True) as stack:
            services = named_or_offered(services, stack)
    return TritonEnvironment(settings_for(choice), services=services, persistent=True)


def _verified(file: Path) -> "Manifest":
    from triton_env.backup import verify
    from triton_env.backup.display import shown
    from triton_env.settings import Settings

    with shown(Settings().triton_progress) as report:
        manifest = verify(file, report=report)
    say_contents(manifest)
    say_notes(manifest)
    say(f"{file} is whole.", fg="green")
    return manifest


@contextmanager
def noted_once_complete(words: str) -> Iterator[Callable[[], None]]:
    """Add `words` to what breaks the block off after the yielded function was called: services are stopped then."""
    is_complete = False

    def complete() -> None:
        nonlocal is_complete
        is_complete = True

    try:
        yield complete
    except BaseException as error:
        if is_complete and not isinstance(error, Exception):
            error.add_note(words)
        raise


def say_contents(manifest: "Manifest") -> None:
    """Say when a backup was made and what it holds."""
    from triton_env.core.sizes import size_words
    from triton_env.services.selection import title_of

    say(one_line(f"Made {manifest.created} on the {manifest.runtime} runtime by triton-env {manifest.tool}."))
    for name, saved in manifest.services.items():
        amount = size_words(sum(member.size for member in manifest.members if member.service == name))
        contents = ", ".join(saved.contents) or "nothing"
        say(one_line(f"  {title_of(name)} {saved.version}: {contents} ({amount})"))


def say_notes(manifest: "Manifest") -> None:
    """Say what a backup does not hold."""
    for saved in manifest.services.values():
        for note in saved.notes:
            say_notice(note)
