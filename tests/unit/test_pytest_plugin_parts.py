"""Parts of the pytest plugin that need no server: what is shown of services, and how much of it."""

import ast
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from pathlib import Path
from unittest.mock import patch

import pytest

from triton_env import pytest_plugin
from triton_env.core.model import Endpoint, Placement
from triton_env.core.threads import in_thread
from triton_env.pytest_plugin import connect_hints, evidence, overridden
from triton_env.pytest_plugin.evidence import Question
from triton_env.pytest_plugin.variables import Exported
from triton_env.services import S3, ClickHouse, Postgres, Redis, Service
from triton_env.settings import Settings


@pytest.fixture
def services() -> list[Service]:
    settings = Settings(
        postgres_password="p0stgres'secret",
        clickhouse_password="clickh0use-secret",
        redis_password="red1s-secret",
        aws_secret_access_key="amaz0n-secret",
    )
    kinds: dict[type[Service], dict[str, int]] = {
        Postgres: {"postgres": 5432},
        ClickHouse: {"http": 8123, "native": 9000},
        Redis: {"redis": 6379},
        S3: {"s3": 4566},
    }
    return [
        kind(settings, Placement({name: Endpoint("127.0.0.1", port) for name, port in ports.items()}))
        for kind, ports in kinds.items()
    ]


def test_commands_can_be_pasted_into_a_shell(services: list[Service]) -> None:
    postgres, clickhouse, redis, s3 = connect_hints.commands(services)
    assert postgres == "psql postgresql://triton_user:p0stgres%27secret@127.0.0.1:5432/triton"
    assert clickhouse == (
        "clickhouse client --host 127.0.0.1 --port 9000 --database triton --user default --password clickh0use-secret"
    )
    assert redis == "redis-cli -u redis://:red1s-secret@127.0.0.1:6379/0"
    assert s3.endswith("aws --endpoint-url http://127.0.0.1:4566 s3 ls s3://triton-documents")
    assert "AWS_SECRET_ACCESS_KEY=amaz0n-secret " in s3


def test_a_server_without_the_native_protocol_is_reached_by_http() -> None:
    placement = Placement({"http": Endpoint("127.0.0.1", 8123)})
    (command,) = connect_hints.commands([ClickHouse(Settings(clickhouse_password="secret"), placement)])
    assert command == "curl -u default:secret 'http://127.0.0.1:8123/?database=triton' -d 'show tables'"


def test_passwords_of_servers_of_somebody_else_are_hidden(services: list[Service]) -> None:
    secrets = connect_hints.secrets(services)
    assert len(secrets) >= 4
    shown = connect_hints.urls(services, secrets)
    assert "secret" not in shown
    assert shown.count("***@") == 3
    assert "bucket triton-documents" in shown
    assert "red1s-secret" in connect_hints.urls(services, frozenset())
    (answer,) = evidence.answers([Question("log", lambda: "it said p0stgres'secret")], secrets)
    assert answer == ("log", "it said ***")


def test_a_text_is_cut_to_what_a_report_can_bear() -> None:
    assert evidence.bounded("one\n\n  \ntwo\n") == "one\ntwo"
    lines = evidence.bounded("\n".join(f"line {number}" for number in range(100))).splitlines()
    assert lines[0] == "(61 lines before)"
    assert lines[1:] == [f"line {number}" for number in range(61, 100)]
    wide = evidence.bounded("\n".join("é" * 1000 for _ in range(40)))
    assert len(wide.encode()) <= 8 << 10
    assert all(len(line) <= 200 for line in wide.splitlines())


def test_questions_that_fail_or_hang_are_answered_by_a_line() -> None:
    end = threading.Event()

    def fails() -> str:
        raise ConnectionError("refused\nby the server")

    def hangs() -> str:
        end.wait(30)
        return "too late"

    def in_time(ask: Callable[[], str]) -> "Future[str]":
        # What does not hang has its answer before the time begins, however slow the machine is.
        future = in_thread(ask)
        if ask is not hangs:
            wait([future])
        return future

    try:
        with patch.object(evidence, "TIMEOUT", 0.1), patch.object(evidence, "in_thread", in_time):
            answers = evidence.answers(
                [Question("a", lambda: ""), Question("b", fails), Question("c", hangs), Question("d", lambda: "fine")]
            )
    finally:
        end.set()
    assert answers == [("b", "(cannot be read: refused)"), ("c", "(no answer within 0.1 s)"), ("d", "fine")]


def test_the_plugin_can_be_imported_by_older_versions_of_pytest() -> None:
    """It is loaded in every project, so a name that pytest lacks would break the runs of all of them."""
    parts = Path(pytest_plugin.__file__).parent.glob("*.py")
    nodes = [node for part in parts for node in ast.walk(ast.parse(part.read_text("utf-8")))]
    used = {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "pytest"
    }
    # Each of these is in pytest 8.3. Others belong into quotes.
    assert used <= {
        *("CallInfo", "Config", "ExitCode", "FixtureRequest", "Item", "MonkeyPatch", "Parser"),
        *("PytestPluginManager", "Session", "StashKey", "TestReport", "UsageError", "fail", "fixture", "hookimpl"),
    }


def test_what_would_lead_the_application_elsewhere_is_unset_and_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOSTADDR", "192.0.2.1")
    monkeypatch.delenv("PGSERVICE", raising=False)
    exported = Exported({"DATABASE_URL": "postgresql://here"}, without=("PGHOSTADDR", "PGSERVICE"), remember=True)
    assert "PGHOSTADDR" not in os.environ
    exported.put_back()
    assert os.environ["PGHOSTADDR"] == "192.0.2.1"
    assert "PGSERVICE" not in os.environ


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("POSTGRES_HOST", "db.example.com", "'db.example.com'"),
        ("DATABASE_URL", "postgresql://app:s3cret@db/app", "postgresql://db/app"),
        # Of an application, under names of its own.
        ("BROKER", "redis://:s3cret@db:1/0", "redis://db:1/0"),
        ("DB_PASS", "s3cret", "another value"),
        ("PGPASSWORD", "s3cret", "another value"),
        ("DSN", "host=db password=s3cret", "another value"),
        ("DSN", None, "not set"),
    ],
)
def test_values_of_changed_variables_are_shown_without_passwords(name: str, value: str | None, shown: str) -> None:
    assert overridden._shown(name, value) == shown
