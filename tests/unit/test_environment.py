"""The life of an environment: start, waits, stop, again."""

import asyncio
import signal
import threading
import time

import pytest

from triton_env import ClickHouse, Postgres, Redis, Settings, TritonEnvironment
from triton_env.errors import (
    InvalidSetting,
    NotStarted,
    RuntimeUnavailable,
    ServiceNotSelected,
    UnknownRuntime,
    UnknownService,
    UsageError,
)
from triton_env.services import S3, SERVICES
from unit.fakes import FakeRuntime, FakeRuntimes, after, until_cancelled, when_main_waits


def test_all_four_are_ready_when_the_block_begins_and_gone_when_it_ends(runtimes: FakeRuntimes) -> None:
    with TritonEnvironment() as env:
        assert sorted(runtimes.last.ready) == sorted(SERVICES)
        assert env.runtime == "docker"
        assert env.id == runtimes.last.environment
        assert env.postgres.host == "127.0.0.1"
        assert env.postgres.port == 25432
        assert runtimes.last.stops == 0
    assert runtimes.last.stops == 1


def test_the_block_ends_the_environment_on_an_exception_too(runtimes: FakeRuntimes) -> None:
    with pytest.raises(ZeroDivisionError), TritonEnvironment():
        _ = 1 / 0
    assert runtimes.last.stops == 1


def test_services_start_in_parallel(runtimes: FakeRuntimes) -> None:
    # No thread gets through the barrier before all four are there.
    barrier = threading.Barrier(len(SERVICES))
    runtimes.behaviours = {name: lambda runtime: barrier.wait() and None for name in SERVICES}
    with TritonEnvironment():
        assert not barrier.broken


def test_start_waits_for_the_last_service(runtimes: FakeRuntimes) -> None:
    others_ready = threading.Event()
    runtimes.behaviours["s3"] = after(others_ready)

    def release() -> None:
        while len(runtimes.last.ready) < len(SERVICES) - 1:
            time.sleep(0.001)
        others_ready.set()

    runtimes.behaviours["redis"] = lambda runtime: threading.Thread(target=release, daemon=True).start()
    with TritonEnvironment():
        assert runtimes.last.ready[-1] == "s3"


def test_lazy_start_returns_at_once_and_waits_for_each_service_on_first_use(runtimes: FakeRuntimes) -> None:
    gates = {name: threading.Event() for name in SERVICES}
    runtimes.behaviours = {name: after(gate) for name, gate in gates.items()}
    with TritonEnvironment(lazy=True) as env:
        assert env.id
        gates["redis"].set()
        assert env.redis.url.startswith("redis://")
        assert runtimes.last.ready == ["redis"]
        threading.Timer(0.02, gates["postgres"].set).start()
        assert env.postgres.database == "triton"
    assert sorted(runtimes.last.called_off) == ["clickhouse", "s3"]


def test_a_waiter_of_a_lazy_environment_is_released_by_stop(runtimes: FakeRuntimes) -> None:
    from triton_env.errors import StartCancelled

    runtimes.behaviours["redis"] = until_cancelled
    env = TritonEnvironment(services=("redis",), lazy=True).start()
    with pytest.raises(StartCancelled), when_main_waits(env.stop):
        env.redis  # noqa: B018


def test_attributes_are_the_services(runtimes: FakeRuntimes) -> None:
    with TritonEnvironment() as env:
        kinds = [type(service) for service in (env.postgres, env.clickhouse, env.redis, env.s3)]
        assert kinds == [Postgres, ClickHouse, Redis, S3]
        assert env.service("redis") is env.redis
        assert env.clickhouse.http_port == 28123
        assert env.clickhouse.native_port == 29000
        assert env.redis.internal_url == f"redis://:{env.redis.password}@redis:6379/0"
        assert env.s3.endpoint_url == env.s3.url == "http://127.0.0.1:24566"
        assert env.s3.bucket == "triton-documents"


@pytest.mark.parametrize("services", [("redis", "postgres"), ["postgres", "redis"], "redis, postgres"])
def test_a_subset_of_services(runtimes: FakeRuntimes, services: tuple[str, ...] | str) -> None:
    with TritonEnvironment(services=services) as env:
        assert env.services == ("postgres", "redis")
        assert sorted(runtimes.last.recipes) == ["postgres", "redis"]
        with pytest.raises(ServiceNotSelected, match="'s3' is not part of this environment") as caught:
            env.s3  # noqa: B018
        assert "services=('postgres', 'redis', 's3')" in caught.value.hint
        with pytest.raises(ServiceNotSelected):
            env.logs("clickhouse")


@pytest.mark.parametrize("name", ["mongo", "", "Postgres", 5])
def test_an_unknown_service_is_refused_before_anything_starts(runtimes: FakeRuntimes, name: object) -> None:
    with pytest.raises(UnknownService, match="There is no service") as caught:
        TritonEnvironment(services=("redis", name))  # type: ignore[arg-type]
    assert all(known in caught.value.hint for known in SERVICES)
    assert runtimes.names == []


def test_unknown_services_are_distinguished_from_those_not_selected(runtimes: FakeRuntimes) -> None:
    with TritonEnvironment(services=("redis",)) as env:
        with pytest.raises(UnknownService):
            env.service("mongo")
        with pytest.raises(UnknownService):
            env.logs("mongo")


def test_no_service_at_all_is_refused() -> None:
    with pytest.raises(InvalidSetting, match="at least one service"):
        TritonEnvironment(services=())


def test_an_unknown_runtime_is_refused() -> None:
    with pytest.raises(UnknownRuntime, match="'podman'") as caught:
        TritonEnvironment(runtime="podman")
    assert "auto, docker, embedded, kubernetes, external" in caught.value.hint


def test_the_runtime_is_the_argument_or_the_setting(runtimes: FakeRuntimes) -> None:
    settings = Settings(triton_runtime="embedded")
    with TritonEnvironment(settings, services=("redis",)):
        pass
    with TritonEnvironment(settings, services=("redis",), runtime="docker"):
        pass
    with TritonEnvironment(services=("redis",)):
        pass
    assert runtimes.names == ["embedded", "docker", "auto"]


def test_what_is_persistent_is_not_also_shared_by_reuse() -> None:
    with pytest.raises(UsageError, match="reuse=True"):
        TritonEnvironment(reuse=True, persistent=True)


def test_persistent_services_are_started_here_and_not_external_ones() -> None:
    with pytest.raises(RuntimeUnavailable, match="nothing is persistent there"):
        TritonEnvironment(persistent=True, runtime="external").start()


def test_a_session_cannot_be_left_running(runtimes: FakeRuntimes) -> None:
    with TritonEnvironment(services=("redis",)) as env, pytest.raises(UsageError, match="left running"):
        env.detach()


def test_nothing_can_be_used_before_the_start_or_after_the_end(runtimes: FakeRuntimes) -> None:
    env = TritonEnvironment()
    uses = {
        "id": lambda: env.id,
        "runtime": lambda: env.runtime,
        "postgres": lambda: env.postgres,
        "environ": lambda: env.environ(),
        "logs": lambda: env.logs("redis"),
    }
    for use in (*uses.values(), lambda: env.timeline):
        with pytest.raises(NotStarted, match="not started"):
            use()
    env.start()
    for use in uses.values():
        use()
    env.stop()
    for use in uses.values():
        with pytest.raises(NotStarted, match="stopped"):
            use()
    assert env.timeline.ready_at("redis") is not None


def test_starting_and_stopping_twice_is_fine(runtimes: FakeRuntimes) -> None:
    env = TritonEnvironment(services=("redis",))
    env.stop()
    assert env.start() is env
    first = env.id
    assert env.start() is env
    assert env.id == first
    assert len(runtimes.opened) == 1
    env.stop()
    env.stop()
    assert runtimes.last.stops == 1


def test_a_restart_has_another_id_and_other_credentials(runtimes: FakeRuntimes) -> None:
    def identity(env: TritonEnvironment) -> set[str]:
        secrets = {env.postgres.password, env.clickhouse.password, env.redis.password, env.s3.secret_key}
        return {env.id, env.s3.access_key} | secrets

    env = TritonEnvironment()
    with env:
        first = identity(env)
    with env:
        second = identity(env)
    assert len(first) == len(second) == 6
    assert first.isdisjoint(second)
    assert [runtime.stops for runtime in runtimes.opened] == [1, 1]


def test_a_session_never_has_the_credentials_of_the_settings(runtimes: FakeRuntimes) -> None:
    settings = Settings(
        postgres_password="mine-postgres",
        clickhouse_password="mine-clickhouse",
        redis_password="mine-redis",
        aws_secret_access_key="mine-s3",
    )
    with TritonEnvironment(settings) as env:
        assert "mine-" not in " ".join(env.environ().values())
        assert env.settings.postgres_password.get_secret_value() == env.postgres.password
    assert settings.postgres_password.get_secret_value() == "mine-postgres"
    assert env.settings is settings


def test_environments_do_not_share_anything(runtimes: FakeRuntimes) -> None:
    with TritonEnvironment(services=("redis",)) as one, TritonEnvironment(services=("redis",)) as other:
        assert one.id != other.id
        assert one.redis.password != other.redis.password
        one.stop()
        assert other.redis.port


def test_logs_are_the_runtimes(runtimes: FakeRuntimes) -> None:
    with TritonEnvironment(services=("redis",)) as env:
        assert env.logs("redis", 2) == "redis line 0\nredis line 1"


def test_repr_tells_the_state(runtimes: FakeRuntimes) -> None:
    env = TritonEnvironment(services=("redis", "s3"))
    assert repr(env) == "<TritonEnvironment not started: redis, s3>"
    with env:
        assert repr(env) == f"<TritonEnvironment {env.id} running: redis, s3>"
    assert repr(env) == "<TritonEnvironment stopped: redis, s3>"


async def test_async_with_lets_the_loop_run_meanwhile(runtimes: FakeRuntimes) -> None:
    gate = threading.Event()
    runtimes.behaviours["redis"] = after(gate)
    asyncio.get_running_loop().call_later(0.01, gate.set)
    async with TritonEnvironment(services=("redis",)) as env:
        assert env.redis.port == 26379
        assert runtimes.last.stops == 0
    assert runtimes.last.stops == 1


async def test_async_with_handles_sigterm_like_the_plain_block(runtimes: FakeRuntimes) -> None:
    async with TritonEnvironment(services=("redis",)):
        assert callable(signal.getsignal(signal.SIGTERM))
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


async def test_a_cancelled_async_start_leaves_nothing_behind(runtimes: FakeRuntimes) -> None:
    loop, limit = asyncio.get_running_loop(), asyncio.timeout(None)

    def begins(runtime: FakeRuntime) -> None:
        # The time is over once the start is under way, however long that takes.
        loop.call_soon_threadsafe(lambda: limit.reschedule(loop.time()))
        until_cancelled(runtime)

    runtimes.behaviours["redis"] = begins
    env = TritonEnvironment(services=("redis", "postgres"))
    with pytest.raises(TimeoutError):
        async with limit:
            await env.__aenter__()
    assert runtimes.last.stops == 1
    assert runtimes.last.called_off == ["redis"]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    with pytest.raises(NotStarted):
        env.redis  # noqa: B018


async def test_async_with_raises_what_failed(runtimes: FakeRuntimes) -> None:
    runtimes.open_error = RuntimeUnavailable("No runtime today.")
    with pytest.raises(RuntimeUnavailable, match="No runtime today"):
        async with TritonEnvironment():
            pass
