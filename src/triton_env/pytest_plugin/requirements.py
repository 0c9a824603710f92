"""Which services tests need, known before the start from the fixtures that they ask for and from their markers."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from triton_env.pytest_plugin.options import Options, services_of, template_of
from triton_env.services.built_in import BUILT_IN

if TYPE_CHECKING:
    from _pytest.nodes import Node

    from triton_env.services.base_fixtures import Fixtures

MARKER = "triton"
MARKER_LINE = f"{MARKER}(services=..., template=...): the services and the template of this test's namespace"

ENVIRONMENT = "triton_env"
NAMESPACE = "triton"
"""These stand for the services of the marker, or else of the configuration."""
PREFIX = "triton_"
ASYNC = "_async"
"""How fixtures that stand for one service begin, and how those for asynchronous tests end."""
KNOWN: "dict[str, Fixtures]" = {}
"""The services that have such fixtures: those that come with triton-env, and those whose plugins are loaded."""

ARGUMENTS = ("services", "template")
"""What the marker takes."""


@dataclass(frozen=True, slots=True)
class Marks:
    """What markers say.

    Attributes:
        services: the names of services; empty where nothing is said.
        template: a folder, `module:callable`, a callable or a `triton_env.Template`; None where nothing is said.
    """

    services: tuple[str, ...] = ()
    template: Any = None


def marks_of(node: "Node") -> Marks:
    """What the markers of a test, class or module say; the nearest has the last word.

    Raises:
        pytest.UsageError: a marker has arguments that there are not, or values that cannot be used.
    """
    services: tuple[str, ...] = ()
    template: Any = None
    for mark in node.iter_markers(MARKER):
        where = f"{node.nodeid}: @pytest.mark.{MARKER}"
        unknown = [repr(value) for value in mark.args]
        unknown += [f"{name}=" for name in mark.kwargs if name not in ARGUMENTS]
        if unknown or not mark.kwargs:
            raise pytest.UsageError(
                f"{where} cannot take {', '.join(unknown) or 'nothing at all'}."
                f" Allowed: {', '.join(f'{name}=' for name in ARGUMENTS)}."
            )
        if "services" in mark.kwargs and not services:
            services = services_of(f"{where}(services=)", mark.kwargs["services"])
            if not services:
                raise pytest.UsageError(f"{where}(services=) names no services. Allowed: any of {', '.join(BUILT_IN)}.")
        if mark.kwargs.get("template") is not None and template is None:
            template = mark.kwargs["template"]
            if isinstance(template, str):
                template = template_of(f"{where}(template=)", template, (node.config.rootpath,))
            elif not isinstance(template, Path) and not callable(template) and not hasattr(template, "build"):
                raise pytest.UsageError(
                    f"{where}(template=) cannot be {template!r}."
                    " Allowed: a folder, module:callable, a callable, a Template."
                )
    return Marks(services, template)


@dataclass(frozen=True, slots=True)
class Requirement:
    """The services that are needed in a namespace, and those that are needed of the environment itself."""

    namespace: frozenset[str] = frozenset()
    environment: frozenset[str] = frozenset()

    def __or__(self, other: "Requirement") -> "Requirement":
        return Requirement(self.namespace | other.namespace, self.environment | other.environment)

    def __bool__(self) -> bool:
        return bool(self.namespace or self.environment)


def _service_of(fixture: str) -> str:
    """The service that a fixture stands for; empty where it is another fixture."""
    name = fixture.removeprefix(PREFIX)
    name = name if name in KNOWN else name.removesuffix(ASYNC)
    return name if name in KNOWN and fixture.startswith(PREFIX) else ""


def requirement_of(item: pytest.Item, options: Options) -> Requirement:
    """What a test needs."""
    names = getattr(item, "fixturenames", ())
    services = frozenset(service for name in names if (service := _service_of(name)))
    if ENVIRONMENT not in names and NAMESPACE not in names:
        return Requirement(services)
    configured = frozenset(marks_of(item).services or options.services)
    return Requirement(
        namespace=services | configured if NAMESPACE in names else services,
        environment=configured if ENVIRONMENT in names else frozenset(),
    )


def check(items: Iterable[pytest.Item], options: Options) -> None:
    """See that the markers of tests can be used.

    Raises:
        pytest.UsageError: one cannot.
    """
    for item in items:
        if item.get_closest_marker(MARKER) is None:
            continue
        marks_of(item)
        if options.scope != "function" and any(
            mark.name == MARKER and "template" in mark.kwargs for mark in item.own_markers
        ):
            raise pytest.UsageError(
                f"{item.nodeid}: a namespace that lives as long as its {options.scope} (triton_scope) has one template,"
                f" so a single test cannot choose it. Mark the {options.scope}, or set triton_scope to function."
            )


class Requirements:
    """What is needed by the tests of a run, and by those below a class, a module or a package."""

    def __init__(self, items: Iterable[pytest.Item], options: Options) -> None:
        self._of: dict[Node, Requirement] = {}
        self.all: frozenset[str] = frozenset()
        for item in items:
            if need := requirement_of(item, options):
                self.all |= need.namespace | need.environment
                for node in item.listchain():
                    self._of[node] = self._of.get(node, Requirement()) | need

    def of(self, node: "Node") -> Requirement:
        """What is needed by the tests at or below `node`."""
        return self._of.get(node, Requirement())
