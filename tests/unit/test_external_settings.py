"""The settings for external servers: URLs and their parts, and what such an environment is known by."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from triton_env import Settings
from triton_env.errors import InvalidSetting
from triton_env.services import SERVICES
from triton_env.settings.external import external_id, external_settings

ALL = tuple(SERVICES)


def read(variables: Mapping[str, str]) -> Settings:
    """The settings as they come from a `.env` file with these variables."""
    Path(".env").write_text("".join(f"{name}={value}\n" for name, value in variables.items()), "utf-8")
    return external_settings(Settings(), ALL)


def test_without_a_variable_they_are_those_of_the_example() -> None:
    assert external_settings(Settings(), ALL) == Settings()


def test_parts_come_from_the_url() -> None:
    settings = read(
        {
            "DATABASE_URL": "postgresql://me:p%40ss@db.example:6000/claims",
            "REDIS_URL": "redis://:s%2Fcret@[::1]:6001/0",
            "AWS_ENDPOINT_URL": "http://s3.example:6002",
        }
    )
    assert (settings.postgres_host, settings.postgres_port) == ("db.example", 6000)
    assert (settings.postgres_user, settings.postgres_db) == ("me", "claims")
    assert settings.postgres_password.get_secret_value() == "p@ss"
    assert (settings.redis_host, settings.redis_port) == ("::1", 6001)
    assert settings.redis_password.get_secret_value() == "s/cret"
    s3 = SERVICES["s3"].recipe(settings)
    assert (s3.external.host, s3.ports[0].fixed) == ("s3.example", 6002)


def test_what_the_url_leaves_out_comes_from_the_parts() -> None:
    settings = read({"DATABASE_URL": "postgresql://db.example", "POSTGRES_PORT": "6000", "POSTGRES_DB": "claims"})
    assert (settings.postgres_host, settings.postgres_port, settings.postgres_db) == ("db.example", 6000, "claims")
    # The port that a URL without one means.
    s3 = SERVICES["s3"].recipe(read({"AWS_ENDPOINT_URL": "http://s3.example"}))
    assert s3.ports[0].fixed == 80


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        (
            {"DATABASE_URL": "postgresql://a.example/x", "POSTGRES_HOST": "b.example"},
            "disagree: b.example and a.example",
        ),
        ({"REDIS_URL": "redis://a:1/0", "REDIS_PORT": "2"}, "disagree: 2 and 1"),
        ({"REDIS_URL": "redis://:one@a/0", "REDIS_PASSWORD": "two"}, "disagree: its own and another"),
        ({"DATABASE_URL": "postgresql://a/x?sslmode=require"}, "DATABASE_URL has options"),
        ({"DATABASE_URL": "mysql://a/x"}, "has the scheme 'mysql'"),
        ({"REDIS_URL": "rediss://a/0"}, "has the scheme 'rediss'; encrypted"),
        ({"REDIS_URL": "redis://a/3"}, "logical database 3"),
        ({"REDIS_URL": "redis://guest:x@a/0"}, "the user guest"),
        ({"AWS_ENDPOINT_URL": "https://a"}, "has the scheme 'https'"),
        ({"AWS_ENDPOINT_URL": "http://a/path"}, "has a path"),
    ],
)
def test_nothing_of_a_url_is_lost_without_a_word(variables: Mapping[str, str], words: str) -> None:
    with pytest.raises(InvalidSetting, match=words) as caught:
        read(variables)
    assert caught.value.where.endswith("in .env or the process environment")
    assert caught.value.hint


def test_urls_of_services_that_are_not_used_do_not_matter() -> None:
    settings = Settings(redis_url="rediss://a/3", postgres_host="db.example")
    assert external_settings(settings, ("postgres",)).postgres_host == "db.example"


def test_a_localstack_of_somebody_else_has_its_token() -> None:
    settings = Settings(triton_runtime="external", localstack_image="localstack/localstack:latest")
    assert SERVICES["s3"].recipe(settings).external.host == "localhost"


def test_the_id_is_that_of_the_servers() -> None:
    one = external_id(external_settings(Settings(), ALL))
    assert one == external_id(external_settings(Settings(), ("redis",)))
    assert one == external_id(Settings(postgres_password="other", postgres_db="other"))
    others = {external_id(Settings(**{name: 7000})) for name in ("postgres_port", "redis_port", "localstack_port")}
    assert len(others | {one}) == 4
