"""`serve`: an environment for as long as this command runs."""

import json
import socket
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from triton_env.cli.options import named_services, runtime_option, selected
from triton_env.cli.output import say, say_notice, styled
from triton_env.cli.signals import Interrupted, interruptible
from triton_env.core.forms import form_of
from triton_env.errors import TritonError

if TYPE_CHECKING:
    from triton_env.dashboard.serving import Serving
    from triton_env.environment import TritonEnvironment
    from triton_env.services import Service
    from triton_env.settings import Settings

_WATCH_INTERVAL = 2
"""Seconds between two looks at whether the services still answer."""
_WATCH_TIMEOUT = 1
_LOG_LINES = 5
_END = {
    False: "Ctrl-C stops and removes everything.",
    True: "Ctrl-C leaves them to others who use them; without any, they are stopped and removed.",
    None: "Ctrl-C ends this command. The servers were not started by triton-env, and keep running.",
}
"""What Ctrl-C does, by whether the services are shared; None where they are not ours."""


@click.command()
@runtime_option
@click.option("--json", "as_json", is_flag=True, help="Once ready, print one line of JSON instead of the table.")
@click.option(
    "--env-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Keep the variables in this dotenv file (mode 0600) while they are valid.",
)
@click.option("--reuse", is_flag=True, help="Share them with other processes that ask for the same.")
@click.option("--dashboard", is_flag=True, help="Also serve the page that shows what runs; see `dashboard`.")
@named_services
def command(
    services: tuple[str, ...], runtime: str | None, as_json: bool, env_file: Path | None, reuse: bool, dashboard: bool
) -> None:
    """Start the services, print how to connect, and keep them running until Ctrl-C or SIGTERM.

    Everything is created for this command, and removed at the end. With --reuse the services are shared with other
    processes, such as tests, notebooks and programs with reuse=True; they end TRITON_LINGER seconds after the last one.

    Progress and messages go to standard error; the table, or with --json one
    line {"id", "runtime", "services", "environ"}, goes to standard output when all services are ready. Both hold
    passwords. The URL of --dashboard is a message, and "dashboard" in that line.

    A server that dies is reported, with its exit status and its last log lines. The others keep running; when none
    is left, the command ends.

    Exit status: 0 after Ctrl-C, SIGTERM or SIGHUP while serving; 130, 143 or 129 if it came during the start; 1 if a
    service does not come up, or all have died; 2 for wrong use.
    """
    with interruptible():
        _serve(selected(services), runtime, as_json, env_file, reuse, dashboard)


def _serve(
    services: tuple[str, ...], runtime: str | None, as_json: bool, env_file: Path | None, reuse: bool, dashboard: bool
) -> None:
    from triton_env.cli.connections import as_data, print_table
    from triton_env.cli.envfile import EnvFile
    from triton_env.cli.images import say_notices
    from triton_env.cli.versions import server_versions
    from triton_env.environment import TritonEnvironment
    from triton_env.settings import Settings
    from triton_env.settings.project_folders import project_root
    from triton_env.sharing.offering import VARIABLE, handed_out, offered
    from triton_env.state.registry import Registry

    settings = Settings()
    page = _page(settings) if dashboard else None
    registry, project = Registry.of(settings), str(project_root(Path.cwd()))
    # Before the start: what cannot work should not take seconds to say so.
    alive = frozenset(record.id for record in registry.running())
    file = EnvFile(env_file, alive) if env_file else None
    environment = TritonEnvironment(settings, services=services, runtime=runtime, reuse=reuse, isolated=True)
    with environment._held_as("serve"):
        shared = reuse if environment._mode.servers_are_ours else None
        try:
            with ExitStack() as announced:
                if shared:  # it is listed by its keeper
                    identity, variables = environment.id, {**environment.environ(), VARIABLE: environment.id}
                else:
                    record = announced.enter_context(
                        offered(environment, held_by="serve", project=project, asked_runtime=settings.triton_runtime)
                    )
                    identity, variables = record.id, dict(handed_out(record))
                if file:
                    announced.enter_context(file.written(identity, variables))
                versions = server_versions(environment)
                # Once is enough: it is news where the runtime is not that of the last time.
                reason = environment.runtime_reason
                is_said = settings.triton_progress != "off" and any(
                    reason in each for each in environment._running().said
                )
                why = "" if is_said else f", since {reason}"
                say(
                    f"Ready in {environment.timeline.total:.1f} s on the {environment.runtime} runtime{why}.",
                    fg="green",
                )
                # Embedded servers are not those of the images.
                if form_of(environment.runtime).has_image:
                    say_notices(services, settings)
                shown = {"dashboard": announced.enter_context(page).url} if page else {}
                if as_json:
                    data = as_data(environment, versions) | {"id": identity, "environ": variables} | shown
                    click.echo(json.dumps(data))
                else:
                    say("")
                    print_table([environment.service(name) for name in environment.services], versions)
                    say("")
                if page:
                    say(f"Dashboard: {page.url}")
                say(f"{_ways(settings, identity, env_file)}\n{styled(_END[shared], bold=True)}")
                _hold(environment)
        except Interrupted as interrupted:
            # Also one that came before `_hold`: a program that saw the file or the record may send it.
            began = time.monotonic()
            say(f"\nStopping ({interrupted.signal_name}) ...")
    if shared is None:
        say("Ended. The servers keep running.")
    elif shared:
        say(f"Left. The services end {settings.triton_linger:g} s after the last process that uses them.")
    else:
        say(f"Stopped in {time.monotonic() - began:.1f} s. Nothing is left.")


def _page(settings: "Settings") -> "Serving":
    """The dashboard, not served yet: what it lacks is reported before the start."""
    from triton_env.dashboard.extra import check_installed

    check_installed()
    from triton_env.dashboard.serving import Serving

    return Serving(settings)


def _ways(settings: "Settings", environment: str, env_file: Path | None) -> str:
    from triton_env.cli.elsewhere import evaluated, variables_of_session

    if env_file:
        return f"Variables: in {env_file.absolute()}, or: {variables_of_session(settings, environment)}"
    return f"Variables for another shell: {evaluated(variables_of_session(settings, environment, 'shell'))}"


def _hold(environment: "TritonEnvironment") -> NoReturn:
    """Until a signal comes, say when a service stops answering, and when it responds again.

    Raises:
        ServiceDied: all of them have died, so there is nothing left to hold.
    """
    silent: set[str] = set()
    dead: set[str] = set()
    restarting: set[str] = set()
    liveness = environment._running().liveness
    while True:
        time.sleep(_WATCH_INTERVAL)
        for name in environment.services:
            service = environment.service(name)
            if liveness.is_restarting(name):
                if name not in restarting:
                    restarting.add(name)
                    say(f"{service.title} is being restarted, as another process asked.")
                continue
            restarting.discard(name)
            if _answers(service):
                if name in silent:
                    say(f"{service.title} responds again.", fg="green")
                    silent.discard(name)
                    dead.discard(name)
            elif name not in silent:
                silent.add(name)
                if died := environment.deaths().get(name):
                    dead.add(name)
                    if dead == set(environment.services):
                        raise died
                    say_notice(f"{died.what.removesuffix('.')}: {died.cause}. The other services keep running.")
                else:
                    say_notice(f"{service.title} no longer responds at {service.host}:{service.port}.")
                if log := _log(environment, name):
                    say("  its last log lines:\n    " + log.replace("\n", "\n    "), dim=True)


def _log(environment: "TritonEnvironment", name: str) -> str:
    """The last lines of a service's log, or why they cannot be read: an engine that is away ends nothing."""
    try:
        return environment.logs(name, _LOG_LINES).strip()
    except TritonError as error:
        return f"{error.what} {error.cause}".strip()


def _answers(service: "Service") -> bool:
    try:
        with socket.create_connection((service.host, service.port), _WATCH_TIMEOUT):
            return True
    except OSError:
        return False
