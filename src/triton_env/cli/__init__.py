"""The command line. Each command is a module here, loaded when it is used.

Data goes to standard output, words to standard error. Exit status: 0 good, 1 the environment failed, 2 wrong use,
130 Ctrl-C (128 + n for signal n); `run` passes on that of its command. A reader of standard output that has closed it
(`| head`) is not a failure.

What is imported at the top of these modules decides how long `--help` takes: click and modules like it, but nothing
that loads settings, drivers, rich or the Docker SDK.
"""

import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

import click

from triton_env._version import __version__
from triton_env.cli.output import (
    open_streams,
    reader_is_gone,
    say_error,
    say_interrupted,
    say_notice,
    say_unexpected,
    stop_printing,
)
from triton_env.cli.signals import Interrupted, ctrl_c_raises
from triton_env.core.shortages import exhausted
from triton_env.errors import TritonError
from triton_env.services import built_in

if TYPE_CHECKING:
    from triton_env.services.base_shell import Shell

_COMMANDS: Mapping[str, str] = {
    "serve": "Start the services and keep them running until Ctrl-C.",
    "env": "Print the variables of the environment that runs here.",
    "run": "Start the services around one command.",
    "up": "Start the persistent services and leave them running.",
    "down": "Stop the persistent services; their data stays.",
    "ps": "List the environments that run.",
    "top": "Show all services live, with keys to steer them.",
    "stop": "End sessions and shared environments.",
    "dashboard": "Show what runs on a page of this machine.",
    "status": "Show the state of the services.",
    "logs": "Show what the services write.",
    "restart": "Restart services and wait until they answer.",
    "backup": "Save what the services hold to one file.",
    "restore": "Replace the contents of the services with a backup.",
    "reset": "Destroy the persistent services with their data.",
    "manifests": "Print what runs the services in a cluster, as YAML.",
    "prune": "Remove what killed processes left.",
    "mcp": "Let agents look into environments, and steer them.",
    "doctor": "Check what a start needs: settings, engine, images, ports, ...",
}
"""What each does, in the order in which people need them. `NAME` is the function `command` of the module
`triton_env.cli.NAME`."""
_BEFORE_SHELLS = "reset"


def commands() -> dict[str, str]:
    """All commands, in the order in which people need them, and what each does; loads the shells of services."""
    names = list(_COMMANDS)
    place = names.index(_BEFORE_SHELLS) + 1
    of_shells = {shell.command: shell.summary for _, shell in built_in.shells()}
    return {name: of_shells.get(name) or _COMMANDS[name] for name in (*names[:place], *of_shells, *names[place:])}


def _shells() -> "Iterator[tuple[str, Shell]]":
    """Services and their shells; those of other distributions last, since these have to be loaded."""
    yield from built_in.shells()
    from triton_env.services.registry import SERVICES

    for name in SERVICES.usable():
        if name not in built_in.BUILT_IN and (shell := SERVICES[name].parts.load("way_in")):
            yield name, shell


class _PipeBroken(Exception):
    """A pipe or socket has lost its reader. Click would end silently there, also where it is one of a server's.

    Args:
        error: what Python raised.
    """

    def __init__(self, error: BrokenPipeError) -> None:
        super().__init__(str(error))
        self.error = error


@contextmanager
def _kept_from_click() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as error:
        raise _PipeBroken(error) from error


class _Commands(click.Group):
    """Loads commands lazily, and turns every way to fail into words and an exit status."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        with _kept_from_click():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with _kept_from_click():
            return super().invoke(ctx)

    def list_commands(self, context: click.Context) -> list[str]:
        return list(commands())

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name in _COMMANDS:
            command: click.Command = import_module(f"triton_env.cli.{name}").command
            command.short_help = _COMMANDS[name]
            return command
        for service, shell in _shells():
            if shell.command == name:
                from triton_env.cli.shells import command_of

                return command_of(service, shell)
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # click would load all of them.
        with formatter.section("Commands"):
            formatter.write_dl(list(commands().items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        # Click suggests those that are loaded, which is none.
        if not (args[0].startswith("-") or ctx.resilient_parsing or self.get_command(ctx, args[0])):
            from triton_env.cli.options import guess

            raise click.UsageError(f"No such command {args[0]!r}.{guess(args[0], tuple(commands()))}", ctx)
        name, command, rest = super().resolve_command(ctx, args)
        # `doctor` lists them with all else. Help takes no settings, which take long to load.
        if name != "doctor" and not {"-h", "--help"} & set(rest):
            from triton_env.settings.unknown_variables import warn_of_misspelt

            warn_of_misspelt(say_notice)
        return name, command, rest

    def main(  # type: ignore[override] # never returns, whatever standalone_mode says
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        **extra: Any,
    ) -> NoReturn:
        extra.pop("standalone_mode", None)
        open_streams()
        # As requests has it. Its own filter is lost where another thread loads a driver at that moment.
        warnings.filterwarnings("ignore", "SOCKS support in urllib3")
        try:
            with ctrl_c_raises():
                answer = super().main(args, prog_name, standalone_mode=False, **extra)
        except click.ClickException as error:
            error.show()
            code = error.exit_code
        except TritonError as error:
            say_error(error)
            code = error.exit_code
        except Interrupted as interrupted:
            say_interrupted(interrupted.signal_name, interrupted)
            code = interrupted.exit_code
        except (click.Abort, KeyboardInterrupt) as interruption:
            # Commands that start something handle signals by themselves, as long as there is something to stop.
            say_interrupted("Ctrl-C", interruption, "")
            code = 130
        except _PipeBroken as broken:
            if reader_is_gone():
                stop_printing()
                code = 0
            else:
                say_unexpected(broken.error)
                code = 1
        except Exception as error:
            if shortage := exhausted(error, "The command failed."):
                say_error(shortage)
            else:
                say_unexpected(error)
            code = 1
        else:
            code = answer if isinstance(answer, int) else 0
        sys.exit(code)


_HELP = f"""\
Real services for tests, notebooks and daily development: {", ".join(built_in.BUILT_IN)}.

\b
until Ctrl-C:       python -m triton_env serve
in another shell:   eval "$(python -m triton_env env --format shell)"
for one command:    python -m triton_env run -- pytest
for daily work:     python -m triton_env up

Settings come from the process environment and from .env of the project. What each means is in .env.example, of an
installed package in triton_env/compose.

Exit status: 0 good, 1 the environment failed, 2 wrong use, 130 Ctrl-C; `run` passes on that of its command.
"""


@click.group(
    cls=_Commands, help=_HELP, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, "-V", "--version", package_name="triton-env", message="triton-env %(version)s")
def command_line() -> None:
    """The command line."""
