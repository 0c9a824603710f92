"""`run`: an environment around one command."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from triton_env.cli.options import runtime_option, selected, services_option
from triton_env.cli.output import say, say_error
from triton_env.cli.signals import handled_by, interruptible
from triton_env.errors import UsageError

if TYPE_CHECKING:
    from triton_env.environment import TritonEnvironment
    from triton_env.settings import Settings

_NOT_FOUND, _NOT_EXECUTABLE = 127, 126
"""As shells have it: https://pubs.opengroup.org/onlinepubs/9799919799/utilities/V3_chap02.html#tag_19_08_02"""

_OF_SHELLS = frozenset(" \t|&;<>()$`\"'*?[]{}")
"""What stands in no program's name, but in a line for a shell."""


@click.command(context_settings={"allow_interspersed_args": False})
@services_option
@runtime_option
@click.option("--isolated", is_flag=True, help="Services of its own, also where TRITON_SESSION names a session.")
@click.argument("cmd", nargs=-1, required=True, type=click.UNPROCESSED, metavar="CMD...")
def command(services: tuple[str, ...], runtime: str | None, isolated: bool, cmd: tuple[str, ...]) -> int:
    """Start the services, run CMD with their variables, and remove everything when CMD ends.

    \b
    python -m triton_env run -- pytest -q
    python -m triton_env run --services $service -- python app.py --port 8000

    What uses triton-env in CMD, such as tests with its fixtures, a TritonEnvironment() or commands like `psql`, uses
    these services too: TRITON_SESSION names them. In a shell with the variables of `env`, CMD gets those of that
    session, and nothing is started; --isolated starts others.

    CMD sees the process environment with the variables of the services on top (those that `env` prints), without those
    that would direct its clients to other servers (such as PGHOSTADDR and AWS_PROFILE). SIGINT, SIGTERM and SIGHUP
    are passed on to it.

    Exit status: that of CMD, 128 + n if signal n ended it; 127 if the command does not exist, 126 if it cannot be
    executed; 1 if a service does not come up; 130, 143 or 129 if a signal came during the start.
    """
    from triton_env.environment import TritonEnvironment
    from triton_env.settings import Settings, process_environment

    settings = Settings()
    inherited = process_environment()
    _find(cmd[0], inherited)
    with (
        interruptible(),
        TritonEnvironment(settings, services=selected(services), runtime=runtime, isolated=isolated)._held_as(
            "run"
        ) as environment,
        _given_to_command(environment, settings) as variables,
    ):
        misleading = _misleading(environment, inherited)
        if misleading:
            say(f"without {', '.join(misleading)}, which would lead {cmd[0]} to other servers, or to none", dim=True)
        kept = {name: value for name, value in inherited.items() if name not in misleading}
        status = _run(cmd, kept | variables)
        # The command may have had no better words than that a connection was refused.
        for died in environment.deaths().values() if status else ():
            say_error(died)
        return status


@contextmanager
def _given_to_command(environment: "TritonEnvironment", settings: "Settings") -> Iterator[dict[str, str]]:
    """The variables of the services, with that of the session, which is listed until the block ends."""
    from triton_env.settings.project_folders import project_root
    from triton_env.sharing.offering import VARIABLE, handed_out, offered

    if environment.id == settings.triton_session:
        yield environment.environ() | {VARIABLE: environment.id}
        return
    project = str(project_root(Path.cwd()))
    with offered(environment, held_by="run", project=project, asked_runtime=settings.triton_runtime) as record:
        yield dict(handed_out(record))


def _misleading(environment: "TritonEnvironment", inherited: Mapping[str, str]) -> list[str]:
    """The variables of this process that would keep a client from the services."""
    names = {name for service in environment.services for name in environment.service(service).misleading}
    return sorted(name for name in names & inherited.keys() if inherited[name])


def _run(cmd: tuple[str, ...], environ: Mapping[str, str]) -> int:
    """Run the command and return its exit status, passing signals on to it until it has ended."""
    passing = _PassOn()
    with handled_by(passing):
        try:
            process = subprocess.Popen(cmd, env=dict(environ))  # noqa: S603 - running what the user names is the purpose
        except OSError as error:
            raise _not_runnable(cmd[0], _NOT_EXECUTABLE, str(error)) from error
        passing.to(process)
        status = process.wait()
        return status if status >= 0 else 128 - status


class _PassOn:
    """A signal handler that passes signals on to a child process."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []

    def to(self, process: "subprocess.Popen[bytes]") -> None:
        """From now on to this process, which also gets what came before it was there."""
        self._process = process
        for number in self._early:
            process.send_signal(number)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self._process is None:
            self._early.append(number)
        elif number != signal.SIGINT or not _in_foreground():
            self._process.send_signal(number)


def _in_foreground() -> bool:
    """Whether this process and its children are in the foreground of a terminal.

    Then Ctrl-C has reached the child already: the terminal sends SIGINT to the whole foreground. A second one would
    make pytest and others break off the cleanup that the first one began.
    """
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def _find(name: str, environ: Mapping[str, str]) -> None:
    """Raise if the command does not exist: that should not take a start to find out."""
    if shutil.which(name, path=environ.get("PATH")):
        return
    if os.path.exists(name) and os.sep in name:
        raise _not_runnable(name, _NOT_EXECUTABLE, "it is there, but is not an executable file")
    raise _not_runnable(name, _NOT_FOUND, "it is not in a folder of PATH" if os.sep not in name else "no such file")


def _way_to_run(name: str) -> str:
    beside = Path(sys.executable).parent / name
    if os.sep not in name and shutil.which(beside):
        return f"this Python has it: python -m triton_env run -- {shlex.quote(str(beside))}"
    if set(name) & _OF_SHELLS:
        return f"what only a shell understands: python -m triton_env run -- sh -c {shlex.quote(name)}"
    return "install it, or give its path"


def _not_runnable(name: str, exit_code: int, cause: str) -> UsageError:
    error = UsageError(f"The command {name!r} cannot be run.", cause=cause, hint=_way_to_run(name))
    error.exit_code = exit_code
    return error
