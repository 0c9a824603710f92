"""An engine that is cut, resets, hangs, breaks off and refuses: typed errors, waits that end, and nothing forgotten.

Between the client and the real engine is a proxy. What a test removes, it sees at the real engine.
"""

import gc
import os
import signal
import subprocess
import sys
import textwrap
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import docker
import psutil
import pytest

import forkserver
from engine_proxy import TROUBLES, EngineProxy, Trouble, proxied_engine
from patience import WAIT, until
from projects import project
from triton_env import Settings, TritonEnvironment, prune
from triton_env.backup import Step, create, restore
from triton_env.backup.programs import feed, output
from triton_env.cli.checks import examine
from triton_env.core.threads import in_thread
from triton_env.errors import CleanupFailed, EngineUnreachable, RestoreFailed, TritonError
from triton_env.persistent.docker.stack import DockerStack
from triton_env.runtimes.choice import docker_problem
from triton_env.runtimes.docker import engine as engine_module
from triton_env.runtimes.docker import engine_errors, watch
from triton_env.runtimes.docker.leftovers import find_owned, sweep
from triton_env.runtimes.docker.reaper_client import ReaperHandle
from triton_env.runtimes.owner import ENVIRONMENT_LABEL
from triton_env.services.base_backup import ProgramFailed

pytestmark = [
    pytest.mark.docker,
    # The SDK leaves the socket of a failed connection to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]

TESTS = Path(__file__).parents[1]
SHORT: tuple[Trouble, ...] = ("cut", "hang")
"""An engine that is gone, and one that is there and silent. The others are for the long lane."""
SEVERAL = pytest.mark.parametrize(
    "troubles", [SHORT, pytest.param(TROUBLES, marks=pytest.mark.long)], ids=["some", "each"]
)


def lane_of(trouble: Trouble, *short: Trouble) -> Any:
    """The marks of a variant: those that are not among the short ones are long."""
    return () if trouble in (short or SHORT) else pytest.mark.long


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture
def unix_proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[EngineProxy]:
    with proxied_engine() as proxy:
        monkeypatch.setenv("DOCKER_HOST", proxy.url)
        yield proxy


@contextmanager
def impatient(proxy: EngineProxy) -> Iterator[None]:
    """An engine that hangs is given up soon, until the block ends. After it, the engine is back.

    Whether it is does not depend on the time; and when all is well again, there is as much of it as ever.
    """
    with ExitStack() as patches:
        for module, name, seconds in (
            (watch, "SILENCE", 1.0),
            (watch, "_PING_PAUSE", 0.2),
            (engine_errors, "QUESTION_TIMEOUT", 1),
            (engine_errors, "SILENT_TIMEOUT", 0.2),
            (engine_module, "ANSWER_TIMEOUT", 1),
            (engine_module, "_TIMEOUT", 1),
        ):
            patches.enter_context(patch.object(module, name, seconds))
        try:
            yield
        finally:
            proxy.come_back()


@contextmanager
def in_trouble(proxy: EngineProxy, trouble: Trouble) -> Iterator[None]:
    """An engine that is in trouble until the block ends. One that hangs is given up soon."""
    with impatient(proxy):
        proxy.be(trouble)
        yield


@pytest.fixture
def no_reaper(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it would remove is seen to be removed by others."""
    monkeypatch.setattr(ReaperHandle, "leave", lambda reaper: None)


@contextmanager
def own_project(proxy: EngineProxy) -> Iterator[Settings]:
    """A project of its own, which can be removed in the end whatever happens."""
    with project() as settings:
        try:
            yield settings
        finally:
            proxy.come_back()


def left(engine: docker.DockerClient, environment: str) -> list[str]:
    return [each.name for each in find_owned(engine.api, f"{ENVIRONMENT_LABEL}={environment}")]


def failed_stop(env: TritonEnvironment) -> CleanupFailed:
    with pytest.raises(CleanupFailed) as caught:
        env.stop()
    return caught.value


# --- A session ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trouble", "way"),
    [
        *(pytest.param(trouble, "unix", marks=lane_of(trouble)) for trouble in TROUBLES),
        # Another program removes what is left then.
        *(pytest.param(trouble, "tcp", marks=lane_of(trouble, "hang")) for trouble in TROUBLES),
    ],
)
def test_what_a_session_leaves_is_named_and_removed_as_soon_as_the_engine_is_back(
    engine: docker.DockerClient, monkeypatch: pytest.MonkeyPatch, trouble: Trouble, way: str
) -> None:
    with proxied_engine(tcp=way == "tcp") as proxy:
        monkeypatch.setenv("DOCKER_HOST", proxy.url)
        left_behind(engine, proxy, trouble)


def left_behind(engine: docker.DockerClient, proxy: EngineProxy, trouble: Trouble) -> None:
    env = TritonEnvironment(services=("redis",)).start()
    identifier = env.id
    with in_trouble(proxy, trouble):
        error = failed_stop(env)
        assert f"triton-{identifier}-redis" in left(engine, identifier)
    assert error.where == proxy.url
    assert error.cause
    assert f"triton-{identifier}-redis" in error.what
    assert f"triton-network-{identifier}" in error.what
    assert "python -m triton_env prune" in error.hint
    assert len(str(error).splitlines()) <= 24
    # By the process in the background: this one, which owns it, lives on and does nothing.
    assert until(lambda: not left(engine, identifier)), "the container is forgotten"
    env.stop()


@pytest.mark.parametrize(
    ("asked", "left_behind"), [("networks", "triton-network-{}"), ("containers", "triton-{}-redis")]
)
def test_what_the_engine_was_asked_to_create_is_named_where_its_answer_is_lost(
    engine: docker.DockerClient, unix_proxy: EngineProxy, asked: str, left_behind: str
) -> None:
    env = TritonEnvironment(services=("redis",), lazy=True)
    with impatient(unix_proxy):
        lost = unix_proxy.be_when("hang", f"/{asked}/create".encode(), passed_on=True)
        env.start()
        assert lost.wait(WAIT)
        identifier = env.id
        name = left_behind.format(identifier)
        assert until(lambda: name in left(engine, identifier)), "the engine has not created it"
        error = failed_stop(env)
        assert name in error.what
    env.stop()
    assert until(lambda: not left(engine, identifier))


@pytest.mark.usefixtures("no_reaper")
def test_a_second_stop_tries_again(engine: docker.DockerClient, unix_proxy: EngineProxy) -> None:
    """Whatever the trouble was, and however often."""
    env = TritonEnvironment(services=("redis",)).start()
    identifier = env.id
    for trouble in TROUBLES:
        with in_trouble(unix_proxy, trouble):
            failed_stop(env)

    def stops() -> bool:
        # The engine may still be at what it was asked to remove, and refuse to remove the network under it.
        with suppress(CleanupFailed):
            env.stop()
        return not left(engine, identifier)

    assert until(stops)


def test_an_engine_that_still_hangs_is_given_up_sooner(engine: docker.DockerClient, unix_proxy: EngineProxy) -> None:
    env = TritonEnvironment(services=("redis",)).start()
    identifier = env.id
    with in_trouble(unix_proxy, "hang"):
        failed_stop(env)
        with patch.object(watch, "SILENCE", 2 * WAIT):
            again = in_thread(failed_stop, env)
            assert until(again.done)
    env.stop()
    assert left(engine, identifier) == []


@pytest.mark.usefixtures("no_reaper")
@pytest.mark.parametrize("remover", ["prune", "the next start"])
def test_others_remove_what_a_living_owner_has_given_up(
    engine: docker.DockerClient,
    unix_proxy: EngineProxy,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    remover: str,
) -> None:
    # Its own, where no other test looks.
    settings = Settings(triton_state_dir=str(tmp_path))
    env = TritonEnvironment(settings, services=("redis",)).start()
    identifier = env.id

    def found() -> list[prune.Leftover]:
        with prune.look(settings) as findings:
            return [each for each in findings.leftovers if each.environment == identifier]

    assert found() == []
    with in_trouble(unix_proxy, "cut"):
        failed_stop(env)
        # Without an engine it is known all the same.
        (row,) = found()
    assert (row.what, row.name, row.stays) == ("environment", unix_proxy.url, True)
    with prune.look(settings) as findings:
        rows = [each for each in findings.leftovers if each.environment == identifier]
        assert {row.what for row in rows} >= {"container", "network"}
        assert all(f"process {os.getpid()} runs, and has given it up" in row.why for row in rows)
        assert not any(row.stays for row in rows)
        if remover == "prune":
            assert [row.remove() for row in rows] == [""] * len(rows)
        else:
            sweep(engine_module.Engine(), settings)
    assert left(engine, identifier) == []
    env.stop()
    assert list((tmp_path / "given-up").iterdir()) == []


def test_a_session_that_is_removed_is_not_given_up(unix_proxy: EngineProxy, tmp_path: Path) -> None:
    settings = Settings(triton_state_dir=str(tmp_path))
    with TritonEnvironment(settings, services=("redis",)):
        pass
    assert not (tmp_path / "given-up").exists()


# --- Every call -----------------------------------------------------------------------------------------------------

SESSION: dict[str, Callable[[TritonEnvironment, Path], object]] = {
    "logs": lambda env, folder: env.logs("redis"),
    "backup": lambda env, folder: create(env, folder / "a.backup"),
    "another start": lambda env, folder: TritonEnvironment(env.settings, services=("redis",)).start(),
    "prune": lambda env, folder: _pruned(env.settings),
    "doctor": lambda env, folder: list(examine()),
    "choice": lambda env, folder: docker_problem(env.settings, ()),
}


def _pruned(settings: Settings) -> None:
    with prune.look(settings):
        pass


@SEVERAL
def test_every_call_of_a_session_fails_with_an_error_of_ours(
    unix_proxy: EngineProxy, tmp_path: Path, troubles: Sequence[Trouble]
) -> None:
    with TritonEnvironment(services=("redis",)) as env:
        for trouble in troubles:
            with in_trouble(unix_proxy, trouble):
                errors = outcomes({name: partial(call, env, tmp_path) for name, call in SESSION.items()})
            assert errors["logs"] is not None, trouble
            assert errors["another start"] is not None, trouble
            assert [error for error in errors.values() if error and not isinstance(error, TritonError)] == [], trouble


@pytest.mark.parametrize("trouble", [pytest.param(trouble, marks=lane_of(trouble, "hang")) for trouble in TROUBLES])
def test_namespaces_and_snapshots_need_no_engine(unix_proxy: EngineProxy, tmp_path: Path, trouble: Trouble) -> None:
    settings = Settings(triton_state_dir=str(tmp_path))
    with TritonEnvironment(settings, services=("redis",)) as env, in_trouble(unix_proxy, trouble):
        env.redis.client().set("kept", 1)
        env.snapshot("one")
        # More than the pool has ready.
        for _ in range(2 * settings.triton_pool_size):
            with env.namespace() as namespace:
                assert namespace.redis.client().ping()
        env.redis.client().delete("kept")
        env.restore("one")
        assert env.redis.client().get("kept") == b"1"


def test_a_backup_and_a_restore_end_where_the_engine_hangs(unix_proxy: EngineProxy, tmp_path: Path) -> None:
    """Programs in a container, such as pg_dump, would wait for it without end."""
    good, bad = tmp_path / "good.backup", tmp_path / "bad.backup"

    def hang(step: Step) -> None:
        if step.words == "database triton":
            unix_proxy.hang()

    with TritonEnvironment(services=("postgres",)) as env:
        with env.postgres.connect(autocommit=True) as connection:
            connection.execute("create table t as select generate_series(1, 100) as a")
        create(env, good)
        with impatient(unix_proxy), pytest.raises(EngineUnreachable) as caught:
            create(env, bad, report=hang)
        assert caught.value.where == unix_proxy.url
        assert caught.value.cause == "the engine has not answered for 1 s"
        assert not bad.exists()
        with impatient(unix_proxy), pytest.raises(RestoreFailed, match="Nothing was changed") as failed:
            restore(env, good, replace=True, report=hang)
        assert failed.value.cause == "the engine has not answered for 1 s"
        with env.postgres.connect() as connection:
            assert connection.execute("select count(*) from t").fetchone() == (100,)
        create(env, bad)


def test_a_program_in_a_container_fails_where_the_connection_to_it_breaks_off(unix_proxy: EngineProxy) -> None:
    """The docker command reports success then: what was read is cut short, and what was written is not all there."""

    def cut_short() -> Iterator[bytes]:
        # Once so much is taken, the program reads.
        yield b"x" * 50_000_000
        unix_proxy.come_back()

    with TritonEnvironment(services=("postgres",)) as env:
        # So much that the rest is still in the container.
        with closing(output(env.program("postgres", ("seq", "30000000")))) as pieces:
            next(pieces)
            unix_proxy.come_back()
            with pytest.raises(ProgramFailed):
                deque(pieces, maxlen=0)
        with pytest.raises(ProgramFailed):
            feed(env.program("postgres", ("wc",)), cut_short())
        assert b"".join(output(env.program("postgres", ("printf", "%s", "all")))) == b"all"
        feed(env.program("postgres", ("wc",)), (b"all",))


@SEVERAL
def test_every_call_of_persistent_services_fails_with_an_error_of_ours(
    unix_proxy: EngineProxy, troubles: Sequence[Trouble]
) -> None:
    with (
        own_project(unix_proxy) as settings,
        TritonEnvironment(settings, services=("redis",), persistent=True) as env,
        DockerStack(settings) as services,
    ):
        belonging = services.belongings()
        patience, services.engine.client.api.timeout = services.engine.client.api.timeout, 1
        calls: dict[str, Callable[[], object]] = {
            "logs": lambda: env.logs("redis"),
            "containers": services.instances,
            "status": services.status,
            "belongings": services.belongings,
            "with_data": services.with_data,
            "sizes": lambda: services.sizes(belonging.data),
            "has_program": lambda: services.access("redis").has("redis-cli"),
            "restart": lambda: services.restart(("redis",), lambda name, seconds: None),
            "down": services.down,
            "remove": services.remove,
            "open": lambda: DockerStack(settings),
            "start": lambda: TritonEnvironment(settings, services=("redis",), persistent=True).start(),
        }
        for trouble in troubles:
            with in_trouble(unix_proxy, trouble):
                errors = outcomes(calls)
                if trouble == troubles[-1]:
                    error = failed_stop(env)
            assert errors.pop("sizes") is None, trouble
            assert {name: error for name, error in errors.items() if not isinstance(error, TritonError)} == {}, trouble
        services.engine.client.api.timeout = patience
        # What it could not do it does now.
        env.stop()
        assert services.instances() == {}
    assert error.hint == "python -m triton_env down"


def outcomes(calls: dict[str, Callable[[], object]]) -> dict[str, BaseException | None]:
    """What each of these raises."""
    found: dict[str, BaseException | None] = {}
    for name, call in calls.items():
        try:
            call()
        except Exception as error:
            found[name] = error
        else:
            found[name] = None
    return found


# --- Signals, in processes of their own ------------------------------------------------------------------------------

PREFACE = """
import os, signal, sys
from triton_env import Settings, TritonEnvironment
from triton_env.core import interrupts
from triton_env.errors import CleanupFailed
from triton_env.runtimes.docker import watch
def say(word):
    print(word, flush=True)
def wait():
    sys.stdin.readline()
"""
FOR_EVER = "watch.SILENCE = 1e9\n"
"""Nothing but a signal ends a wait."""
SOON = "watch.SILENCE = 1\nwatch._PING_PAUSE = 0.2\n"


class Child:
    """A process that uses the engine through a proxy, says what it does, and does the next thing when it is told."""

    def __init__(self, proxy: EngineProxy, command: list[str]) -> None:
        self.process = forkserver.Popen(
            command,
            env=os.environ | {"DOCKER_HOST": proxy.url, "TRITON_PROGRESS": "off"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def read(self) -> str:
        assert self.process.stdout is not None
        said = self.process.stdout.readline().strip()
        assert said, self.end()
        return said

    def go_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def signal(self, number: int) -> None:
        """Send it a signal as often as it takes until it is in the middle of what the signal ends.

        Each time it gets twice as long: the next one could keep it from saying what it has to say at its end.
        """
        pause = 0.05
        while self.process.poll() is None:
            assert pause < WAIT
            self.process.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(pause)
            pause *= 2

    def end(self) -> tuple[int, str]:
        """Its exit code and what it complained of. One that hangs fails the test."""
        _, errors = self.process.communicate(timeout=WAIT)
        return self.process.returncode, errors


@pytest.fixture
def child(unix_proxy: EngineProxy) -> Iterator[Callable[..., Child]]:
    with ExitStack() as stack:

        def begin(*command: str, script: str = "") -> Child:
            words = [sys.executable, *command] if command else [sys.executable, "-c", PREFACE + textwrap.dedent(script)]
            child = Child(unix_proxy, words)
            stack.callback(child.process.communicate)
            stack.callback(child.process.kill)
            return child

        yield begin


STARTED = "env = TritonEnvironment(services=('redis',)).start()\nsay(env.id)\nwait()\n"
ENDS = {
    "stop": "env.stop()",
    "the end of a block": "with env: pass",
    "the end of the interpreter": "",
    "an async block": """
import asyncio
async def main():
    async with env: pass
asyncio.run(main())
""",
}


@pytest.mark.parametrize(
    ("end", "number"),
    [
        # Each end and each signal: what they do to each other is in the long lane.
        pytest.param(end, number, marks=() if (place + number) % 2 else pytest.mark.long)
        for place, end in enumerate(ENDS)
        for number in (
            signal.SIGINT,
            signal.SIGTERM,
        )
    ],
)
def test_a_signal_ends_a_cleanup_that_waits_for_an_engine_that_hangs(
    engine: docker.DockerClient, unix_proxy: EngineProxy, child: Callable[..., Child], end: str, number: int
) -> None:
    """Nothing else would. What is left is removed as soon as the engine is back, though its owner has ended."""
    owner = child(
        script=f"{FOR_EVER}env = TritonEnvironment(services=('redis',)).start()\nsay(env.id)\nwait()\n{ENDS[end]}"
    )
    identifier = owner.read()
    asked = unix_proxy.be_when("hang", b"/containers/json?")
    owner.go_on()
    assert asked.wait(WAIT)
    owner.signal(number)
    _, errors = owner.end()
    # A second signal in a coroutine breaks off asyncio itself.
    assert identifier in errors or end == "an async block"
    unix_proxy.come_back()
    assert until(lambda: not left(engine, identifier)), "the container is forgotten"


@pytest.mark.parametrize("end", ["stop", *(pytest.param(end, marks=pytest.mark.long) for end in ENDS if end != "stop")])
def test_an_engine_that_hangs_is_given_up_without_a_signal(
    engine: docker.DockerClient, unix_proxy: EngineProxy, child: Callable[..., Child], end: str
) -> None:
    owner = child(
        script=f"{SOON}env = TritonEnvironment(services=('redis',)).start()\nsay(env.id)\nwait()\n{ENDS[end]}"
    )
    identifier = owner.read()
    unix_proxy.hang()
    owner.go_on()
    _, errors = owner.end()
    assert "the engine has not answered for 1 s" in errors
    unix_proxy.come_back()
    assert until(lambda: not left(engine, identifier)), "the container is forgotten"


@pytest.mark.parametrize(
    "asked",
    [
        b"/start",
        b"/networks/create",
        pytest.param(b"POST /v1.41/containers/create", marks=pytest.mark.long),
        pytest.param(b"GET /v1.41/images/", marks=pytest.mark.long),
    ],
)
def test_a_start_that_hangs_is_called_off_by_a_signal(
    engine: docker.DockerClient, unix_proxy: EngineProxy, child: Callable[..., Child], asked: bytes
) -> None:
    owner = child(
        script=f"""
        {FOR_EVER}
        env = TritonEnvironment(services=("redis",), lazy=True)
        say("begins")
        wait()
        env.start()
        say(env.id)
        env.redis
        """
    )
    owner.read()
    hangs = unix_proxy.be_when("hang", asked)
    owner.go_on()
    identifier = owner.read()
    assert hangs.wait(WAIT)
    owner.signal(signal.SIGINT)
    owner.end()
    unix_proxy.come_back()
    assert until(lambda: not left(engine, identifier)), "the container is forgotten"


def runs(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


COMMANDS = {
    "status": b"/containers/json?",
    "logs --follow": b"/logs?",
    "prune --dry-run": b"/networks",
    "down": b"/stop",
}


def test_a_command_that_hangs_ends_at_ctrl_c_with_all_that_it_has_started(
    unix_proxy: EngineProxy, child: Callable[..., Child], monkeypatch: pytest.MonkeyPatch
) -> None:
    with own_project(unix_proxy) as settings:
        monkeypatch.setenv("TRITON_PROJECT", settings.triton_project)
        TritonEnvironment(settings, services=("redis",), persistent=True).start().detach()
        for command, asked in COMMANDS.items():
            hangs = unix_proxy.be_when("hang", asked)
            process = child("-m", "triton_env", *command.split())
            assert hangs.wait(WAIT), command
            begun = psutil.Process(process.process.pid).children(recursive=True)
            assert begun or not command.startswith(("down", "logs")), command
            process.process.send_signal(signal.SIGINT)
            code, _ = process.end()
            assert code == 130, command
            assert until(lambda begun=begun: not any(runs(each) for each in begun)), f"Compose runs on: {command}"  # type: ignore[misc]
            unix_proxy.come_back()


def test_a_persistent_start_that_hangs_in_compose_ends_compose(
    unix_proxy: EngineProxy, child: Callable[..., Child], monkeypatch: pytest.MonkeyPatch
) -> None:
    with own_project(unix_proxy) as settings:
        monkeypatch.setenv("TRITON_PROJECT", settings.triton_project)
        # Compose creates it with a name, the look into volumes without.
        hangs = unix_proxy.be_when("hang", b"/containers/create?name=")
        process = child("-m", "triton_env", "up", "--services", "redis")
        assert hangs.wait(WAIT)
        begun = psutil.Process(process.process.pid).children(recursive=True)
        assert begun
        process.signal(signal.SIGINT)
        code, errors = process.end()
        # The last signal may come when the command has no handler any more.
        assert code in (130, -signal.SIGINT), errors
        assert until(lambda: not any(runs(each) for each in begun)), "a program of Compose runs on"
