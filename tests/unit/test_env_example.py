"""`.env.example`, the settings and what environments hand out name the same variables."""

import re
import runpy
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from dotenv import dotenv_values

from conftest import OF_THE_PACKAGE
from triton_env import Settings, TritonEnvironment
from triton_env.services import SERVICES
from unit.fakes import FakeRuntimes

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / ".env.example"
SERVICE_SECTIONS = ("PostgreSQL", "ClickHouse", "Redis", "S3")
NO_CONNECTION = {
    *("CLICKHOUSE_NOFILE", "EXTRA_CORS_ALLOWED_ORIGINS", "LOCALSTACK_AUTH_TOKEN", "LOCALSTACK_HOST"),
    "TRITON_S3_SERVER",
}
"""Variables of a service that say nothing about how to reach it."""


def example() -> dict[str, str]:
    return {name: value or "" for name, value in dotenv_values(EXAMPLE, interpolate=False).items()}


def sections() -> dict[str, set[str]]:
    """The variables under each headline."""
    parts = re.split(r"^# --- (.+?) -+$", EXAMPLE.read_text("utf-8"), flags=re.MULTILINE)
    return {
        title: set(re.findall(r"^([A-Z][A-Z0-9_]*)=", body, flags=re.MULTILINE))
        for title, body in zip(parts[1::2], parts[2::2], strict=True)
    }


def connection_variables() -> set[str]:
    variables = set().union(*(sections()[title] for title in SERVICE_SECTIONS)) - NO_CONNECTION
    return {name for name in variables if not name.endswith(("_BIN", "_IMAGE", "_OPTIONS", "_TIMEOUT"))}


def test_it_and_the_reference_are_what_the_declarations_of_the_settings_make() -> None:
    written = runpy.run_path(str(ROOT / "scripts" / "settings_tables.py"))
    for path, rewritten in ((EXAMPLE, written["example"]), (written["REFERENCE"], written["reference"])):
        text = path.read_text("utf-8")
        assert rewritten(text) == text, "just settings"
        damaged = re.sub(r"^.*REDIS_.*\n", "", text, flags=re.MULTILINE)
        assert rewritten(damaged) == text != damaged


def test_it_names_exactly_the_settings() -> None:
    assert sorted(example()) == sorted(name.upper() for name in Settings.model_fields)


def test_it_names_each_once_and_under_a_headline() -> None:
    names = re.findall(r"^([A-Z][A-Z0-9_]*)=", EXAMPLE.read_text("utf-8"), flags=re.MULTILINE)
    assert len(names) == len(set(names))
    assert set(names) == set().union(*sections().values())


def test_its_values_are_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in OF_THE_PACKAGE:
        monkeypatch.delenv(name)
    defaults = Settings()
    for name, text in example().items():
        # Parsed as the variable would be; written out, so that an empty value has to be an empty default.
        assert text == plain(getattr(defaults, name.lower())), name


def plain(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return str(getattr(value, "get_secret_value", lambda: value)())


def test_copied_to_dotenv_it_changes_nothing() -> None:
    defaults = Settings()
    Path(".env").write_bytes(EXAMPLE.read_bytes())
    assert Settings() == defaults


def test_a_change_in_the_copy_is_seen() -> None:
    text = EXAMPLE.read_text("utf-8")
    Path(".env").write_text(text.replace("POSTGRES_PORT=5432", "POSTGRES_PORT=5433"), "utf-8")
    assert Settings().postgres_port == 5433


def test_its_urls_agree_with_its_fields() -> None:
    values = example()
    postgres = urlsplit(values["DATABASE_URL"])
    assert postgres.scheme == "postgresql"
    assert (postgres.username, postgres.password) == (values["POSTGRES_USER"], values["POSTGRES_PASSWORD"])
    assert (postgres.hostname, str(postgres.port)) == (values["POSTGRES_HOST"], values["POSTGRES_PORT"])
    assert postgres.path == f"/{values['POSTGRES_DB']}"

    redis = urlsplit(values["REDIS_URL"])
    assert (redis.scheme, redis.hostname, str(redis.port)) == ("redis", values["REDIS_HOST"], values["REDIS_PORT"])
    assert (redis.password or "") == values["REDIS_PASSWORD"]

    s3 = urlsplit(values["AWS_ENDPOINT_URL"])
    assert (s3.scheme, s3.hostname, s3.port) == ("http", "localhost", 4566)


@pytest.mark.parametrize("internal", [False, True])
def test_an_environment_hands_out_exactly_the_connection_variables(runtimes: FakeRuntimes, internal: bool) -> None:
    with TritonEnvironment() as env:
        variables = env.environ(internal=internal)
        by_service = {name: env.service(name).environ(internal=internal) for name in SERVICES}
    assert set(variables) == connection_variables()
    assert sum(len(part) for part in by_service.values()) == len(variables)
    for part in by_service.values():
        assert part.items() <= variables.items()


def test_what_it_hands_out_are_settings_that_mean_the_running_services(
    runtimes: FakeRuntimes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with TritonEnvironment() as env:
        for name, value in env.environ().items():
            monkeypatch.setenv(name, value)
        child = Settings()
        assert child.postgres_port == env.postgres.port
        assert child.postgres_password.get_secret_value() == env.postgres.password
        assert child.database_url.get_secret_value() == env.postgres.url
        assert (child.clickhouse_http_port, child.clickhouse_port) == (28123, 29000)
        assert child.redis_url.get_secret_value() == env.redis.url
        assert child.aws_endpoint_url == env.s3.endpoint_url
        assert child.s3_bucket == env.s3.bucket


def test_the_internal_variables_are_addresses_on_the_network(runtimes: FakeRuntimes) -> None:
    with TritonEnvironment() as env:
        variables = env.environ(internal=True)
    assert (variables["POSTGRES_HOST"], variables["POSTGRES_PORT"]) == ("postgres", "5432")
    assert (variables["CLICKHOUSE_HOST"], variables["CLICKHOUSE_HTTP_PORT"]) == ("clickhouse", "8123")
    assert variables["CLICKHOUSE_PORT"] == "9000"
    assert (variables["REDIS_HOST"], variables["REDIS_PORT"]) == ("redis", "6379")
    assert variables["AWS_ENDPOINT_URL"] == "http://localstack:4566"
    assert "@postgres:5432/" in variables["DATABASE_URL"]
    assert "@redis:6379/" in variables["REDIS_URL"]


def test_a_subset_hands_out_its_own_variables_only(runtimes: FakeRuntimes) -> None:
    with TritonEnvironment(services=("redis",)) as env:
        assert set(env.environ()) == sections()["Redis"] & connection_variables()
