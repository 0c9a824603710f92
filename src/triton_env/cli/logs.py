"""`logs`: what the persistent services write."""

import subprocess
import sys
from typing import TYPE_CHECKING

import click

from triton_env.cli.options import project_option, service_arguments
from triton_env.cli.persistent import infrastructure, not_running
from triton_env.cli.signals import Interrupted, interruptible
from triton_env.cli.words import colors_on, print_data, stop_printing

if TYPE_CHECKING:
    from triton_env.model import Program


@click.command(short_help="Show what the persistent services write.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what they write from now on, until Ctrl-C.")
@click.option("--tail", type=click.IntRange(min=0), metavar="N", help="The last N lines of each.  [default: all]")
@project_option
@service_arguments(required=False)
def command(follow: bool, tail: int | None, project: str | None, services: tuple[str, ...]) -> int:
    """Show what the persistent services write, on standard output. Passwords are replaced by stars.

    \b
    python -m triton_env logs --tail 20
    python -m triton_env logs -f postgres redis

    Exit status: 0; 1 where there is nothing to show, since they were never started; 130 after Ctrl-C.
    """
    try:
        with interruptible(), infrastructure(project) as all_services:
            there = all_services.containers()
            if absent := [name for name in services if name not in there]:
                raise not_running(absent, all_services, project)
            if not there:
                from triton_env.services import SERVICES

                raise not_running(tuple(SERVICES), all_services, project)
            program = all_services.logs(services, follow=follow, tail=tail, color=colors_on(sys.stdout))
            return _shown(program, all_services.secrets())
    except Interrupted as interrupted:
        return interrupted.exit_code


def _shown(program: "Program", secrets: frozenset[str]) -> int:
    from triton_env.redaction import redacted

    with subprocess.Popen(  # noqa: S603 - Compose, with arguments of ours
        program.argv,
        env=dict(program.environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        errors="replace",
        # Ctrl-C reaches this process alone, which ends that one.
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                print_data(redacted(line, secrets), nl=False, colours=colors_on(sys.stdout) or None)
            return 1 if process.wait() else 0
        except BrokenPipeError:
            stop_printing()
            return 0
        finally:
            # It has nothing to tidy up, and would say that it was ended.
            process.kill()
