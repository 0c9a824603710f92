"""What is asked of the servers of an environment is true, on each runtime. Other tests use the same servers."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from patience import WAIT, patient_probes, until
from triton_env import TritonEnvironment
from triton_env.inspection import EnvironmentEntry, ServiceEntry, without_password
from triton_env.inspection.asking import Asker, _sampled

pytestmark = [pytest.mark.timeout(400), pytest.mark.long_on("persistent")]


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What takes a server or an engine too long is left out; here none takes too long."""
    for timeout in ("inspection.asking._TIMEOUT", "status._ANSWER_TIMEOUT", "status._USAGE_TIMEOUT"):
        monkeypatch.setattr(f"triton_env.{timeout}", WAIT)
    with patient_probes():
        yield


def asked(env: TritonEnvironment, *, show_secrets: bool = False) -> dict[str, ServiceEntry]:
    return {each.name: each for each in env.inspect(ask=True, show_secrets=show_secrets).services}


def test_each_server_is_well_and_says_what_it_uses(env: TritonEnvironment) -> None:
    entry = env.inspect(ask=True)
    assert entry.problem is None
    assert tuple(each.name for each in entry.services) == env.services
    for found in entry.services:
        service = env.service(found.name)
        assert found.health is not None
        assert (found.state, found.health.is_good, found.health.problem) == ("running", True, None)
        assert found.version == service.server_version()
        assert found.url == without_password(service.url)
        assert not any(secret in entry.model_dump_json() for secret in service.secrets)
        assert found.started is not None
        assert found.started <= found.health.at
        assert found.memory is not None
        assert found.memory > 1_000_000
        assert found.disk is not None
        assert found.log_position is not None
        assert found.metrics
    secrets = asked(env, show_secrets=True)
    assert {name: each.url for name, each in secrets.items()} == {name: env.service(name).url for name in env.services}


# Asked of the server by the same client; what an engine reports of a container is in the test before.
@pytest.mark.long_on("docker", "persistent")
def test_connections_and_operations_are_counted(env: TritonEnvironment) -> None:
    before = asked(env)["redis"]
    with ExitStack() as stack:
        clients = [stack.enter_context(env.redis.client()) for _ in range(20)]
        for client in clients:
            client.ping()
        now = asked(env)["redis"]
    assert before.metrics is not None
    assert now.metrics is not None
    assert now.metrics["commands_total"] >= before.metrics["commands_total"] + 20
    # Connections of other tests may end meanwhile; these do not.
    assert now.connections is not None
    assert now.connections >= 20


# An engine adds up all files of a container for it, for seconds; that it reports a size is in the first test.
@pytest.mark.long_on("docker", "persistent")
def test_what_is_written_takes_room(env: TritonEnvironment) -> None:
    before = asked(env)["postgres"].disk
    assert before is not None
    with env.postgres.connect(autocommit=True) as connection:
        connection.execute("create table of_inspection as select repeat('x', 100) from generate_series(1, 200000)")
        # Only files are added up.
        connection.execute("checkpoint")
        try:
            assert until(lambda: (asked(env)["postgres"].disk or 0) > before + 10_000_000)
        finally:
            connection.execute("drop table of_inspection")


# Asked of the server by the same client.
@pytest.mark.long_on("docker", "persistent")
def test_a_namespace_has_a_size_where_the_server_can_tell(env: TritonEnvironment) -> None:
    with env.namespace() as namespace:
        with namespace.clickhouse.client() as client:
            client.command("create table t (x UInt64) engine = MergeTree order by x")
            client.command("insert into t select number from numbers(100000)")
        namespace.s3.client().put_object(Bucket=namespace.s3.bucket, Key="k", Body=b"x" * 1000)
        with namespace.redis.client() as redis:
            # More than are looked at: what these take stands for all.
            redis.mset({f"key:{number:04}": "x" * 1000 for number in range(3000)})

        def sizes(entry: EnvironmentEntry) -> dict[str, int]:
            (space,) = (each for each in entry.spaces if each.name == namespace.id)
            assert space.made_by
            return dict(space.sizes or {})

        found = sizes(env.inspect(ask=True))
        assert found["postgres"] > 1_000_000
        assert found["clickhouse"] > 100_000
        assert 3_000_000 < found["redis"] < 6_000_000
        # Objects are counted for a limited time.
        assert until(lambda: sizes(env.inspect(ask=True)).get("s3") == 1000)


def test_the_start_is_on_record(env: TritonEnvironment) -> None:
    entry = env.inspect()
    assert {(each.service, each.phase.value) for each in entry.timeline} >= {(name, "ready") for name in env.services}
    assert [(each.service, each.start) for each in entry.timeline] == [
        (span.service, round(span.start, 3)) for span in env.timeline.spans
    ]


def test_a_connection_that_is_in_use_when_all_are_closed_is_closed_after_it(
    env: TritonEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    asker, entry = Asker(), env.inspect()
    known = asker._of(entry, "postgres", env.postgres)
    insight: Any = known.insight
    connections = []
    sample = insight.sample

    def closed_within() -> Any:
        found = sample()
        connections.append(insight._kept)
        asker.close()
        return found

    monkeypatch.setattr(insight, "sample", closed_within)
    assert _sampled(known)
    assert [each.closed for each in connections] == [True]
    # And no other is made, by a question that comes later.
    assert _sampled(known) is None
    assert _sampled(asker._of(entry, "postgres", env.postgres)) is None
    assert len(connections) == 1
