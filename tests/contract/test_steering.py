"""What is done to an environment by its id: by another process or by its own, on every runtime and in every mode."""

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import docker
import psutil
import pytest
import redis

import forkserver
from contract.test_dead_servers import kill
from patience import TO_BOOT, TO_BOOT_IN_COMMANDS, WAIT, until
from projects import project, project_without_docker, settings_of
from triton_env import Settings, TritonEnvironment
from triton_env.core.setting_types import SecretStr
from triton_env.core.threads import in_thread
from triton_env.errors import BackupFailed, NotStarted, ServiceNotSelected, TritonError, UnknownService, UsageError
from triton_env.inspection import EnvironmentEntry, inspect
from triton_env.sharing.offering import offered
from triton_env.state import restarts
from triton_env.steering import act, actions, connect, log_reader

pytestmark = pytest.mark.timeout(600)
RUNTIMES = [pytest.param("docker", marks=pytest.mark.docker), "embedded"]
NAMES = ("postgres", "redis")


@pytest.fixture(scope="module", params=RUNTIMES)
def env(
    request: pytest.FixtureRequest, callers_choice: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TritonEnvironment]:
    if request.param == "embedded":
        request.getfixturevalue("embedded_packages")
    settings = settings_of(callers_choice).updated(**TO_BOOT, triton_state_dir=str(tmp_path_factory.mktemp("state")))
    with TritonEnvironment(settings, services=NAMES, runtime=request.param) as environment:
        yield environment


@contextmanager
def as_serve_has_it(environment: TritonEnvironment) -> Iterator[str]:
    """Its id, while it is on the list as one that a person has started for all."""
    with offered(environment, held_by="serve", project="/", asked_runtime=environment.runtime) as record:
        yield record.id


def entry_of(settings: Settings, environment: str) -> EnvironmentEntry:
    return next(each for each in inspect(settings).environments if each.id == environment)


def offers(settings: Settings, environment: str) -> dict[str, str]:
    return {each.name: each.loses for each in actions(entry_of(settings, environment))}


@pytest.mark.long_on("docker")
def test_a_look_is_no_use_and_changes_nothing(env: TritonEnvironment) -> None:
    with connect(env.settings, env.id) as seen:
        assert seen.services == env.services
        assert seen.environ() == env.environ()
        assert seen.service("redis").server_version() == env.redis.server_version()
        assert entry_of(env.settings, env.id).users == ()
        assert "ready to accept connections" in "".join(seen.log_lines("redis", None, follow=False)).lower()
        assert {each.name: each.healthy for each in seen.status()} == dict.fromkeys(NAMES, True)
    with pytest.raises(NotStarted):
        seen.service("redis")
    assert env.redis.client().ping()


def test_a_restart_keeps_addresses_and_is_no_death(env: TritonEnvironment) -> None:
    before = env.environ()
    # Where stopping it takes its time, one is enough.
    for name in NAMES if env.runtime == "embedded" else ("redis",):
        assert act(env.settings, env.id, "restart", service=name).endswith("answers again.")
        env.service(name).check_ready()
    assert (env.environ(), env.deaths()) == (before, {})
    kill(env, "redis")
    act(env.settings, env.id, "restart", service="valkey")
    assert env.redis.client().ping()
    assert env.deaths() == {}


def test_while_it_is_restarted_a_server_counts_as_well_and_clients_find_it_again(env: TritonEnvironment) -> None:
    """Clients under load, and two who want the same at the same time."""
    stop = threading.Event()
    written = 0

    def write() -> None:
        nonlocal written
        while not stop.is_set():
            try:
                env.redis.client().set("key", written)
            except (redis.RedisError, TritonError):
                continue
            written += 1

    process = env.redis.client().info("server")["run_id"]
    load = in_thread(write)
    try:
        assert until(lambda: written)
        both: list[Future[str]] = [
            in_thread(lambda: act(env.settings, env.id, "restart", service="redis")) for _ in range(2)
        ]
        seen = {name for each in both for name in iter_until_done(each, env)}
        assert [each.result() for each in both] == ["Redis answers again."] * 2
        assert seen == set()
        before = written
        assert until(lambda: written > before)
    finally:
        stop.set()
        load.result()
    assert env.redis.client().info("server")["run_id"] != process


def iter_until_done(asked: "Future[str]", environment: TritonEnvironment) -> Iterator[str]:
    """The services that count as dead until then."""
    while not asked.done():
        yield from environment.deaths()


@pytest.mark.long_on("docker")
def test_what_serve_holds_is_saved_and_put_back(env: TritonEnvironment, tmp_path: Path) -> None:
    with as_serve_has_it(env) as environment:
        steered = env.settings
        lost = offers(steered, environment)
        assert list(lost) == ["restart", "stop", "reset", "snapshot", "restore", "backup"]
        assert {name for name, words in lost.items() if not words} == {"snapshot", "backup"}
        env.redis.client().set("of", "the snapshot")
        act(steered, environment, "snapshot", name="kept")
        env.redis.client().set("of", "later")
        act(steered, environment, "restore", name="kept")
        assert env.redis.client().get("of") == b"the snapshot"
        file = tmp_path / "all.backup"
        assert str(file) in act(steered, environment, "backup", path=file)
        with pytest.raises(BackupFailed, match="already exists"):
            act(steered, environment, "backup", path=file)
        act(steered, environment, "reset")
        assert env.redis.client().get("of") is None
        with pytest.raises(UsageError, match="'none' does not exist"):
            act(steered, environment, "restore", name="none")


def test_what_is_not_offered_is_refused_by_its_name(env: TritonEnvironment) -> None:
    settings = env.settings
    assert list(offers(settings, env.id)) == ["restart", "stop", "backup"]
    for name in ("reset", "snapshot", "restore", "drop"):
        with pytest.raises(UsageError, match=f"'{name}' is not offered for the session environment of python"):
            act(settings, env.id, name, name="x")
    with pytest.raises(TritonError, match="is that of this process"):
        act(settings, env.id, "stop")
    with pytest.raises(UsageError, match="has to be named"):
        act(settings, env.id, "restart")
    for service, error in (("s3", ServiceNotSelected), ("nonsense", UnknownService)):
        with pytest.raises(error):
            act(settings, env.id, "restart", service=service)
    for environment in ("", "../x", "*", "0ddba115"):
        with pytest.raises(UsageError, match="No environment has the id"):
            act(settings, environment, "stop")
        with pytest.raises(UsageError, match="No environment has the id"), connect(settings, environment):
            pass


LOOKER = """
import sys
from triton_env import Settings
from triton_env.steering import connect
with connect(Settings(), sys.argv[1]) as seen:
    for _ in sys.stdin:
        print(bool(seen._running().liveness.died("redis")), flush=True)
"""


def test_other_processes_take_no_restart_for_a_death(env: TritonEnvironment) -> None:
    variables = {**os.environ, "TRITON_STATE_DIR": env.settings.triton_state_dir}
    argv = [sys.executable, "-c", LOOKER, env.id]
    with forkserver.Popen(argv, env=variables, stdin=-1, stdout=-1, text=True) as looker:
        assert looker.stdin is not None
        assert looker.stdout is not None

        def sees_a_death() -> bool:
            looker.stdin.write("\n")  # type: ignore[union-attr]
            looker.stdin.flush()  # type: ignore[union-attr]
            return looker.stdout.readline() == "True\n"  # type: ignore[union-attr]

        assert not sees_a_death()
        before = restarts.seen(env.settings, env.id, "redis")
        with restarts.noted(env.settings, env.id, "redis"):
            kill(env, "redis")
            assert not sees_a_death()
        assert sees_a_death()
        act(env.settings, env.id, "restart", service="redis")
        assert not sees_a_death()
        assert restarts.seen(env.settings, env.id, "redis").last != before.last
        looker.stdin.close()


class Turn:
    """A turn to restart that is waited for until the test lets it come."""

    def __init__(self) -> None:
        self.is_wanted, self.comes = threading.Event(), threading.Event()

    def __enter__(self) -> None:
        self.is_wanted.set()
        self.comes.wait(WAIT)

    def __exit__(self, *_: object) -> None:
        pass


def test_one_that_is_ending_restarts_nothing(
    embedded_packages: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, turn = Settings(triton_state_dir=str(tmp_path), **TO_BOOT), Turn()
    with TritonEnvironment(settings, services=("redis",), runtime="embedded") as environment:
        monkeypatch.setitem(environment._running()._restarts, "redis", turn)  # type: ignore[arg-type]
        asked = in_thread(lambda: act(settings, environment.id, "restart", service="redis"))
        assert turn.is_wanted.wait(WAIT)
    turn.comes.set()
    with pytest.raises(TritonError, match="Redis was not restarted: the environment is ending"):
        asked.result()
    assert list((tmp_path / "environments").iterdir()) == []


HOLDER = """
import sys
from triton_env import TritonEnvironment
with TritonEnvironment(services=("redis",), runtime="embedded") as env:
    print(env.id, flush=True)
    sys.stdin.read()
"""


def test_an_owner_that_is_stopped_or_killed_is_named(embedded_packages: None, tmp_path: Path) -> None:
    settings = Settings(triton_state_dir=str(tmp_path))
    variables = {**os.environ, **TO_BOOT_IN_COMMANDS, "TRITON_STATE_DIR": str(tmp_path)}
    holder = forkserver.Popen([sys.executable, "-c", HOLDER], env=variables, stdin=-1, stdout=-1, text=True)
    with holder:
        assert holder.stdout is not None
        identity = holder.stdout.readline().strip()
        pid = entry_of(settings, identity).owner.pid  # type: ignore[union-attr]
        os.kill(pid, signal.SIGSTOP)
        assert until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)
        with pytest.raises(TritonError, match="the process that holds the environment is stopped") as stopped:
            act(settings, identity, "restart", service="redis")
        assert stopped.value.hint.startswith(f"kill -CONT {pid}")
        os.kill(pid, signal.SIGCONT)
        assert act(settings, identity, "restart", service="redis") == "Redis answers again."
        (tmp_path / "environments" / f"{identity}.sock").unlink()
        with pytest.raises(TritonError, match="takes no orders"):
            act(settings, identity, "restart", service="redis")
        assert "has ended" in act(settings, identity, "stop")
        assert holder.wait() != 0
    with pytest.raises(UsageError, match="No environment has the id"):
        act(settings, identity, "stop")


@pytest.mark.parametrize("place", [pytest.param(project, marks=pytest.mark.docker), project_without_docker])
def test_persistent_services_of_another_folder(
    place: Callable[..., AbstractContextManager[Settings]],
    embedded_packages: None,
    callers_choice: Mapping[str, str],
    tmp_path: Path,
) -> None:
    images = {name.lower(): value for name, value in callers_choice.items()}
    with place(**images, redis_password="of its own") as settings:
        project = settings.triton_project
        with TritonEnvironment(settings, services=("redis",), persistent=True) as started:
            started.redis.client().set("data", "stays")
            started.detach()
        # Of another process, which knows nothing of the project but its name.
        others = settings.updated(triton_project="no-such-project", redis_password=SecretStr(""))
        lost = offers(others, project)
        assert list(lost) == ["restart", "stop", "reset", "backup"]
        assert [name for name, words in lost.items() if not words] == ["stop", "backup"]
        with connect(others, project) as seen:
            assert seen.services == ("redis",)
            assert seen.redis.client().get("data") == b"stays"
            assert list(seen.log_lines("redis", 1, follow=False))
            before = seen.redis.client().info("server")["run_id"]
        assert act(others, project, "restart", service="redis") == "Redis answers again."
        with connect(others, project) as seen:
            assert seen.redis.client().get("data") == b"stays"
            assert seen.redis.client().info("server")["run_id"] != before
        assert "Saved Redis to" in act(others, project, "backup", path=tmp_path / "redis.backup")
        with pytest.raises(UsageError, match="'snapshot' is not offered for the persistent services"):
            act(others, project, "snapshot", name="x")
        assert "Their data stays" in act(others, project, "stop")
        with TritonEnvironment(settings, services=("redis",), persistent=True) as started:
            assert started.redis.client().get("data") == b"stays"
            started.detach()
        assert "their data are gone" in act(others, project, "reset")
        with pytest.raises(UsageError, match="No environment has the id"):
            act(others, project, "reset")


@pytest.mark.parametrize("place", [pytest.param(project, marks=pytest.mark.docker), project_without_docker])
def test_the_log_of_a_persistent_service_that_has_exited_is_read(
    place: Callable[..., AbstractContextManager[Settings]], embedded_packages: None, callers_choice: Mapping[str, str]
) -> None:
    images = {name.lower(): value for name, value in callers_choice.items()}
    with place(**images) as settings, socket.socket() as taken:
        with TritonEnvironment(settings, services=("redis",), persistent=True) as started:
            started.detach()
        name = settings.triton_project
        (service,) = entry_of(settings, name).services
        if service.container:
            client = docker.from_env()
            client.containers.get(service.container).stop()
            client.close()
            why = "bye bye"
        else:
            # It is started again, again and again, and ends each time.
            assert until(lambda: takes_port_of(settings, name, taken))
            why = "address already in use"
        assert until(lambda: entry_of(settings, name).services[0].state in ("exited", "restarting"))
        with log_reader(settings, name) as read:
            assert until(lambda: why in read("redis", 20).lower())
            assert len(read("redis", 1).splitlines()) == 1
            with pytest.raises(ServiceNotSelected):
                read("postgres", 20)


def takes_port_of(settings: Settings, project: str, taker: socket.socket) -> bool:
    """Kill the one service of a project, and have its port before it is started again; whether that was fast enough."""
    (service,) = entry_of(settings, project).services
    if service.pid:
        with suppress(psutil.NoSuchProcess):
            psutil.Process(service.pid).kill()
    taker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taker.bind(("127.0.0.1", service.ports["redis"]))
    except OSError:
        return False
    taker.listen()
    return True
