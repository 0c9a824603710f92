"""`serve`: an environment for as long as this command runs."""

import json
import os
import socket
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from triton_env.cli.options import runtime_option, selected, services_option
from triton_env.cli.signals import Interrupted, interruptible
from triton_env.cli.words import say, say_notice, styled

if TYPE_CHECKING:
    from triton_env.environment import TritonEnvironment
    from triton_env.registry import Record
    from triton_env.services import Service

_WATCH_INTERVAL = 2
"""Seconds between two looks at whether the services still answer."""
_WATCH_TIMEOUT = 1
_LOG_LINES = 5


@click.command(short_help="Start the services and hold them until Ctrl-C.")
@services_option
@runtime_option
@click.option("--json", "as_json", is_flag=True, help="Once ready, print one line of JSON instead of the table.")
@click.option(
    "--env-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Keep the variables in this dotenv file (mode 0600) while they are valid.",
)
def command(services: tuple[str, ...] | None, runtime: str | None, as_json: bool, env_file: Path | None) -> None:
    """Start the services, print how to reach them, and hold them until Ctrl-C or SIGTERM.

    Everything is fresh, and gone in the end. Progress and words go to standard error; the table, or with --json one
    line {"id", "runtime", "services", "environ"}, goes to standard output when all services are ready. Both hold
    passwords.

    Exit status: 0 after Ctrl-C, SIGTERM or SIGHUP while serving; 130, 143 or 129 when it came during the start; 1 if a
    service does not come up; 2 for wrong use.
    """
    with interruptible():
        _serve(selected(services), runtime, as_json, env_file)


def _serve(services: tuple[str, ...], runtime: str | None, as_json: bool, env_file: Path | None) -> None:
    from triton_env.cli.connections import as_data, print_table
    from triton_env.cli.envfile import EnvFile
    from triton_env.cli.versions import server_versions
    from triton_env.environment import TritonEnvironment
    from triton_env.registry import Registry
    from triton_env.settings import Settings

    settings = Settings()
    registry = Registry.of(settings)
    # Before the start: what cannot work should not take seconds to say so.
    alive = frozenset(record.id for record in registry.running())
    file = EnvFile(env_file, alive) if env_file else None
    with TritonEnvironment(settings, services=services, runtime=runtime) as environment:
        try:
            with ExitStack() as announced:
                announced.enter_context(registry.published(_record(environment)))
                if file:
                    announced.enter_context(file.written(environment.id, environment.environ()))
                versions = server_versions(environment)
                where = f"on the {environment.runtime} runtime, since {environment.runtime_reason}."
                say(f"Ready in {environment.timeline.total:.1f} s {where}", fg="green")
                # Embedded servers are not those of the images.
                if environment.runtime == "docker" and "postgres" in services:
                    _say_end_of_life(settings.postgres_image)
                if as_json:
                    click.echo(json.dumps(as_data(environment, versions)))
                else:
                    say("")
                    print_table(environment, versions)
                    say("")
                say(f"{_ways(env_file)}\n{styled('Ctrl-C stops and removes everything.', bold=True)}")
                _hold(environment)
        except Interrupted as interrupted:
            # Also one that came before `_hold`: whoever saw the file or the record may take it from there.
            began = time.monotonic()
            say(f"\nStopping ({interrupted.signal_name}) ...")
    say(f"Stopped in {time.monotonic() - began:.1f} s. Nothing is left.")


def _record(environment: "TritonEnvironment") -> "Record":
    from triton_env.registry import Record

    return Record(
        id=environment.id,
        runtime=environment.runtime,
        pid=os.getpid(),
        project=str(Path.cwd()),
        started=time.time(),
        services=environment.services,
        environ=environment.environ(),
    )


def _say_end_of_life(postgres_image: str) -> None:
    from triton_env.cli.support import MOVE_ON, postgres_end_of_life

    if ended := postgres_end_of_life(postgres_image):
        say_notice(f"{ended}; {MOVE_ON}.")


def _ways(env_file: Path | None) -> str:
    if env_file:
        return f"Variables: in {env_file}, or: python -m triton_env env"
    return 'Variables for another shell: eval "$(python -m triton_env env --format shell)"'


def _hold(environment: "TritonEnvironment") -> NoReturn:
    """Until a signal comes, say when a service stops answering, and when it answers again."""
    silent: set[str] = set()
    while True:
        time.sleep(_WATCH_INTERVAL)
        for name in environment.services:
            service = environment.service(name)
            if _answers(service):
                if name in silent:
                    say(f"{service.title} answers again.", fg="green")
                    silent.discard(name)
            elif name not in silent:
                silent.add(name)
                say_notice(f"{service.title} does not answer any more at {service.host}:{service.port}.")
                if log := environment.logs(name, _LOG_LINES).strip():
                    say("  its last log lines:\n    " + log.replace("\n", "\n    "), dim=True)


def _answers(service: "Service") -> bool:
    try:
        with socket.create_connection((service.host, service.port), _WATCH_TIMEOUT):
            return True
    except OSError:
        return False
