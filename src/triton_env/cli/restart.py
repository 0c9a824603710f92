"""`restart`: restart services."""

import time
from typing import TYPE_CHECKING

import click

from triton_env.cli.choice import Choice, session_of
from triton_env.cli.options import environment_and_required_services
from triton_env.cli.output import say
from triton_env.cli.persistent import ended_by_signals, not_running, stack_of, titles
from triton_env.cli.session import check_has

if TYPE_CHECKING:
    from triton_env.state.registry import Record


@click.command()
@environment_and_required_services
def command(choice: Choice, services: tuple[str, ...]) -> None:
    """Restart persistent services, or those of the environment that is named, and return as soon as they answer again.

    \b
    python -m triton_env restart $other
    python -m triton_env restart $service $other
    python -m triton_env restart ID $other

    ID is an id that `ps` shows; of persistent services it is their project.
    Addresses and passwords stay the same, so clients reconnect on the same URL. A service that had stopped is started.
    The data of persistent services stays. What a service of a session has in memory alone is gone, as in a crash; with
    TRITON_STORAGE=memory or in a cluster that may be all.

    Exit status: 0 when they answer; 1 if one does not, or was never started; 2 for wrong use; 130 after Ctrl-C.
    """
    if choice.session and (record := session_of(choice)):
        check_has(record, services)
        with ended_by_signals("They are restarted all the same."):
            _in_session(record, services)
        return
    with (
        stack_of(choice, "restart", services) as all_services,
        ended_by_signals(f"See what runs: python -m triton_env status{choice.option}"),
    ):
        there = all_services.instances()
        if absent := [name for name in services if name not in there]:
            raise not_running(absent, all_services, choice, "restart")
        say(f"Restarting {titles(services)} ...")
        all_services.restart(services, _say_ready)


def _in_session(record: "Record", services: tuple[str, ...]) -> None:
    from triton_env.core.threads import for_each
    from triton_env.settings import Settings
    from triton_env.steering import act

    settings = Settings()

    def restarted(name: str) -> None:
        began = time.monotonic()
        act(settings, record.id, "restart", service=name)
        _say_ready(name, time.monotonic() - began)

    say(f"Restarting {titles(services)} of the session {record.title} ...")
    for_each(services, restarted, len(services))


def _say_ready(name: str, seconds: float) -> None:
    say(f"{titles([name])} answers again after {seconds:.1f} s.", fg="green")
