"""`up`: start the persistent services and leave them running."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from triton_env.cli.choice import Choice, settings_for
from triton_env.cli.options import named_services, persistent_options, persistent_runtime_option
from triton_env.cli.output import say, say_notice, styled
from triton_env.cli.persistent import ended_by_signals, named_or_offered, stack_of, titles
from triton_env.core.forms import Form, form_of, suits

if TYPE_CHECKING:
    from triton_env.persistent.instance import Instance
    from triton_env.persistent.stack import Stack


@click.command()
@persistent_options("up")
@persistent_runtime_option
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON instead of the table.")
@named_services
def command(services: tuple[str, ...], choice: Choice, runtime: str | None, as_json: bool) -> None:
    """Start the persistent services, and return as soon as they answer.

    \b
    python -m triton_env up
    python -m triton_env up $service $other
    python -m triton_env up --project other
    python -m triton_env up --runtime kubernetes

    On Docker these are the services of docker-compose.yml, and their data stays in volumes; without it they are
    processes, and their data is in a folder of this project; in a cluster they are StatefulSets, and their data is in
    claims. Later commands find them there. What runs already is left as it is, or replaced where the settings have
    changed; what is missing is started. It is fine to run this again at any time.

    The table, or with --json one line {"id", "runtime", "services", "environ", "started", "replaced", "running"}, goes
    to standard output. Both hold passwords.

    Exit status: 0 when all of them answer; 1 if one does not come up; 2 for wrong use; 130 after Ctrl-C, and what this
    call had started is stopped again.
    """
    from triton_env.attached import ProjectEnvironment
    from triton_env.cli.connections import as_data, print_table
    from triton_env.cli.elsewhere import evaluated, for_persistent, variables_of_persistent
    from triton_env.cli.images import say_notices
    from triton_env.cli.versions import server_versions

    choice = replace(choice, runtime=runtime or "")
    settings = settings_for(choice)
    with (
        ended_by_signals("What this call had started is stopped again; the data stays."),
        stack_of(choice, names=services, starts=True) as stack,
    ):
        names = named_or_offered(services, stack)
        before = _running(stack)
        with ProjectEnvironment(stack, settings, names)._held_as("up") as environment:
            versions = server_versions(environment)
            data = as_data(environment, versions)
            running = [environment.service(name) for name in environment.services]
            groups = _groups(names, before, _running(stack))
            # Before anything is printed: they keep running if the reader is gone.
            environment.detach()
    say(stack.place)
    _say_hidden(stack.runtime)
    say(f"Ready in {environment.timeline.total:.1f} s. {_in_words(groups)}", fg="green")
    if form_of(stack.runtime) is Form.CONTAINER:
        say_notices(names, settings)
    if as_json:
        click.echo(json.dumps(data | groups))
    else:
        say("")
        print_table(running, versions)
        say("")
    say(
        f"Variables for a shell: {evaluated(variables_of_persistent(settings, 'shell'))}\n"
        + styled(f"They keep running. Stop them with: {for_persistent(settings, 'down')}", bold=True)
    )


def _say_hidden(runtime: str) -> None:
    """Say it where other commands do not look at what was started, since TRITON_RUNTIME has another runtime."""
    from triton_env.settings import Settings

    named = Settings().triton_runtime
    if not suits(runtime, named):
        say_notice(
            f"other commands look at the runtime {named}, which TRITON_RUNTIME names. Unset it, or set it to {runtime}."
        )


def _running(stack: "Stack") -> "Mapping[str, Instance]":
    return {name: instance for name, instance in stack.instances().items() if instance.running}


def _groups(
    names: tuple[str, ...], before: "Mapping[str, Instance]", now: "Mapping[str, Instance]"
) -> dict[str, list[str]]:
    """What became of each service."""
    groups: dict[str, list[str]] = {"started": [], "replaced": [], "running": []}
    for name in names:
        if name not in before:
            groups["started"].append(name)
        elif name in now and now[name].id == before[name].id:
            groups["running"].append(name)
        else:
            groups["replaced"].append(name)
    return groups


def _in_words(groups: Mapping[str, list[str]]) -> str:
    if not groups["started"] and not groups["replaced"]:
        return f"{titles(groups['running'])} {_was(groups['running'])} running already."
    changed = "replaced, since the settings have changed"
    words = {"started": "started", "replaced": changed, "running": "running already"}
    return " ".join(f"{titles(each)} {_was(each)} {words[group]}." for group, each in groups.items() if each)


def _was(names: list[str]) -> str:
    return "was" if len(names) == 1 else "were"
