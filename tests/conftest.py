"""What every test gets: a clean environment, an empty working folder, and `docker` tests that do not skip silently.

Which tests run, and how they are distributed, is in `lanes`.

And `env`, for "the same on every runtime": one running environment per runtime, shared by all tests of a process.
"""

import functools
import gc
import os
import signal
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from secrets import token_hex
from typing import Any
from unittest.mock import patch

import hypothesis
import pytest
from xdist.remote import Producer

import janitor
import lanes
import scratch
from patience import TO_BOOT_IN_COMMANDS
from triton_env import TritonEnvironment
from triton_env.runtimes.embedded import packages
from triton_env.services import SERVICES
from triton_env.settings import Settings
from warm import Warm

# How long an example takes says something about the machine, and nothing about the code.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")

VARIABLES = frozenset(name.upper() for name in Settings.model_fields)
CALLERS = (*sorted(name for name in VARIABLES if name.endswith("_IMAGE")), "LOCALSTACK_AUTH_TOKEN")
"""What the caller of the tests chooses: the images to test on, and the token that one of them may need."""

OF_THE_PACKAGE = {"TRITON_POSTGRES_BIN": "wheel", "TRITON_CLICKHOUSE_BIN": "wheel"}
"""What tests expect of embedded servers holds for those of the Python packages, whatever this machine has."""

UNIT = Path(__file__).parent / "unit"
"""Tests without servers, which look at what settings are by default."""


def in_ci() -> bool:
    """Whether nothing may be skipped for want of something that can be installed."""
    return os.environ.get("CI", "").lower() in ("1", "true")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", dest="all_lanes", action="store_true", help=f"also the long lane: {lanes.LONG}")


def pytest_report_header(config: pytest.Config) -> list[str]:
    problem = engine_problem()
    docker = f"not available: {problem}" if problem else "an engine answers, so its tests are mandatory"
    lacking = packages.problem_of(service.recipe(Settings.model_construct()) for service in SERVICES.values())
    long = "runs too" if lanes.is_long_lane_asked_for(config) else "is left out, --all adds it"
    return [
        f"runtime docker: {docker}",
        f"runtime embedded: {lacking or 'its packages are installed'}",
        f"the long lane {long}: {lanes.LONG}",
    ]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """What is imported and collected stays until the end: the garbage collector need not go through it again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


def pytest_itemcollected(item: pytest.Item) -> None:
    if lanes.is_long(item):
        item.add_marker(pytest.mark.long)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    lanes.leave_out_long(config, items)
    if file := getattr(config, "workerinput", {}).get("groups"):
        lanes.pass_on(lanes.groups(items), Path(file))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["groups"] = str(groups_file(node.config))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> lanes.Scheduler | None:
    return lanes.Scheduler(config, log, groups_file(config)) if config.getoption("dist") == "loadgroup" else None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Three processes for two cores: half of the time tests wait for servers."""
    return min(6, (os.cpu_count() or 1) * 3 // 2 or 1)


GROUPS_FILE = pytest.StashKey[Path]()


def groups_file(config: pytest.Config) -> Path:
    """In the controlling process: where it learns from the others which tests have to stay together."""
    if GROUPS_FILE not in config.stash:
        config.stash[GROUPS_FILE] = scratch.folder() / "groups.json"
    return config.stash[GROUPS_FILE]


def forget_variables() -> None:
    """Delete every variable that the settings would read. They are read in upper and lower case."""
    for name in list(os.environ):
        if name.upper() in VARIABLES:
            del os.environ[name]


# Ignored as under nohup, and in the background of a script. What tests start would inherit that, and not end by them.
for number, usual in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
    (signal.SIGQUIT, signal.SIG_DFL),
):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left() -> Iterator[None]:
    """What this process has started ends with it, however it ends. Folders of processes that were killed go now."""
    scratch.sweep()
    with janitor.watching():
        yield


@pytest.fixture(scope="session", autouse=True)
def callers_choice(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """The caller's images. Fixtures of wider scope than one test see these variables and no `.env` either."""
    choice = {name: os.environ[name] for name in CALLERS if os.environ.get(name)}
    with patch.dict(os.environ), pytest.MonkeyPatch.context() as monkeypatch:
        forget_variables()
        os.environ.update(choice | OF_THE_PACKAGE | TO_BOOT_IN_COMMANDS)
        monkeypatch.chdir(tmp_path_factory.mktemp("cwd"))
        yield choice


@pytest.fixture(autouse=True)
def clean_environment(
    request: pytest.FixtureRequest,
    callers_choice: Mapping[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[None]:
    """No setting from outside but, for `docker` tests, the images. Afterwards the environment is what it was."""
    # The whole of it is put back: Testcontainers writes DOCKER_HOST. Not by the `monkeypatch` of the test, which would
    # end after this one then, and delete what the test had set from the variables that were put back.
    with patch.dict(os.environ), pytest.MonkeyPatch.context() as monkeypatch:
        forget_variables()
        os.environ.update(OF_THE_PACKAGE)
        if UNIT not in request.path.parents:
            os.environ.update(TO_BOOT_IN_COMMANDS)
        if request.node.get_closest_marker("docker"):
            os.environ.update(callers_choice)
            # Never on the fallback: a docker test that passes on another runtime shows nothing.
            os.environ["TRITON_RUNTIME"] = "docker"
        # Not numbered by pytest, which would look at all folders of the tests before. Nor by this module, of which the
        # tests of the examples load another copy.
        monkeypatch.chdir(tmp_path_factory.mktemp(f"cwd-{token_hex(6)}", numbered=False))
        yield


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("docker") and (problem := engine_problem()):
        if in_ci():
            pytest.fail(f"CI has to run the docker tests, but {problem}", pytrace=False)
        pytest.skip(problem)


@functools.cache
def engine_problem() -> str:
    """Why no Docker engine can be used, or an empty string."""
    with warnings.catch_warnings():
        # The SDK leaves the socket of a failed connection to the garbage collector, which would come in some test.
        warnings.simplefilter("ignore", ResourceWarning)
        problem = _ask_the_engine()
        gc.collect()
    return problem


def _ask_the_engine() -> str:
    """With the SDK alone: a mistake in this project must not turn into skipped tests."""
    import docker
    from testcontainers.core.docker_client import get_docker_host

    host = get_docker_host() or ""
    environment = dict(os.environ) | ({"DOCKER_HOST": host} if host else {})
    try:
        # Generous: one slow answer would be remembered as "no engine" for all tests of this process.
        client = docker.from_env(environment=environment, timeout=60, use_ssh_client=host.startswith("ssh://"))
        try:
            client.ping()
        finally:
            client.close()
    except Exception as error:
        return f"no Docker engine answers at {host or 'the default socket'}: {error}"
    return ""


RUNTIMES = [
    pytest.param("docker", marks=pytest.mark.docker),
    pytest.param("persistent", marks=pytest.mark.docker),
    "embedded",
]


@pytest.fixture(scope="session")
def embedded_packages() -> None:
    """Skip where the embedded runtime is not installed; CI has to have it."""
    problem = packages.problem_of(service.recipe(Settings()) for service in SERVICES.values())
    if problem and in_ci():
        pytest.fail(f"CI has to run the embedded tests, but {problem}", pytrace=False)
    if problem:
        pytest.skip(f"{problem} ({packages.INSTALL})")


@pytest.fixture(scope="session")
def environments(callers_choice: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    """The environments that all tests of this process share."""
    running = Warm(callers_choice, tmp_path_factory.mktemp)
    yield running
    running.stop()


@pytest.fixture(scope="session")
def warm(request: pytest.FixtureRequest, environments: Warm) -> Callable[[str], TritonEnvironment]:
    """Starts the environment of a runtime, which is one for all tests of this process that ask for it here.

    What the module before has left in it is taken back, except in persistent services.

    Args of what it gives:
        runtime: "docker", "embedded", or "persistent" for a persistent project of its own.
    """

    def start(runtime: str) -> TritonEnvironment:
        if runtime in ("embedded", "persistent without docker"):
            request.getfixturevalue("embedded_packages")
        return environments.emptied(runtime)

    return start


@pytest.fixture(scope="module", params=RUNTIMES)
def env(request: pytest.FixtureRequest, warm: Callable[[str], TritonEnvironment]) -> TritonEnvironment:
    # Of a wider scope than one test: what that sets is not there yet.
    return warm(request.param)
