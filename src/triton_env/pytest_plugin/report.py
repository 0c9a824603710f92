"""What the plugin adds to the report on a failed test, and to the summary at the end."""

import time
from collections.abc import Iterator, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from triton_env.pytest_plugin.options import in_order
from triton_env.pytest_plugin.state import State

if TYPE_CHECKING:
    from triton_env.environment import TritonEnvironment
    from triton_env.isolation.namespace import Namespace
    from triton_env.services import Service

KEPT = "triton_kept"
"""The attribute of a report that says which namespaces are kept, in types that pytest-xdist can send."""

DIED = "triton_died"
"""The attribute of a report that says which servers had died, in such types too."""

_BEGAN = pytest.StashKey[Any]()
"""When a test began: `evidence.Began`."""


@dataclass(frozen=True, slots=True)
class _Used:
    """What a test uses in one environment.

    Attributes:
        environment: it.
        services: bound to the test's namespace, or to the environment's own.
        namespace: in which they are; None for the environment's own.
        surely: whether the test asked for them.
    """

    environment: "TritonEnvironment"
    services: "tuple[Service, ...]"
    namespace: "Namespace | None"
    surely: bool


def note_beginning(state: State, item: pytest.Item) -> None:
    """Note when a test begins. Asks no server and no engine: it is called for every test."""
    need = state.requirements.of(item)
    if not state.running or not (need or state.exported):
        return
    from triton_env.errors import NotStarted
    from triton_env.pytest_plugin.evidence import Began

    try:
        logs = {
            (environment.id, name): environment.log_position(name)
            for environment in state.running
            for name in environment.services
            if name in need.namespace | need.environment or not need
        }
    except NotStarted:  # a test has stopped the environment; fixtures say so
        return
    item.stash[_BEGAN] = Began(time.time(), logs)


def add_to(report: pytest.TestReport, state: State, item: pytest.Item, start: float) -> None:
    """Add to the report on a failed test what the services report, and what is kept.

    Args:
        report: on the test.
        state: of the run.
        item: the test.
        start: when this phase of the test began, in seconds since the epoch.
    """
    try:
        if state.options.keep:
            _note_kept(state, item, report)
        _add_evidence(state, item, report, start)
    except Exception as error:  # a report that is not complete is better than none
        report.sections.append(("triton-env", f"(cannot be read: {type(error).__name__}: {error})"))


def _add_evidence(state: State, item: pytest.Item, report: pytest.TestReport, start: float) -> None:
    from triton_env.pytest_plugin import deaths

    dead = deaths.of(state, item)
    deaths.add_to_report(report, state, item, dead.values())
    used = list(_used(state, item, dead.keys()))
    if not used:
        return
    from triton_env.pytest_plugin import connect_hints, evidence

    began = item.stash.get(_BEGAN, None) or evidence.Began(start, {})
    sections: list[tuple[str, str]] = []
    asked: list[evidence.Question] = []
    hidden: frozenset[str] = frozenset()
    for each in used:
        # These servers are used by others too.
        secrets = connect_hints.secrets(each.services) if each.environment._mode.secrets_outlive_us else frozenset()
        hidden |= secrets
        sections.append((f"services of {_name(each)}", connect_hints.urls(each.services, secrets)))
        for service in each.services:
            asked += evidence.questions(each.environment, service, began)
    found = evidence.answers(asked, hidden)
    if found or any(each.surely for each in used):
        report.sections += [(f"triton-env: {title}", text) for title, text in sections + found]


def _note_kept(state: State, item: pytest.Item, report: pytest.TestReport) -> None:
    from triton_env.pytest_plugin import connect_hints

    kept: list[dict[str, Any]] = []
    for spaces in state.used_by(item):
        spaces.failed = True
        for part in spaces.parts:
            services = _bound(part.namespace, part.namespace.services)
            secrets = connect_hints.secrets(services) if part.environment._mode.secrets_outlive_us else frozenset()
            kept.append(
                {
                    "test": item.nodeid,
                    "id": part.namespace.id,
                    "urls": connect_hints.urls(services, secrets).splitlines(),
                    "commands": [] if secrets else connect_hints.commands(services),
                }
            )
    if kept:
        setattr(report, KEPT, kept)


class Kept:
    """Collects from the reports, those of workers too, what was kept and what has died."""

    def __init__(self, state: State) -> None:
        self._state = state

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One more report."""
        self._state.kept += getattr(report, KEPT, ())
        self._state.died += getattr(report, DIED, ())


def _used(state: State, item: pytest.Item, dead: Set[str]) -> Iterator[_Used]:
    """What a test uses, without services whose servers have died: nothing can be asked of them."""
    need = state.requirements.of(item)
    for spaces in state.used_by(item):
        for part in spaces.parts:
            # A namespace that lives longer has what other tests need as well. A test that asks while it runs is
            # the only one of its namespace.
            of_others = bool(need.namespace) and spaces.node is not item
            there = [name for name in part.namespace.services if name not in dead]
            names = [name for name in there if not of_others or name in need.namespace]
            if names:
                surely = spaces is not state.exported
                yield _Used(part.environment, _bound(part.namespace, names), part.namespace, surely)
    if need.environment:
        for environment in state.running:
            if need.environment <= set(environment.services):
                services = tuple(environment.service(name) for name in in_order(need.environment - dead))
                if services:
                    yield _Used(environment, services, None, True)
                return


def _bound(namespace: "Namespace", names: Any) -> "tuple[Service, ...]":
    return tuple(namespace.service(name) for name in names)


def _name(used: _Used) -> str:
    return f"namespace {used.namespace.id}" if used.namespace else f"environment {used.environment.id}"
