"""`restart`: restart persistent services."""

import click

from triton_env.cli.choice import Choice
from triton_env.cli.options import persistent_options, required_services
from triton_env.cli.output import say
from triton_env.cli.persistent import ended_by_signals, not_running, stack_of, titles


@click.command()
@persistent_options("restart")
@required_services
def command(choice: Choice, services: tuple[str, ...]) -> None:
    """Restart persistent services, and return as soon as they answer again.

    \b
    python -m triton_env restart $other
    python -m triton_env restart $service $other

    Data and addresses stay the same, so clients reconnect on the same URL. A service that had stopped is started.

    Exit status: 0 when they answer; 1 if one does not, or was never started; 2 for wrong use; 130 after Ctrl-C.
    """
    with (
        stack_of(choice, "restart", services) as all_services,
        ended_by_signals(f"See what runs: python -m triton_env status{choice.option}"),
    ):
        there = all_services.instances()
        if absent := [name for name in services if name not in there]:
            raise not_running(absent, all_services, choice, "restart")
        say(f"Restarting {titles(services)} ...")
        all_services.restart(
            services, lambda name, seconds: say(f"{titles([name])} answers again after {seconds:.1f} s.", fg="green")
        )
