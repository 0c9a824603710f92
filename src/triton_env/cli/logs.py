"""`logs`: what the services write."""

import sys
from typing import TYPE_CHECKING

import click

from triton_env.cli.choice import Choice, session_of
from triton_env.cli.options import environment_and_services
from triton_env.cli.output import colors_on, print_data, say_notice
from triton_env.cli.persistent import not_running, stack_of
from triton_env.cli.session import attached
from triton_env.cli.signals import Interrupted, interruptible, until_reader_leaves
from triton_env.core.forms import form_of
from triton_env.core.merging import merged

if TYPE_CHECKING:
    from triton_env.persistent.stack import Stack
    from triton_env.state.registry import Record


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Also show what they write from now on, until Ctrl-C.")
@click.option("--tail", type=click.IntRange(min=0), metavar="N", help="The last N lines of each.  [default: all]")
@environment_and_services
def command(follow: bool, tail: int | None, choice: Choice, services: tuple[str, ...]) -> int:
    """Show what the services that run here write, on standard output. Passwords are replaced by stars.

    \b
    python -m triton_env logs --tail 20
    python -m triton_env logs -f $service $other
    python -m triton_env logs ID -f $service

    ID is an id that `ps` shows; of persistent services it is their project.

    Exit status: 0; 1 where there is nothing to show, since they were never started; 130 after Ctrl-C.
    """
    try:
        with interruptible():
            if record := session_of(choice, only_looks=True):
                return _of_session(record, services, tail, follow=follow)
            with stack_of(choice, names=services) as all_services:
                there = all_services.instances()
                if absent := [name for name in services if name not in there]:
                    raise not_running(absent, all_services, choice)
                if not there:
                    raise not_running(all_services.offered(), all_services, choice)
                return _of_project(all_services, services, tail, follow=follow)
    except Interrupted as interrupted:
        return interrupted.exit_code


def _of_session(record: "Record", services: tuple[str, ...], tail: int | None, *, follow: bool) -> int:
    if not form_of(record.runtime).is_started_by_us:
        say_notice(f"the servers of the session {record.id} are external, and their logs are not here.")
    with attached(record, services, only_looks=True) as environment:
        names = environment.services
        width = max(len(name) for name in names)

        def show() -> None:
            for name, line in merged({name: environment.log_lines(name, tail, follow=follow) for name in names}):
                print_data(f"{name:<{width}}  | {line}")

        until_reader_leaves(show)
    return 0


def _of_project(all_services: "Stack", names: tuple[str, ...], tail: int | None, *, follow: bool) -> int:
    colours, are_shown = colors_on(sys.stdout), True

    def print_line(line: str) -> None:
        print_data(line, nl=False, colours=colours or None)

    def show() -> None:
        nonlocal are_shown
        are_shown = all_services.show_logs(names, follow=follow, tail=tail, color=colours, show=print_line)

    until_reader_leaves(show)
    return 0 if are_shown else 1
