"""What the plugin says about a server that died in the middle of a run: all of it once, then in one line."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from triton_env.pytest_plugin.report import DIED
from triton_env.pytest_plugin.state import State

if TYPE_CHECKING:
    import pytest

    from triton_env.errors import ServiceDied


def of(state: State, item: "pytest.Item") -> "Mapping[str, ServiceDied]":
    """The servers that a test needs and that have died, by the names of their services."""
    need = state.requirements.of(item)
    names = need.namespace | need.environment
    found: dict[str, ServiceDied] = {}
    for environment in state.running:
        for name, died in environment.deaths().items():
            # A test without a fixture of ours may use what was exported.
            if name in names or (not need and state.exported is not None):
                found[name] = died
    return found


def add_to_report(
    report: "pytest.TestReport", state: State, item: "pytest.Item", dead: "Iterable[ServiceDied]"
) -> None:
    """Add to the report on a failed test which servers have died, with their last lines where that is new."""
    known: list[dict[str, Any]] = []
    for died in dead:
        key = f"{died.service} {died.at}"
        first = state.died_in.setdefault(key, item.nodeid)
        words = f"{died.what}\n  cause: {died.cause}" if first != item.nodeid else _without_hint(died)
        if first != item.nodeid:
            words += f"\n  seen first in {first}, whose report has its last log lines"
        report.sections.append((f"triton-env: {died.what.removesuffix('.').partition(' at ')[0]}", words))
        known.append({"key": key, "what": died.what, "cause": died.cause, "test": first})
    if known:
        setattr(report, DIED, known)


def print_summary(reporter: "pytest.TerminalReporter", died: Iterable[Mapping[str, Any]]) -> None:
    """Say at the end which servers died, each once."""
    by_key: dict[str, list[Mapping[str, Any]]] = {}
    for each in died:
        by_key.setdefault(each["key"], []).append(each)
    for same in by_key.values():
        first, more = same[0], len(same) - 1
        others = f"; {more} more failed test{'s' if more > 1 else ''} needed it" if more else ""
        reporter.write_line(
            f"triton-env: {first['what'].removesuffix('.')} ({first['cause']}), seen first in {first['test']}{others}",
            red=True,
        )


def _without_hint(died: "ServiceDied") -> str:
    """All of its words but what to do: the environment is the plugin's."""
    return str(died).partition("\n\nhint: ")[0]
