"""Values that mean something to a shell, SQL, XML, Compose or a configuration file reach the servers as they are."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

import projects
from triton_env import Settings, TritonEnvironment
from triton_env.cli.variables import as_text
from triton_env.core.setting_types import SecretStr
from triton_env.errors import InvalidSetting
from triton_env.persistent.docker.stack import DockerStack
from triton_env.persistent.settings import persistent_settings
from triton_env.services import ClickHouse, Postgres, Redis

NASTY = {
    "quotes": """a'b"c`d''e\"\"""",
    "backslashes": r"\a\\b\n\x41\ ",
    "references": "$a${HOME}$$b$(id)`id`%PATH%{data}{port:redis}%s",
    "markup": "<a>&lt;]]><!--b-->",
    "spaces and comments": " #a ;b -- c ",
    "other languages": "péß密码🔑",
}
REFUSED = {"line feed": "a\nrename-command GET b", "return": "a\rb", "tab": "a\tb", "no text": "a\udcffb"}
PASSWORDS = ("postgres_password", "clickhouse_password", "redis_password", "aws_secret_access_key")
SECRETS = (*PASSWORDS, "localstack_auth_token")


def use(env: TritonEnvironment) -> None:
    """Get in as clients do that take the parts, and those that take the URL."""
    import clickhouse_connect
    import psycopg
    import redis

    with env.postgres.connect() as connection, psycopg.connect(env.postgres.url) as other:
        assert connection.execute("select 1").fetchone() == other.execute("select 1").fetchone() == (1,)
    with env.redis.client() as client, redis.Redis.from_url(env.redis.url) as again:
        assert client.ping()
        assert again.ping()
        # Nothing of the password became a line of the configuration.
        assert client.config_get("requirepass") == {"requirepass": env.redis.password}
    assert env.clickhouse.client().command("select 1") == 1
    assert clickhouse_connect.get_client(dsn=env.clickhouse.url).command("select 1") == 1


def of_sessions(values: Mapping[type, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have sessions take these passwords in place of random ones."""
    for kind, value in values.items():
        fresh = {f"{kind.name}_password": SecretStr(value)}  # type: ignore[attr-defined]
        monkeypatch.setattr(kind, "fresh_credentials", staticmethod(lambda fresh=fresh: fresh))


def test_embedded_servers_take_any_password(monkeypatch: pytest.MonkeyPatch) -> None:
    # All in one: each part is as likely to go wrong beside the others.
    password = "".join(NASTY.values())
    of_sessions(dict.fromkeys((Postgres, ClickHouse, Redis), password), monkeypatch)
    with TritonEnvironment(services=("postgres", "clickhouse", "redis"), runtime="embedded") as env:
        use(env)


@pytest.mark.docker
@pytest.mark.timeout(600)
def test_containers_of_sessions_take_any_password(monkeypatch: pytest.MonkeyPatch) -> None:
    password = "".join(NASTY.values())
    of_sessions(dict.fromkeys((Postgres, ClickHouse, Redis), password), monkeypatch)
    with TritonEnvironment(services=("postgres", "clickhouse", "redis"), runtime="docker") as env:
        use(env)


@pytest.mark.docker
@pytest.mark.long
@pytest.mark.timeout(600)
def test_persistent_services_take_any_password(tmp_path: Path) -> None:
    password = "".join(NASTY.values())
    values = dict.fromkeys(PASSWORDS, SecretStr(password))
    # The stand-in's entrypoint sends it in an HTTP header.
    values["clickhouse_password"] = SecretStr("".join(value for value in NASTY.values() if value.isascii()))
    with projects.project(**values, triton_state_dir=str(tmp_path / "state")) as settings:
        with TritonEnvironment(settings, services=("postgres", "clickhouse", "redis"), persistent=True) as env:
            use(env)
            env.detach()
        with DockerStack(settings) as services:
            # Health checks are shell words of the compose file; programs get the password from the environment.
            argv = ["psql", "-h", "127.0.0.1", "-Atc", "select 1"]
            program = services.access("postgres").program_inside(argv, {})
            environment = os.environ | dict(program.environment)
            done = subprocess.run(program.argv, env=environment, capture_output=True, text=True, timeout=200)
            assert done.returncode in (0, 2), done.stderr
            assert [status.name for status in services.status() if not status.healthy] == ["s3"]


@pytest.mark.parametrize("value", REFUSED.values(), ids=REFUSED)
def test_what_would_be_another_line_is_refused_with_the_name_of_the_variable(value: str) -> None:
    for name in (*SECRETS, "aws_access_key_id", "postgres_image", "postgres_host", "triton_state_dir", "s3_bucket"):
        with pytest.raises(InvalidSetting) as caught:
            Settings(**{name: value})
        assert name.upper() in str(caught.value)
        if name in SECRETS:
            assert value not in str(caught.value)


def test_nor_does_it_come_in_by_a_url() -> None:
    for url in ("redis://:a%0Ab@localhost:6379/0", "redis://:a%00b@localhost:6379/0"):
        with pytest.raises(InvalidSetting, match="REDIS_URL"):
            persistent_settings(Settings(redis_url=url))
    # What goes into SQL, XML and commands is as narrow there as in the variable of its own.
    for name in ('a"b', "a b", "a;b", "a'b", "1a", "a-b"):
        for url in (f"postgresql://{name}:p@localhost/triton", f"postgresql://user:p@localhost/{name}"):
            with pytest.raises(InvalidSetting, match=r"POSTGRES_(USER|DB)") as caught:
                persistent_settings(Settings(database_url=url))
            assert "DATABASE_URL" in caught.value.where


@pytest.mark.parametrize("value", ["a<b", "a b", "-a", "a" * 64, "eu_central_1", ""])
def test_a_region_is_a_label(value: str) -> None:
    if value:
        with pytest.raises(InvalidSetting, match="AWS_DEFAULT_REGION"):
            Settings(aws_default_region=value)
    assert Settings(aws_default_region="eu-central-1").aws_default_region == "eu-central-1"


@pytest.mark.parametrize("value", NASTY.values(), ids=NASTY)
def test_shells_get_variables_as_they_are(value: str) -> None:
    script = as_text({"PASSWORD": value}, "shell") + 'printf %s "$PASSWORD"'
    assert subprocess.run(["sh", "-c", script], capture_output=True, timeout=200, check=True).stdout.decode() == value
