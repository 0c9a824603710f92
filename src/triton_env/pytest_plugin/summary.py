"""What the plugin says about a run: in the header and at the end."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from triton_env._version import __version__
from triton_env.pytest_plugin.options import Options
from triton_env.services.built_in import BUILT_IN

if TYPE_CHECKING:
    import pytest

    from triton_env.environment import TritonEnvironment

Facts = Mapping[str, Any]
"""About one environment, in types that pytest-xdist can send."""


def header(options: Options) -> str:
    """The choices that are in force."""
    services = "as tests need" if options.services == BUILT_IN else f"as tests need, triton: {_words(options.services)}"
    parts = [f"runtime {options.runtime or 'as TRITON_RUNTIME says'}", f"services {services}"]
    parts.append(f"reuse {'on' if options.reuse else 'off'}")
    if options.template is not None:
        parts.append(f"template {options.template}")
    if options.scope != "function":
        parts.append(f"scope {options.scope}")
    return f"triton-env {__version__}: {', '.join(parts)}"


def facts(environments: Iterable["TritonEnvironment"]) -> list[Facts]:
    """What there is to say about environments that run. Asks the servers for their versions."""
    from triton_env.pytest_plugin.evidence import Question, answers

    found: list[Facts] = []
    for environment in environments:
        services = [environment.service(name) for name in environment.services]
        versions = answers([Question(service.title, service.server_version) for service in services])
        timeline = environment.timeline
        found.append(
            {
                "id": environment.id,
                "runtime": environment.runtime,
                "reason": environment.runtime_reason,
                "versions": [f"{title} {version.removeprefix(f'{title} ')}" for title, version in versions],
                "ready": [[name, timeline.ready_at(name)] for name in environment.services],
            }
        )
    return found


def lines_about(known: Facts) -> list[str]:
    """Facts in two lines."""
    times = [f"{name} {seconds:.1f} s" for name, seconds in known["ready"] if seconds is not None]
    ready = f"; ready after: {', '.join(times)}" if times else ""
    return [
        f"triton-env: {known['runtime']}, since {known['reason']}{ready}",
        f"triton-env: {', '.join(known['versions'])}",
    ]


def print_facts(reporter: "pytest.TerminalReporter", known: Iterable[Facts]) -> None:
    """Say what the environments were, each once."""
    ids = set()
    for each in known:
        if each["id"] not in ids:
            ids.add(each["id"])
            for line in lines_about(each):
                reporter.write_line(line)


def tell_kept(reporter: "pytest.TerminalReporter", kept: Iterable[Mapping[str, Any]]) -> None:
    """Say what was kept, how to get in, and how to remove it."""
    by_id = {each["id"]: each for each in kept}
    if not by_id:
        return
    from triton_env.core.commands import runnable

    reporter.section("kept by triton-env", sep="=")
    for each in by_id.values():
        reporter.write_line(f"{each['id']}  of {each['test']}")
        for line in (*each["urls"], *each["commands"]):
            reporter.write_line(f"  {line}")

    reporter.write_line(runnable("remove them all with: python -m triton_env prune --kept"))


def _words(services: Iterable[str]) -> str:
    return " ".join(services)
