"""`status`: how the services are."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import click

from triton_env.cli.choice import Choice, environments_here, session_of, sessions_elsewhere
from triton_env.cli.options import environment_and_services
from triton_env.cli.output import say, say_notice
from triton_env.cli.persistent import stack_of
from triton_env.cli.session import attached
from triton_env.cli.signals import Interrupted, interruptible, until_reader_leaves
from triton_env.cli.tables import WATCH_INTERVAL, Column, print_table, watch_table
from triton_env.core.printable import one_line
from triton_env.core.sizes import memory_words

if TYPE_CHECKING:
    from rich.text import Text

    from triton_env.core.usage import Usage
    from triton_env.state.registry import Record
    from triton_env.status import ServiceStatus, UnfinishedRestore

_COLUMNS = (
    Column("service"),
    Column("state"),
    Column("health", has_words=True),
    Column("ports"),
    Column("version", rank=1),
    Column("up", right=True, rank=2),
    Column("cpu", right=True, rank=3),
    Column("memory", rank=4),
)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON instead of the table.")
@click.option("-w", "--watch", is_flag=True, help="Look again every 2 s until Ctrl-C.")
@environment_and_services
def command(choice: Choice, as_json: bool, watch: bool, services: tuple[str, ...]) -> int:
    """Show the state of the services that run here. Each is asked as a client would ask it.

    \b
    python -m triton_env status
    python -m triton_env status --watch $service $other
    python -m triton_env status ID

    ID is an id that `ps` shows; of persistent services it is their project.
    If a session and the persistent services run here, there is a table of each; --json and --watch need one of them.
    --watch ends with the session that it shows.

    The line of --json is {"project", "session", "runtime", "healthy", "services", "restore"}, with the facts about each
    service by its name. With --watch the table is kept up to date on a terminal; elsewhere there is a new one, or a new
    line, each time.

    A server whose database or bucket was removed is healthy: `up` makes it again, empty. A restore that was interrupted
    makes its services unhealthy until `up` has finished it or taken it back, and so do remains of a restore whose
    journal is gone, until you remove them; with --json, "restore" says so.

    Exit status: 0 if all services answer, else 1; with --watch 0 after Ctrl-C or the end of the session.
    """
    if watch:
        try:
            # From the beginning: what it needs takes a moment to load.
            with (
                suppress(Interrupted),
                interruptible(),
                _found(session_of(choice, only_looks=True), choice, services) as found,
            ):
                until_reader_leaves(lambda: _watch(found, as_json))
        except _Ended as end:
            say(str(end))
        return 0
    if as_json:
        with _found(session_of(choice, only_looks=True), choice, services) as found:
            statuses = found.statuses()
            restore = _print_json(found, statuses)
            _say_restore(restore)
            return 0 if all(status.healthy for status in statuses) else 1
    is_healthy = True
    for record in environments_here(choice, only_looks=True):
        with _found(record, choice, services) as found:
            if found.place:
                say(found.place)
            looked = found.statuses()
            print_table(_COLUMNS, _rows(looked), found.title)
            is_healthy = is_healthy and all(status.healthy for status in looked)
            _say_restore(found.restore(looked))
    for line in sessions_elsewhere().splitlines():
        say(line, dim=True)
    return 0 if is_healthy else 1


@dataclass(frozen=True, slots=True)
class _Found:
    """An environment that is looked at.

    Attributes:
        title: of its table.
        about: what --json has about the whole.
        statuses: looks at its services.
        restore: looks for an unfinished restore.
        ended: which has ended, in words; empty while it goes on. Persistent services may be started again.
        place: what decides how they run, in words; empty for a session.
    """

    title: str
    about: dict[str, str | None]
    statuses: "Callable[[], Sequence[ServiceStatus]]"
    restore: "Callable[[Sequence[ServiceStatus]], UnfinishedRestore | None]"
    ended: Callable[[], str] = lambda: ""
    place: str = ""

    def looked(self) -> "Sequence[ServiceStatus]":
        """How its services are, again and again.

        Raises:
            _Ended: it has ended.
            TritonError: it cannot be looked at.
        """
        try:
            return self.statuses()
        finally:
            # Its servers go before it is taken off the list: what such a look has found is not worth showing.
            if words := self.ended():
                raise _Ended(words)


class _Ended(Exception):
    """The environment that is watched has ended; what happened, in words."""


@contextmanager
def _found(record: "Record | None", choice: Choice, names: tuple[str, ...]) -> Iterator[_Found]:
    if record:
        with attached(record, names, only_looks=True) as environment:
            about = {"project": None, "session": record.id, "runtime": record.runtime}
            title = f"session {record.place}"
            yield _Found(title, about, environment.status, environment.unfinished_restore, lambda: _ended(record))
        return
    with stack_of(choice, names=names) as services:

        def statuses() -> "Sequence[ServiceStatus]":
            return [status for status in services.status() if not names or status.name in names]

        about = {"project": services.project, "session": None, "runtime": services.runtime}
        title = f"project {services.project}"
        yield _Found(title, about, statuses, services.unfinished_restore, place=services.place)


def _ended(record: "Record") -> str:
    from triton_env.settings import Settings
    from triton_env.state.registry import Registry

    return "" if record.id in Registry.of(Settings()).living() else f"The session {record.id} has ended."


def _print_json(found: _Found, statuses: "Sequence[ServiceStatus]") -> "UnfinishedRestore | None":
    restore = found.restore(statuses)
    about = found.about | {
        "healthy": all(status.healthy for status in statuses),
        "services": {status.name: _facts(status) for status in statuses},
        "restore": restore.words if restore else None,
    }
    click.echo(json.dumps(about))
    return restore


def _say_restore(restore: "UnfinishedRestore | None") -> None:
    """What is to be done about one that was not finished, on stderr, where it does not mix with data."""
    if restore:
        say_notice(f"{restore.words}{f'; do it with: {restore.hint}' if restore.hint else ''}.")


def _watch(found: _Found, as_json: bool) -> NoReturn:
    if not as_json:
        watch_table(_COLUMNS, lambda: _rows(found.looked()), found.title)
    while True:
        _print_json(found, found.looked())
        sys.stdout.flush()
        time.sleep(WATCH_INTERVAL)


def _facts(status: "ServiceStatus") -> dict[str, Any]:
    instance, service, usage = status.instance, status.service, status.usage
    return {
        "state": status.state,
        "healthy": status.healthy,
        "problem": status.problem or None,
        "missing": status.missing or None,
        "docker_health": (instance.health or None) if instance else None,
        "container": instance.name if instance and instance.pid is None else None,
        "process": instance.pid if instance else None,
        "image": instance.image if instance else None,
        "host": service.host if service else None,
        "ports": {name: at.port for name, at in service.placement.endpoints.items()} if service else {},
        "version": status.version or None,
        "uptime_seconds": round(status.uptime, 1) if status.uptime is not None else None,
        "cpu_percent": round(usage.cpu_percent, 1) if usage else None,
        "memory_bytes": usage.memory if usage else None,
        "memory_limit_bytes": usage.memory_limit if usage else None,
        "restarts": instance.restarts if instance else None,
    }


def _rows(statuses: "Sequence[ServiceStatus]") -> "list[list[Text]]":
    from rich.text import Text

    rows: list[list[Text]] = []
    for status in statuses:
        facts, usage = _facts(status), status.usage
        rows.append(
            [
                Text(status.title, style="bold"),
                Text(status.state, style="green" if status.state == "running" else "red"),
                _health(status),
                Text(", ".join(str(port) for port in facts["ports"].values())),
                Text(status.version),
                Text(duration(status.uptime)),
                Text(f"{usage.cpu_percent:.1f} %" if usage else ""),
                Text(_memory(usage) if usage else ""),
            ]
        )
    return rows


def _memory(usage: "Usage") -> str:
    limit = f" of {memory_words(usage.memory_limit)}" if usage.memory_limit else ""
    return memory_words(usage.memory) + limit


def _health(status: "ServiceStatus") -> "Text":
    from rich.text import Text

    restarts = status.instance.restarts if status.instance else 0
    again = f", restarted {restarts} {'time' if restarts == 1 else 'times'}" if restarts else ""
    if status.healthy:
        docker = status.instance.health if status.instance else ""
        # Docker asks every few seconds alone; what it says of one that answers may be old.
        late = f" (Docker says {docker})" if docker == "unhealthy" and not status.missing else ""
        if status.missing:
            # That of a session is gone for good.
            next_step = ", and `up` makes it again, empty" if status.instance and status.instance.ours else ""
            again += f"; its {one_line(status.missing)} was removed{next_step}"
        return Text(f"healthy{late}{again}", style="yellow" if status.missing else "green")
    problem = f"unhealthy: {status.problem}" if status.state == "running" else status.problem
    return Text(one_line(problem) + again, style="red")


def duration(seconds: float | None) -> str:
    """Seconds in words of two units at most; empty where they are not known."""
    if seconds is None:
        return ""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [f"{days} d" if days else "", f"{hours} h" if hours else "", f"{minutes} min" if minutes else ""]
    shown = [part for part in parts if part][:2]
    return " ".join(shown) if shown else f"{rest} s"
