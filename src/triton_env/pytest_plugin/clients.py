"""The fixtures for asynchronous tests: connected clients, made and closed in the loop of the test.

pytest-asyncio and anyio run asynchronous fixtures each in its own way, both may be installed, and neither has to be. So
each public fixture is a synchronous one, which asks for the private one that fits its test: made by pytest-asyncio for
the loop of that test, or an ordinary one that anyio takes over.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from inspect import Parameter, Signature
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from triton_env.pytest_plugin.options import SCOPES
from triton_env.pytest_plugin.requirements import ASYNC, KNOWN, PREFIX

if TYPE_CHECKING:
    from triton_env.services.base_fixtures import Fixtures


def client_fixture(name: str, fixtures: "Fixtures") -> Any:
    """The fixture `triton_NAME_async` for a connected client of a service; see `service_fixture`."""

    def client(request: pytest.FixtureRequest, **service: Any) -> Any:
        return _client(request, name)

    # pytest makes what a fixture takes before it, and removes that after it.
    taken = [Parameter(each, Parameter.KEYWORD_ONLY) for each in ("request", f"{PREFIX}{name}")]
    client.__signature__ = Signature(taken)  # type: ignore[attr-defined]
    client.__doc__ = fixtures.client_words
    client.__annotations__["return"] = fixtures.client_kind
    return pytest.fixture(name=f"{PREFIX}{name}{ASYNC}")(client)


def _client(request: pytest.FixtureRequest, service: str) -> Any:
    plugins = request.config.pluginmanager
    # anyio goes by this too.
    if "anyio_backend" in request.fixturenames and plugins.has_plugin("anyio"):
        return request.getfixturevalue(f"_triton_{service}_anyio")
    if plugins.has_plugin("asyncio"):
        return request.getfixturevalue(f"_triton_{service}_asyncio_{_loop_scope(request)}")
    # Not for every run of pytest.

    from triton_env.core.commands import runnable

    pytest.fail(
        f"triton-env: {request.fixturename} needs pytest-asyncio, or anyio and a test that anyio runs"
        f" (@pytest.mark.anyio)\n\nhint: {runnable('pip install pytest-asyncio')}",
        pytrace=False,
    )


def _loop_scope(request: pytest.FixtureRequest) -> str:
    """How long the loop lives in which pytest-asyncio runs this test."""
    mark = request.node.get_closest_marker("asyncio")
    if mark is None:
        return "function"
    scope = mark.kwargs.get("loop_scope") or mark.kwargs.get("scope")
    if scope is None:
        try:
            scope = request.config.getini("asyncio_default_test_loop_scope")
        except ValueError:  # before 0.26 the option does not exist
            scope = "function"
    return str(scope)


def private_fixtures(plugins: pytest.PytestPluginManager) -> ModuleType:
    """A plugin with the private fixtures for those asynchronous plugins that are loaded."""
    module = ModuleType(f"{__name__}.private")
    asyncio_plugin = plugins.get_plugin("asyncio")
    for service, fixtures in KNOWN.items():
        if fixtures.connect is None:
            continue
        # A function of its own for each: the plugin notes the loop's scope on the function.
        make = partial(_fixture_of, service, fixtures.connect)
        if asyncio_plugin is not None:
            for scope in SCOPES:
                name = f"_triton_{service}_asyncio_{scope}"
                # Through the plugin, not by an import: the name may be taken by another distribution.
                setattr(module, name, asyncio_plugin.fixture(loop_scope=scope, name=name)(make()))
        name = f"_triton_{service}_anyio"
        setattr(module, name, pytest.fixture(name=name)(make()))
    return module


def _fixture_of(service: str, connect: Callable[[Any], Awaitable[Any]]) -> Callable[..., AsyncIterator[Any]]:
    async def connected(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
        import asyncio

        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pytest.fail(
                "triton-env: the asynchronous clients need asyncio; this test runs on another backend of anyio"
                "\n\nhint: @pytest.fixture\ndef anyio_backend(): return 'asyncio'",
                pytrace=False,
            )
        client = await connect(request.getfixturevalue(f"{PREFIX}{service}"))
        try:
            yield client
        finally:
            await getattr(client, "aclose", client.close)()

    return connected
