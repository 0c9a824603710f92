"""The fixtures for synchronous tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from triton_env.pytest_plugin.options import SCOPES, Scope
from triton_env.pytest_plugin.requirements import KNOWN, PREFIX
from triton_env.pytest_plugin.state import State

if TYPE_CHECKING:
    from triton_env.environment import TritonEnvironment
    from triton_env.isolation.namespace import Namespace
    from triton_env.pytest_plugin.spaces import TestNamespaces
    from triton_env.services import Service
    from triton_env.services.base_fixtures import Fixtures


def _scope(fixture_name: str, config: pytest.Config) -> Scope:
    """What `triton_scope` says. A wrong one is an error before any test; here it must not be one more."""
    scope: Scope = config.getini("triton_scope")
    return scope if scope in SCOPES else "function"


@contextmanager
def explained() -> Iterator[None]:
    """Errors of ours without the way that they came: their words say all that helps."""
    from triton_env.errors import ServiceDied, TritonError

    try:
        yield
    except ServiceDied as died:
        # Its last log lines are in the report on the first test that failed for it.
        words = f"triton-env: {died.what.removesuffix('.')}: {died.cause}"
        raise pytest.fail.Exception(words, pytrace=False) from None
    except TritonError as error:
        raise pytest.fail.Exception(f"triton-env: {error}", pytrace=False) from None


@pytest.fixture(scope="session")
def triton_env(request: pytest.FixtureRequest, pytestconfig: pytest.Config) -> "TritonEnvironment":
    """The running environment of this session, with all that its tests need. What one test writes others see."""
    state = State.of(pytestconfig)
    services = state.requirements.all
    if not state.requirements.of(request.node).environment:  # no test was known to ask for it
        services |= state.configured(request.node)
    with explained():
        return state.environments.of(services)


@pytest.fixture(scope=_scope)
def _triton_spaces(request: pytest.FixtureRequest) -> Iterator["TestNamespaces"]:
    state = State.of(request.config)
    with explained():
        spaces = state.spaces_for(request.node)
    yield spaces
    with explained():
        state.end_of(spaces)


@pytest.fixture(scope=_scope)
def triton(request: pytest.FixtureRequest, _triton_spaces: "TestNamespaces") -> "Namespace":
    """A fresh namespace for this test: databases, a bucket and variables of its own. Gone after it."""
    with explained():
        state = State.of(request.config)
        return _triton_spaces.namespace(state.isolated(state.configured(request.node)))


def service_fixture(name: str, fixtures: "Fixtures") -> Any:
    """The fixture `triton_NAME` for a service in this test's namespace.

    A distribution that brings a service has it in its own plugin, in one line: `triton_notes = service_fixture(...)`.

    Args:
        name: the service's.
        fixtures: what is said of them.
    """

    def service(_triton_spaces: "TestNamespaces") -> "Service":
        with explained():
            return _triton_spaces.service(name)

    service.__doc__ = fixtures.words
    service.__annotations__["return"] = fixtures.kind
    KNOWN[name] = fixtures
    return pytest.fixture(scope=_scope, name=f"{PREFIX}{name}")(service)


@pytest.fixture(scope="session")
def triton_exported(pytestconfig: pytest.Config) -> "Namespace":
    """The namespace whose variables were there before the application was imported (--triton-export-env)."""
    state = State.of(pytestconfig)
    if state.exported is None:
        pytest.fail("triton-env: nothing was exported: run pytest with --triton-export-env", pytrace=False)
    return state.exported.parts[0].namespace
