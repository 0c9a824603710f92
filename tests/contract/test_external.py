"""The external runtime, on servers that another environment runs: the same services, and nothing is made there."""

import asyncio
import io
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import places
from patience import patient_probes
from triton_env import Settings, TritonEnvironment
from triton_env.errors import (
    InvalidSetting,
    NoSharedNetwork,
    RuntimeUnavailable,
    ServiceUnusable,
)
from triton_env.services import SERVICES


@pytest.fixture(scope="module", autouse=True)
def patient() -> Iterator[None]:
    """How often a server is asked is counted here, so no answer may be late."""
    with patient_probes():
        yield


@pytest.fixture(scope="module")
def theirs(embedded_packages: None, warm: Callable[[str], TritonEnvironment]) -> TritonEnvironment:
    """Whose servers they are."""
    return warm("embedded")


def settings_for(theirs: TritonEnvironment, **others: Any) -> Settings:
    """The settings that lead to these servers, as from their variables."""
    return Settings(**{name.lower(): value for name, value in theirs.environ().items()} | others)


@pytest.fixture(scope="module")
def ours(theirs: TritonEnvironment) -> Iterator[TritonEnvironment]:
    with TritonEnvironment(settings_for(theirs), runtime="external") as environment:
        yield environment


def unusable(theirs: TritonEnvironment, service: str, **others: Any) -> ServiceUnusable:
    """The error of a start with some settings that are wrong."""
    environment = TritonEnvironment(settings_for(theirs, **others), services=(service,), runtime="external")
    with pytest.raises(ServiceUnusable) as caught:
        environment.start()
    assert "running" not in repr(environment)
    return caught.value


class TestTheSameServices:
    def test_variables_and_urls(self, theirs: TritonEnvironment, ours: TritonEnvironment) -> None:
        assert ours.environ() == theirs.environ()
        assert ours.runtime == "external"
        assert ours.runtime_reason == "it was asked for"
        for name in SERVICES:
            assert ours.service(name).url == theirs.service(name).url
            assert ours.service(name).internal_url is None
            assert ours.service(name).server_version() == theirs.service(name).server_version()

    def test_clients(self, theirs: TritonEnvironment, ours: TritonEnvironment) -> None:
        with ours.postgres.connect() as connection:
            connection.execute("create table shared as select 42 as answer")
        with theirs.postgres.connect() as connection:
            assert connection.execute("select answer from shared").fetchone() == (42,)
        with ours.clickhouse.client() as client:
            assert client.command("select currentDatabase()") == theirs.clickhouse.database
        with ours.redis.client() as redis:
            redis.set("shared", "yes")
        with theirs.redis.client(decode_responses=True) as redis:
            assert redis.get("shared") == "yes"
        ours.s3.client().upload_fileobj(io.BytesIO(b"yes"), ours.s3.bucket, "shared")
        assert theirs.s3.client().get_object(Bucket=theirs.s3.bucket, Key="shared")["Body"].read() == b"yes"

    def test_asynchronous_clients(self, ours: TritonEnvironment) -> None:
        async def ask() -> object:
            async with await ours.postgres.aconnect() as connection:
                return await (await connection.execute("select 1")).fetchone()

        assert asyncio.run(ask()) == (1,)

    def test_what_is_not_theirs_to_give(self, ours: TritonEnvironment) -> None:
        assert ours.logs("postgres") == ""
        with pytest.raises(NoSharedNetwork):
            ours.environ(internal=True)
        with pytest.raises(RuntimeUnavailable, match="pg_dump cannot be run"):
            ours.program("postgres", ["pg_dump"])

    def test_it_is_as_the_documents_compare_it(self, ours: TritonEnvironment) -> None:
        places.check(places.EXTERNAL, ours)

    def test_the_timeline(self, ours: TritonEnvironment) -> None:
        for name in SERVICES:
            assert [span.phase for span in ours.timeline.of(name)] == ["boot", "ready"]

    def test_two_have_one_id(self, theirs: TritonEnvironment, ours: TritonEnvironment) -> None:
        with TritonEnvironment(settings_for(theirs), services=("redis",), runtime="external") as other:
            assert other.id == ours.id != theirs.id

    def test_reuse_is_no_matter(self, theirs: TritonEnvironment, ours: TritonEnvironment) -> None:
        with TritonEnvironment(settings_for(theirs), services=("redis",), runtime="external", reuse=True) as other:
            assert other.id == ours.id

    def test_they_run_on(self, theirs: TritonEnvironment) -> None:
        with TritonEnvironment(settings_for(theirs), runtime="external") as environment:
            assert environment.s3.bucket
        for name in SERVICES:
            theirs.service(name).check_ready()

    def test_variables_of_the_process_lead_there(
        self, theirs: TritonEnvironment, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in {"TRITON_RUNTIME": "external", **theirs.environ()}.items():
            monkeypatch.setenv(name, value)
        with TritonEnvironment() as environment:
            assert environment.runtime == "external"
            assert environment.redis.url == theirs.redis.url

    def test_urls_alone_lead_there(self, theirs: TritonEnvironment) -> None:
        # No URL of S3 holds its keys.
        names = ("DATABASE_URL", "REDIS_URL", "AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        urls = {name: theirs.environ()[name] for name in names}
        Path(".env").write_text("".join(f"{name}={value}\n" for name, value in urls.items()), "utf-8")
        with TritonEnvironment(services=("postgres", "redis", "s3"), runtime="external") as environment:
            for name in environment.services:
                assert environment.service(name).url == theirs.service(name).url


class TestWhatTheyTurnDown:
    """Each is told at once, with the server's own words."""

    @pytest.mark.parametrize(
        ("service", "others", "cause"),
        [
            ("postgres", {"postgres_password": "wrong one"}, "password authentication failed"),
            ("postgres", {"postgres_db": "nothing"}, 'database "nothing" does not exist'),
            ("clickhouse", {"clickhouse_password": "wrong one"}, "Authentication failed"),
            ("clickhouse", {"clickhouse_db": "nothing"}, "nothing"),
            ("redis", {"redis_password": "wrong one"}, "invalid username-password pair"),
            ("redis", {"redis_password": ""}, "authenticat"),
            ("s3", {"s3_bucket": "nothing-here"}, "NoSuchBucket"),
        ],
    )
    def test_says_why(
        self,
        theirs: TritonEnvironment,
        monkeypatch: pytest.MonkeyPatch,
        service: str,
        others: Mapping[str, str],
        cause: str,
    ) -> None:
        tries: list[str] = []
        real = SERVICES[service].check_ready

        def counted(each: Any) -> None:
            tries.append(service)
            real(each)

        monkeypatch.setattr(SERVICES[service], "check_ready", counted)
        urls = {"postgres": {"database_url"}, "redis": {"redis_url"}}.get(service, set())
        everything = settings_for(theirs, **others)
        settings = Settings(**{name: getattr(everything, name) for name in everything.model_fields_set - urls})
        environment = TritonEnvironment(settings, services=(service,), runtime="external")
        with pytest.raises(ServiceUnusable) as caught:
            environment.start()
        assert tries == [service]
        assert cause in caught.value.cause
        assert "wrong one" not in str(caught.value)
        assert str(theirs.service(service).port) in caught.value.where
        assert "creates nothing" in caught.value.hint

    def test_nothing_was_created(self, theirs: TritonEnvironment) -> None:
        for others in ({"clickhouse_db": "never_made"}, {"s3_bucket": "never-made"}):
            unusable(theirs, "clickhouse" if "clickhouse_db" in others else "s3", **others)
        with theirs.clickhouse.client() as client:
            assert "never_made" not in client.command("show databases")
        buckets = [bucket["Name"] for bucket in theirs.s3.client().list_buckets()["Buckets"]]
        assert "never-made" not in buckets


def test_where_nobody_listens_it_says_so_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("triton_env.runtimes.external._PATIENCE", 0.3)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        settings = Settings(redis_host="127.0.0.1", redis_port=port)
        with pytest.raises(ServiceUnusable) as caught:
            TritonEnvironment(settings, services=("redis",), runtime="external").start()
    assert caught.value.what == f"No Redis answers at 127.0.0.1:{port}."
    assert "REDIS_HOST" in caught.value.where
    assert "refused" in caught.value.cause


@pytest.mark.long_on("clickhouse", "s3")
@pytest.mark.parametrize("service", SERVICES)
def test_one_that_says_nothing_is_not_said_to_turn_us_down(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("triton_env.services.base.CONNECT_TIMEOUT", 1)
    monkeypatch.setattr("triton_env.runtimes.external._PATIENCE", 2)
    with socket.create_server(("127.0.0.1", 0), backlog=128) as silent:
        port = silent.getsockname()[1]
        settings = Settings(
            postgres_port=port, redis_port=port, clickhouse_http_port=port, aws_endpoint_url=f"http://127.0.0.1:{port}"
        )
        with pytest.raises(ServiceUnusable) as caught:
            TritonEnvironment(settings, services=(service,), runtime="external").start()
    assert caught.value.what.startswith(f"No {SERVICES[service].title} answers at ")
    assert "time" in caught.value.cause.lower()


def test_one_that_is_just_starting_is_waited_for(theirs: TritonEnvironment, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[int] = []
    real = SERVICES["redis"].check_ready

    def loading_at_first(service: Any) -> None:
        tries.append(1)
        if len(tries) < 3:
            raise RuntimeError("Redis is loading the dataset in memory")
        real(service)

    monkeypatch.setattr(SERVICES["redis"], "check_ready", loading_at_first)
    monkeypatch.setattr("triton_env.runtimes.external._PATIENCE", 60)
    with TritonEnvironment(settings_for(theirs), services=("redis",), runtime="external"):
        assert len(tries) == 3


def test_persistent_services_are_another_thing(theirs: TritonEnvironment) -> None:
    environment = TritonEnvironment(settings_for(theirs), runtime="external", persistent=True)
    with pytest.raises((RuntimeUnavailable, InvalidSetting)):
        environment.start()
