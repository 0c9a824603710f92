"""The pytest plugin: fixtures for the services, a fresh namespace for each test.

pytest loads it by its entry point in every project of an interpreter that has triton-env installed. So it imports
nothing of triton-env that takes time, no driver, no Docker SDK and no settings, until a test needs a service.
"""

from collections.abc import Generator
from typing import Any

import pytest

from triton_env.pytest_plugin import summary
from triton_env.pytest_plugin.clients import client_fixture, private_fixtures
from triton_env.pytest_plugin.fixtures import _triton_spaces, service_fixture, triton, triton_env, triton_exported
from triton_env.pytest_plugin.options import add_options
from triton_env.pytest_plugin.report import Kept, add_to, note_beginning
from triton_env.pytest_plugin.requirements import ASYNC, MARKER_LINE, PREFIX, Requirements, check
from triton_env.pytest_plugin.state import KEY, State
from triton_env.services import built_in

__all__ = ["_triton_spaces", "client_fixture", "service_fixture", "triton", "triton_env", "triton_exported"]

# `triton_NAME` and `triton_NAME_async` of each service.
for _name, _fixtures in built_in.fixtures():
    globals()[f"{PREFIX}{_name}"] = service_fixture(_name, _fixtures)
    globals()[f"{PREFIX}{_name}{ASYNC}"] = client_fixture(_name, _fixtures)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the command line and of the configuration file."""
    add_options(parser)


# Around those of others: other plugins import the project's settings in this hook.
@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None, Any, Any]:
    """Export the connection variables before anything of the project is imported."""
    line = early_config.known_args_namespace
    if (line.triton_export_env or early_config.getini("triton_export_env")) and not (line.help or line.version):
        from triton_env.pytest_plugin import exporting

        exporting.begin(early_config, line)
    loaded = yield
    _check_exported(early_config)
    return loaded


def pytest_configure(config: pytest.Config) -> None:
    """Check the options."""
    config.addinivalue_line("markers", MARKER_LINE)
    state = State.of(config)
    config.pluginmanager.register(Kept(state), "triton_env_kept")
    config.pluginmanager.register(private_fixtures(config.pluginmanager), "triton_env_asynchronous")
    # pytest-xdist gives its workers the id under which this process has started an environment already.
    if state.exported is not None and getattr(config.option, "testrunuid", "") is None:
        config.option.testrunuid = state.shared_by


def pytest_report_header(config: pytest.Config) -> list[str]:
    """The choices in force, and what runs already."""
    state = State.of(config)
    lines = [summary.header(state.options)]
    if state.running:
        for known in summary.facts(state.running):
            state.reported.append(known["id"])
            lines += summary.lines_about(known)
    return lines


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Check the markers, also those of tests that are deselected."""
    check(items, State.of(config).options)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Look at what the selected tests need."""
    state = State.of(session.config)
    state.requirements = Requirements(session.items, state.options)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Start what is needed, before the first test: the time that it takes counts for no test."""
    option = session.config.option
    state = State.of(session.config)
    if not option.collectonly:
        _check_exported(session.config)
    if not state.requirements.all or option.collectonly or getattr(option, "setupplan", False):
        return
    if session.testsfailed and not option.continue_on_collection_errors:
        return
    from triton_env.errors import TritonError

    try:
        state.environments.of(state.requirements.all)
    except TritonError:
        # The tests that need it report it. Others may run.
        return


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Note where the logs are when a test begins, and see what variables it finds."""
    state = State.of(item.config)
    note_beginning(state, item)
    if state.exported is not None:
        from triton_env.pytest_plugin import overridden

        overridden.see(state, item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add to the report on a failed test what the services report."""
    report = yield
    if report.failed and report.when in ("setup", "call"):
        add_to(report, State.of(item.config), item, call.start)
    return report


# After the fixtures of the session have come to their ends.
@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Remove everything."""
    State.of(session.config).finish()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take what a worker of pytest-xdist has to say of its environments."""
    state = State.of(node.config)
    output = getattr(node, "workeroutput", None) or {}
    state.facts += output.get("triton_env_facts", ())
    state.problems += output.get("triton_env_problems", ())


# A name in quotes: pytest has it for a short time only.
def pytest_terminal_summary(
    terminalreporter: "pytest.TerminalReporter", exitstatus: int, config: pytest.Config
) -> None:
    """Print where the services ran, and what was kept."""
    state = State.of(config)
    if config.option.verbose >= 0 or exitstatus == pytest.ExitCode.TESTS_FAILED:
        summary.print_facts(terminalreporter, [each for each in state.facts if each["id"] not in state.reported])
    summary.tell_kept(terminalreporter, state.kept)
    if state.died:
        from triton_env.pytest_plugin import deaths

        deaths.print_summary(terminalreporter, state.died)
    for problem in state.problems:
        terminalreporter.write_line(f"triton-env: {problem}", red=True)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove what is still there where a run was interrupted."""
    if (state := config.stash.get(KEY, None)) is not None:
        state.stop()


def _check_exported(config: pytest.Config) -> None:
    """See that what other plugins and conftest files did to the variables leaves the exported ones in force."""
    state = config.stash.get(KEY, None)
    if state is not None and state.exported is not None:
        from triton_env.pytest_plugin import overridden
        from triton_env.pytest_plugin.variables import worker_of_xdist

        # A worker of pytest-xdist cannot stop the run: its tests fail, each with the reason.
        if worker_of_xdist() is None:
            overridden.check(state)
