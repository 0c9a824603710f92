"""Redis's logical databases: all types and times to live are copied, and which numbers are whose."""

import socket
from collections.abc import Iterator

import pytest
import redis.exceptions

from backup.redis_contents import NOON, fill_redis, look_at_redis
from patience import WAIT, until
from triton_env import Namespace, Settings, TritonEnvironment
from triton_env.core.model import Endpoint, Placement
from triton_env.core.threads import in_thread
from triton_env.errors import IsolationFailed
from triton_env.isolation.slots import free_slots
from triton_env.services import Redis
from triton_env.services.redis import isolation


@pytest.fixture(autouse=True)
def empty(small: TritonEnvironment) -> Iterator[None]:
    yield
    small.reset()


def test_a_snapshot_has_all_types_and_times_to_live_of_all_databases(small: TritonEnvironment) -> None:
    fill_redis(small)
    before = look_at_redis(small)
    small.snapshot("full")
    with small.redis.client() as redis:
        redis.flushdb()
        redis.set("other", 1)
    with small.redis.client(db=5) as redis:
        redis.set("fifth", 5)
    small.restore("full")
    after = look_at_redis(small)
    # The snapshot itself is there as well.
    assert {name for name in after["databases"] if int(name[2:]) < 16} == {"db0", "db3"}
    del before["databases"], after["databases"]
    assert after == before


def test_a_namespace_gets_the_first_of_a_snapshot(small: TritonEnvironment) -> None:
    fill_redis(small)
    small.snapshot("full")
    with small.namespace(template="full") as namespace, namespace.redis.client() as redis:
        assert redis.pexpiretime("expires") == NOON
        assert redis.hlen("big hash") == 2500
        assert redis.xinfo_groups("stream")[1]["name"] == b"readers"
        assert redis.get("third") is None
        redis.flushdb()
    with small.redis.client() as redis:
        assert redis.llen("big list") == 2500


def test_numbers_of_namespaces_begin_above_those_of_the_environment(small: TritonEnvironment) -> None:
    with small.namespace() as one, small.namespace() as other:
        assert one.redis.database >= 16
        assert other.redis.database >= 16
        assert one.redis.database != other.redis.database
        assert one.redis.url.endswith(f"/{one.redis.database}")
        assert one.redis.channel_prefix == f"{one.id}:"
    assert small.redis.channel_prefix == ""


def test_reset_of_a_namespace_leaves_the_others(small: TritonEnvironment) -> None:
    def build(namespace: Namespace) -> None:
        with namespace.redis.client() as redis:
            redis.set("seed", 1, ex=1000)

    with small.namespace(template=build) as one, small.namespace(template=build) as other:
        for namespace in (one, other):
            with namespace.redis.client() as redis:
                redis.set("mine", 1)
        one.reset()
        with one.redis.client() as redis:
            assert redis.keys() == [b"seed"]
            assert redis.ttl("seed") > 900
        with other.redis.client() as redis:
            assert sorted(redis.keys()) == [b"mine", b"seed"]


def test_a_test_that_removes_all_users_does_so_for_itself_alone(small: TritonEnvironment) -> None:
    def users_go(namespace: Namespace) -> None:
        with namespace.redis.client() as redis:
            redis.acl_deluser(*(name for name in redis.acl_users() if name != "default"))

    with small.namespace() as later:
        for _ in range(4):  # also one that was made in advance
            with small.namespace() as namespace:
                users_go(namespace)
        later.reset()
        with later.redis.client() as redis:
            assert redis.set("a", 1)
            users_go(later)
        small.reset()
        with later.redis.client() as redis:
            assert redis.get("a") == b"1"


def test_it_goes_on_after_the_server_has_ended_its_connection(small: TritonEnvironment) -> None:
    with small.namespace() as namespace, namespace.redis.client() as redis:
        redis.set("a", 1)
        others = [client["id"] for client in redis.client_list() if client["name"] == "triton-env"]
        assert others
        for each in others:
            redis.client_kill_filter(_id=each)
        with small.redis.client() as own:
            own.set("b", 1)
        namespace.reset()
        assert redis.dbsize() == 0
        with small.redis.client() as own:
            assert own.get("b") == b"1"


def test_its_end_is_not_kept_waiting_by_a_thread_that_waits_for_a_server_that_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(isolation, "_TIMEOUT", WAIT)
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        place = Placement({"redis": Endpoint("127.0.0.1", hanging.getsockname()[1])})
        spaces = isolation.RedisIsolation(Redis(Settings(), place))
        waiting = in_thread(spaces.filled)
        connection, _ = hanging.accept()
        with connection:
            assert connection.recv(1)  # its first command
            spaces.close()
            assert until(waiting.done, WAIT / 3)
    assert isinstance(waiting.exception(), redis.exceptions.ConnectionError)


def test_no_number_free_is_an_error_that_says_so(small: TritonEnvironment) -> None:
    def databases() -> set[str]:
        with small.postgres.connect() as connection:
            rows = connection.execute("select datname from pg_database where datname like 'triton_ns%'").fetchall()
        return {name for (name,) in rows}

    with small.namespace():
        folder = small._isolation()._open().ledger
        # Those that other tests have closed give their numbers back.
        assert until(lambda: len(list(folder.path.glob("*.lease"))) == 1)
        before = databases()
        (folder.path / "slots" / "redis" / "triton_ns_all").symlink_to("16:1024")
        try:
            with pytest.raises(IsolationFailed, match="No logical database of Redis is free") as caught:
                small.namespace()
            assert "--databases" in caught.value.hint
            assert databases() == before
        finally:
            free_slots(folder.path, "triton_ns_all")


LOOP = "while true do end"
LIBRARY = f"#!lua name=runaway\nredis.register_function('runaway', function() {LOOP} end)"


def busy(env: TritonEnvironment) -> bool:
    """Whether a script keeps the server from answering."""
    with env.redis.client() as client:
        try:
            client.get("a")
        except redis.exceptions.ResponseError as error:
            return str(error).startswith("BUSY")
    return False


@pytest.fixture
def impatient(small: TritonEnvironment, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server is busy as soon as a script runs, and it is not waited for long."""
    monkeypatch.setattr(isolation, "_SCRIPT_TIMEOUT", 0.5)
    with small.redis.client() as client:
        client.config_set("busy-reply-threshold", 10)


@pytest.mark.parametrize("kind", ["script", "function"])
def test_a_script_without_end_is_ended(small: TritonEnvironment, impatient: None, kind: str) -> None:
    def run() -> None:
        with small.redis.client(retry=None, socket_timeout=100) as client:
            if kind == "script":
                client.eval(LOOP, 0)
            else:
                client.function_load(LIBRARY, replace=True)
                client.fcall("runaway", 0)

    for act in (small.reset, lambda: small.namespace("after").close()):
        script = in_thread(run)
        assert until(lambda: busy(small))
        act()
        with pytest.raises(redis.exceptions.ResponseError, match="killed"):
            script.result()
        with small.redis.client() as client:
            client.config_set("busy-reply-threshold", 10)


def test_a_script_that_has_written_is_named_with_what_to_do(small: TritonEnvironment, impatient: None) -> None:
    def run() -> None:
        with small.redis.client(retry=None, socket_timeout=100) as client:
            client.eval("redis.call('set', 'a', 1) local t = os.clock() while os.clock() - t < 3 do end", 0)

    script = in_thread(run)
    assert until(lambda: busy(small))
    with pytest.raises(IsolationFailed, match="A script keeps Redis from answering, and cannot be ended") as raised:
        small.reset()
    assert raised.value.cause.startswith("UNKILLABLE")
    assert "wait until it ends" in raised.value.hint
    script.result()
    small.reset()


def test_a_script_on_a_server_of_others_is_theirs_to_end(small: TritonEnvironment, impatient: None) -> None:
    theirs = isolation.RedisIsolation(small.redis)
    theirs.is_lasting = True

    def run() -> None:
        with small.redis.client(retry=None, socket_timeout=100) as client:
            client.eval(LOOP, 0)

    with small.redis.client() as client:
        script = in_thread(run)
        assert until(lambda: busy(small))
        with pytest.raises(IsolationFailed, match="A script keeps Redis from answering") as raised:
            theirs.filled()
        assert raised.value.hint == "end it: redis-cli SCRIPT KILL"
        client.script_kill()
    assert script.exception()
    theirs.close()
