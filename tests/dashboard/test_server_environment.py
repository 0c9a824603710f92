"""What the dashboard answers about an environment that runs, on each runtime."""

import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from secrets import token_hex
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from dashboard.served import Client, path_of, served
from patience import WAIT, until
from triton_env import Settings, TritonEnvironment
from triton_env.dashboard import sampler, steps, watch

pytestmark = pytest.mark.long_on("docker", "persistent")
IN_SESSIONS = pytest.mark.long_on("persistent")
"""For what comes from the engine where there is one, and for panels: each runtime has servers of other versions."""

_SHORTEST_SECRET = 8
"""LocalStack's keys are words that stand everywhere."""


@pytest.fixture(scope="module")
def client(env: TritonEnvironment) -> Iterator[Client]:
    with served(Settings(triton_state_dir=env._mode.settings.triton_state_dir)) as client:
        yield client


def numbers(client: Client) -> dict[str, dict[tuple[str, ...], float]]:
    """What Prometheus gets: by the name of a number, its values by their labels."""
    text = client.http.get("/metrics").text
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


def key_of(client: Client, env: TritonEnvironment) -> str:
    """What distinguishes the environment from all others that are shown."""
    listed = client.get("/api/inspection")["environments"]
    key: str = next(each["key"] for each in listed if each["id"] == env.id)
    return key


def secrets_of(env: TritonEnvironment) -> set[str]:
    return {secret for name in env.services for secret in env.service(name).secrets if len(secret) >= _SHORTEST_SECRET}


@IN_SESSIONS
def test_every_panel_answers_and_no_answer_but_the_snippets_holds_a_secret(
    client: Client, env: TritonEnvironment
) -> None:
    declared = client.get("/api/services")
    assert set(env.services) <= set(declared)
    paths = ["/api/inspection", "/api/services", "/metrics", path_of(env.id, rest="/actions")]
    for service in env.services:
        assert declared[service]["metrics"]
        paths.append(path_of(env.id, service, "/samples"))
        for panel in declared[service]["panels"]:
            if panel["is_stream"] or panel["needs_argument"]:
                continue
            path = path_of(env.id, service, f"/panels/{panel['name']}")
            paths.append(path)
            table = client.get(path)
            assert all(len(row["cells"]) == len(table["columns"]) for row in table["rows"]), path

    shown = {path: client.http.get(path).text for path in paths}
    snippets = client.http.get(path_of(env.id, rest="/snippets")).text
    for secret in secrets_of(env):
        assert secret in snippets
        assert [path for path, text in shown.items() if secret in text] == []


def test_the_ready_lines_of_python_connect(client: Client, env: TritonEnvironment) -> None:
    found = client.get(path_of(env.id, rest="/snippets"))

    texts = {service: {each["title"]: each["text"] for each in lines} for service, lines in found.items()}
    assert [lines[0]["text"] for lines in found.values()] == [env.service(name).url for name in found]
    scope: dict[str, Any] = {}
    exec(texts["postgres"]["Python"], scope)
    with scope["connection"] as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    exec(texts["clickhouse"]["Python"], scope)
    with scope["client"] as clickhouse:
        assert clickhouse.query("SELECT currentDatabase()").result_rows == [(env.clickhouse.database,)]
    exec(texts["redis"]["Python"], scope)
    with scope["client"] as redis:
        assert redis.ping()
    exec(texts["s3"]["Python"], scope)
    assert env.s3.bucket in [each["Name"] for each in scope["client"].list_buckets()["Buckets"]]
    scope["client"].close()


def test_numbers_are_true_while_work_is_done(client: Client, env: TritonEnvironment) -> None:
    keys = [f"load:{token_hex(4)}" for _ in range(50)]
    own = (key_of(client, env),)
    both = (*own, "redis")
    assert until(lambda: own in numbers(client).get("triton_env_redis_commands_total", {}))
    before = numbers(client)
    with client.watching(), env.redis.client() as redis, env.clickhouse.client() as clickhouse:
        for key in keys:
            redis.set(key, 1)
        held = [env.postgres.connect() for _ in range(3)]
        try:
            assert until(lambda: _last(client, env, "postgres").get("connections", 0) >= len(held))
            assert until(lambda: clickhouse.ping() and _last(client, env, "clickhouse").get("connections", 0) >= 1)
            assert until(lambda: _last(client, env, "redis").get("keys", 0) >= len(keys))
            assert until(lambda: {"cpu_percent", "memory"} <= _last(client, env, "redis").keys())
            now = numbers(client)
        finally:
            for connection in held:
                connection.close()
            redis.delete(*keys)
    assert now["triton_env_redis_commands_total"][own] - before["triton_env_redis_commands_total"][own] >= len(keys)
    assert now["triton_env_postgres_connections"][own] >= len(held)
    assert now["triton_env_service_up"][both] == 1
    assert now["triton_env_service_memory_bytes"][both] > 1_000_000


def _last(client: Client, env: TritonEnvironment, service: str) -> dict[str, float]:
    """The newest known value of each number."""
    samples = client.get(path_of(env.id, service, "/samples"), since=60)
    return {name: value for sample in samples for name, value in sample["values"].items()}


def test_a_browser_gets_the_whole_and_then_samples(client: Client, env: TritonEnvironment) -> None:
    with client.events("/api/events") as events:
        name, whole = next(events)
        assert name == "inspection"
        (own,) = [each["key"] for each in whole["environments"] if each["id"] == env.id]
        seen: set[str] = set()
        while seen != set(env.services):
            name, content = next(events)
            if name == "samples" and content["environment"] == own:
                assert content["values"]
                seen.add(content["service"])


@IN_SESSIONS
def test_logs_are_followed_without_secrets(client: Client, env: TritonEnvironment) -> None:
    mark, later = token_hex(8), token_hex(8)
    secret = env.postgres.password

    def write(words: str) -> None:
        with env.postgres.connect() as connection:
            connection.execute(f"DO $$ BEGIN RAISE LOG '{words}'; END $$")  # type: ignore[arg-type]

    write(f"{mark} {secret}")
    lines: list[str] = []
    with client.events(path_of(env.id, rest="/logs"), services="postgres", tail=1000) as events:
        for name, content in events:
            assert (name, content["service"]) == ("log", "postgres")
            lines.append(content["line"])
            if mark in content["line"] and "LOG:" in content["line"]:
                write(later)
            if later in content["line"]:
                break
    assert [line for line in lines if mark in line and "***" in line]
    assert [line for line in lines if secret in line] == []
    # Those who come later get what was kept, and no line twice.
    with client.events(path_of(env.id, rest="/logs"), services="postgres", tail=1000) as events:
        again = []
        for _, content in events:
            again.append(content["line"])
            if later in content["line"]:
                break
    assert len([line for line in again if mark in line and "LOG:" in line]) == 1


def test_a_stream_shows_what_happens_until_it_is_left(client: Client, env: TritonEnvironment) -> None:
    channel, stop = f"news-{token_hex(4)}", threading.Event()

    def publish() -> None:
        with env.redis.client() as redis:
            while not stop.wait(0.2):
                redis.publish(channel, "<b>hello</b>")

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        path = path_of(env.id, "redis", "/streams/messages")
        line = client.first(path, lambda name, content: name == "line", argument=channel, seconds=60)
    finally:
        stop.set()
        thread.join()
    assert "<b>hello</b>" in line


def test_streams_are_few_at_a_time_and_end_when_they_are_left(
    client: Client, env: TritonEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing may come of one as long as it is open.
    monkeypatch.setattr(steps, "_FIRST_TIMEOUT", 0.1)
    path = path_of(env.id, "redis", "/streams/monitor")

    def opened(stack: ExitStack) -> int:
        return stack.enter_context(client.http.stream("GET", path, params={"seconds": 60})).status_code

    # Those of the test before end a moment after it.
    assert until(lambda: _streams(client, env) == 0)
    with ExitStack() as stack:
        assert [opened(stack) for _ in range(5)] == [200, 200, 200, 200, 429]

    def is_open() -> bool:
        with ExitStack() as again:
            return opened(again) == 200

    assert until(is_open)


def _streams(client: Client, env: TritonEnvironment) -> int:
    """Streams and downloads of Redis that go on."""
    opening = client.serving.dashboard._looking._open.get(key_of(client, env))
    line = opening.result().lines.get("redis") if opening and opening.done() else None
    return line.extra if line else 0


def test_documents_are_downloaded_or_shown_as_what_cannot_run(client: Client, env: TritonEnvironment) -> None:
    s3, prefix = env.s3.client(), f"shown-{token_hex(4)}/"
    contents = {
        "page.html": (b"<script>alert(1)</script>", "text/html"),
        "drawing.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>", "image/svg+xml"),
        "dot.png": (b"\x89PNG\r\n\x1a\n\0", "image/png"),
        'a "name"; é.bin': (b"\0\1\2" * 100_000, "application/octet-stream"),
    }
    for name, (body, media_type) in contents.items():
        s3.put_object(Bucket=env.s3.bucket, Key=prefix + name, Body=body, ContentType=media_type)
    rows = client.get(path_of(env.id, "s3", "/panels/objects"), argument=f"{env.s3.bucket}/{prefix}")["rows"]
    keys = {row["cells"][0].removeprefix(prefix): row["download"] for row in rows if row["download"]}
    assert set(keys) == set(contents)

    path, shown = path_of(env.id, "s3", "/documents"), {}
    for name, (body, _) in contents.items():
        whole = client.http.get(path, params={"key": keys[name]})
        assert whole.content == body
        assert whole.headers["content-type"] == "application/octet-stream"
        assert whole.headers["content-disposition"].startswith("attachment; filename*=UTF-8''")
        assert whole.headers["content-disposition"].isascii()
        inline = client.http.get(path, params={"key": keys[name], "inline": 1})
        assert "sandbox" in inline.headers["content-security-policy"] or inline.status_code == 400
        shown[name] = inline.headers["content-type"] if inline.status_code == 200 else inline.status_code
    assert shown == {
        "page.html": "text/plain; charset=utf-8",
        "drawing.svg": "text/plain; charset=utf-8",
        "dot.png": "image/png",
        'a "name"; é.bin': 400,
    }


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/environments/nowhere/actions", 404),
        ("/api/environments/nowhere/services/redis/panels/keys", 404),
        ("/api/environments/nowhere/logs", 404),
        ("/api/environments/ID/services/etcd/panels/keys", 404),
        ("/api/environments/ID/services/redis/panels/nothing", 400),
        ("/api/environments/ID/services/redis/streams/keys", 400),
        ("/api/environments/ID/services/redis/documents?key=a", 404),
        ("/api/environments/ID/services/redis/samples?since=yesterday", 400),
        ("/api/environments/ID/services/redis/panels/keys?argument=99999/", 400),
        ("/api/environments/ID/services/s3/panels/objects?argument=%ff%00", 400),
        ("/api/environments/ID/services/s3/documents?key=%ff/a", 400),
        ("/api/environments/ID/logs?services=redis,etcd", 404),
        ("/api/environments/ID/actions/stop", 405),
    ],
)
def test_what_cannot_be_answered_says_why(client: Client, env: TritonEnvironment, path: str, status: int) -> None:
    answer = client.http.get(path.replace("ID", env.id))

    assert (answer.status_code, set(answer.json()["error"])) == (status, {"what", "where", "cause", "hint"})
    assert answer.json()["error"]["what"]


@pytest.mark.parametrize(
    "request_",
    [
        {"json": {"service": "redis"}, "headers": {}},
        {"content": b"{}", "headers": {"X-Triton-Env": "1", "Content-Type": "text/plain"}},
        {"content": b"{", "headers": {"X-Triton-Env": "1", "Content-Type": "application/json"}},
        {"json": {"service": 1}, "headers": {"X-Triton-Env": "1"}},
        {"json": {"path": "/etc/passwd"}, "headers": {"X-Triton-Env": "1"}},
        {"json": {"name": "x" * 70_000}, "headers": {"X-Triton-Env": "1"}},
    ],
    ids=["no header", "not JSON", "half a JSON", "wrong type", "unknown name", "too large"],
)
def test_an_action_is_done_only_as_it_is_meant(client: Client, env: TritonEnvironment, request_: Any) -> None:
    answer = client.http.post(path_of(env.id, rest="/actions/stop"), **request_)

    assert answer.status_code in (400, 403, 413)
    assert answer.json()["error"]["what"]
    assert env.redis.client().ping()


def test_connections_are_closed_when_nothing_looks_any_more(
    client: Client, env: TritonEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "ALONE", 0.5)
    monkeypatch.setattr(sampler, "_UNUSED_ALONE", 0.5)

    def of_the_dashboard() -> int:
        with env.postgres.connect() as connection:
            row = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'triton-env insight'"
            ).fetchone()
        assert row is not None
        return int(row[0])

    with client.watching():
        assert until(lambda: of_the_dashboard() == 1)
    assert until(lambda: of_the_dashboard() == 0)


def test_grafana_asks_for_numbers_that_there_are(client: Client, env: TritonEnvironment) -> None:
    with client.watching():
        assert until(lambda: "triton_env_service_cpu_ratio" in numbers(client))
    there = {name for name in numbers(client) if name.startswith(("triton_env_service_", "triton_env_environment_"))}
    # When a persistent environment was ready is not on record, so it has a gauge without a value.
    families = text_string_to_metric_families(client.http.get("/metrics").text)
    there |= {family.name for family in families if family.name.startswith("triton_env_environment_")}
    for service, declared in client.get("/api/services").items():
        # Not every server of a kind has all of them.
        there |= {f"triton_env_{service}_{metric['name']}" for metric in declared["metrics"]}
    dashboard = (Path(__file__).parents[2] / "docs" / "grafana.json").read_text()

    asked = set(re.findall(r"\btriton_env_\w+", dashboard))
    assert len(asked) > 15
    assert asked - there == set()


def test_prometheus_gets_in_by_its_token(client: Client) -> None:
    address = f"http://127.0.0.1:{client.serving.key.port}/metrics"
    bearer = {"Authorization": f"Bearer {client.serving.key.token}"}

    assert httpx.get(address, headers=bearer, trust_env=False, timeout=WAIT).status_code == 200
    openmetrics = httpx.get(
        address,
        headers=bearer | {"Accept": "application/openmetrics-text; version=1.0.0"},
        trust_env=False,
        timeout=WAIT,
    )
    assert openmetrics.text.endswith("# EOF\n")
    assert httpx.get(address, headers={"Authorization": "Bearer no"}, trust_env=False, timeout=WAIT).status_code == 403
