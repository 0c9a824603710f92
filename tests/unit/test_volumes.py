"""What is said of data volumes, as far as no volume is needed for it."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from triton_env import Settings
from triton_env.core.model import DataCompatibility, DataInspection, DataRecipe, ServiceRecipe
from triton_env.errors import StartFailed, VolumeMismatch
from triton_env.persistent import fitting
from triton_env.persistent.fitting import explain_login_failure
from triton_env.persistent.stamps import Stamp, last_checkout
from triton_env.services import SERVICES
from triton_env.services.postgres.data_directory import inspect

COMPOSE = (Path(__file__).parents[2] / "docker-compose.yml").read_text("utf-8")
SECRET = "a password of alice's"


def recipe(name: str, **settings: Any) -> ServiceRecipe:
    return SERVICES[name].recipe(Settings(**settings))


def data_of(name: str, **settings: Any) -> DataRecipe:
    data = recipe(name, **settings).data
    assert data is not None
    return data


@pytest.mark.parametrize("name", SERVICES)
def test_the_compose_file_has_the_volume_at_that_path(name: str) -> None:
    data = data_of(name)
    assert f"{data.volume}:{data.path}\n" in COMPOSE.replace('"]', "\n")
    assert f"\n  {data.volume}: " in COMPOSE


@pytest.mark.parametrize("name", SERVICES)
def test_each_variable_that_has_to_agree_is_a_setting_with_a_way_out(name: str) -> None:
    data = data_of(name)
    variables = set(data.remedies)
    assert variables <= {field.upper() for field in Settings.model_fields}
    assert set(data.init_values) <= variables
    assert set(data.login_errors) == variables


def test_only_postgres_takes_names_and_passwords_once() -> None:
    assert {name for name in SERVICES if data_of(name).remedies} == {"postgres"}


@pytest.mark.parametrize("name", SERVICES)
def test_no_secret_is_in_the_representation(name: str) -> None:
    described = recipe(name, postgres_password=SECRET, clickhouse_password=SECRET, redis_password=SECRET)
    assert SECRET not in repr(described)


STAMP = Stamp(
    service="postgres",
    version="15.20",
    image="postgres:15",
    image_id="sha256:1",
    checkout="/home/alice/claims",
    facts={"POSTGRES_USER": "alice", "POSTGRES_DB": "shop"},
    written="2026-11-24T10:00:00+00:00",
)


class TestStamp:
    def test_is_read_as_it_was_written(self) -> None:
        assert Stamp.from_json(STAMP.to_json()) == STAMP

    def test_of_an_earlier_version_has_a_hashed_password_which_is_passed_over(self) -> None:
        with_hash = STAMP.to_json().replace(b'"facts"', b'"secrets": {"POSTGRES_PASSWORD": {"salt": "00"}}, "facts"')
        assert Stamp.from_json(with_hash) == STAMP

    def test_one_that_was_cut_off_is_none(self) -> None:
        for length in range(0, len(STAMP.to_json()) - 2, 7):
            assert Stamp.from_json(STAMP.to_json()[:length]) is None, length

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"\xff\xfe",
            b"[]",
            b"null",
            b"{}",
            STAMP.to_json().replace(b'"format": 1', b'"format": 2'),
            STAMP.to_json().replace(b'"facts": {', b'"facts": [{').replace(b'"shop"}', b'"shop"}]'),
        ],
    )
    def test_what_is_no_stamp_of_ours_is_none(self, content: bytes) -> None:
        assert Stamp.from_json(content) is None


def test_the_last_checkout_is_named_where_it_is_another() -> None:
    later = replace(STAMP, checkout="/home/alice/other", written="2026-11-25T10:00:00+00:00")
    assert last_checkout([later, STAMP], "/home/alice/claims") == "/home/alice/other"
    assert last_checkout([later, STAMP], "/home/alice/other") == ""
    assert last_checkout([], "/home/alice/claims") == ""


@pytest.mark.parametrize(
    ("reads", "data", "image", "readable"),
    [
        (DataCompatibility.ITS_MAJOR, "15", "postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)", True),
        (DataCompatibility.ITS_MAJOR, "15.20", "postgres (PostgreSQL) 15.3", True),
        (DataCompatibility.ITS_MAJOR, "14", "postgres (PostgreSQL) 17.12", False),
        (DataCompatibility.ITS_MAJOR, "18", "postgres (PostgreSQL) 17.12", False),
        (DataCompatibility.ITS_MAJOR, "19", "postgres (PostgreSQL) 19beta1", True),
        (DataCompatibility.NOT_NEWER, "26.9.2.1", "ClickHouse server version 26.9.1.5 (official build).", True),
        (DataCompatibility.NOT_NEWER, "25.12.1.1", "ClickHouse server version 26.1.1.1 (official build).", True),
        (DataCompatibility.NOT_NEWER, "26.10.1.1", "ClickHouse server version 26.9.2.1 (official build).", False),
        (DataCompatibility.NOT_NEWER, "26.9.1.1", "ClickHouse server version 25.12.2.1 (official build).", False),
        (
            DataCompatibility.NOT_NEWER,
            "7.4.1",
            "Redis server v=7.4.9 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64",
            True,
        ),
        (DataCompatibility.NOT_NEWER, "7.4.1", "Redis server v=8.0.0 sha=00000000:0", True),
        (DataCompatibility.NOT_NEWER, "7.4.1", "Redis server v=7.2.5 sha=00000000:0", False),
        (DataCompatibility.NOT_NEWER, "Valkey 8.1.0 (Redis 7.2.4)", "Redis server v=7.2.5 sha=00000000:0", False),
        (DataCompatibility.ITS_OWN, "LocalStack 4.14.0", "4.14.0", True),
        (DataCompatibility.ITS_OWN, "LocalStack 4.14.0", "4.13.0", False),
        (DataCompatibility.ITS_OWN, "LocalStack 4.14.0", "2026.3.0", False),
        # What is not known is left to try.
        (DataCompatibility.ITS_OWN, "LocalStack 4.14.0", "", True),
        (DataCompatibility.ITS_MAJOR, "", "postgres (PostgreSQL) 17.12", True),
    ],
)
def test_which_data_a_server_reads(reads: DataCompatibility, data: str, image: str, readable: bool) -> None:
    assert fitting.is_readable(reads, data, image) is readable


@pytest.mark.parametrize(
    ("words", "variable"),
    [
        ('connection failed: FATAL:  password authentication failed for user "alice"', "POSTGRES_PASSWORD"),
        ('FATAL:  database "shop" does not exist', "POSTGRES_DB"),
        ('FATAL:  role "alice" does not exist', "POSTGRES_USER"),
        ('FATAL:  role "alice" is not permitted to log in', "POSTGRES_USER"),
    ],
)
def test_a_refused_login_is_explained(words: str, variable: str) -> None:
    described = recipe("postgres", postgres_user="bob", postgres_password=SECRET, postgres_db="other")
    raised = StartFailed("It did not come up.")
    raised.__cause__ = ConnectionError(words)
    explained = explain_login_failure(described, raised)
    assert isinstance(explained, VolumeMismatch)
    assert explained.what.startswith(f"PostgreSQL refuses {variable}")
    assert f"set {variable} back" in explained.hint
    assert SECRET not in str(explained)
    known = explain_login_failure(described, raised, STAMP)
    assert known is not None
    old = STAMP.facts.get(variable, "")
    assert f"its data was initialised with {old or 'another value'}." in known.what
    assert f"set {variable} back to {old or 'what it was'}" in known.hint


@pytest.mark.parametrize("name", SERVICES)
def test_other_failures_are_not_explained_by_the_data(name: str) -> None:
    for words in ("connection refused", "FATAL:  the database system is starting up", "", "timeout expired"):
        assert explain_login_failure(recipe(name), ConnectionError(words)) is None


def test_an_endless_chain_of_exceptions_ends() -> None:
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    assert explain_login_failure(recipe("postgres"), one) is None


class Files:
    """A volume in memory."""

    def __init__(self, content: Mapping[str, bytes]) -> None:
        self.content = content

    def files(self, path: str) -> Mapping[str, bytes]:
        return {name: kept for name, kept in self.content.items() if name == path or name.startswith(f"{path}/")}


def test_an_empty_volume_says_nothing() -> None:
    assert inspect(Files({})) is None


@pytest.mark.parametrize("path", ["18/docker", "19/docker", "data", "pgdata", "17/main"])
def test_data_is_found_where_other_images_put_it(path: str) -> None:
    assert inspect(Files({f"{path}/PG_VERSION": b"18\n"})) == DataInspection("18", elsewhere=path)


@pytest.mark.parametrize("version", [b"9.6\n", b"17\n"])
def test_the_version_of_data_is_read(version: bytes) -> None:
    assert inspect(Files({"PG_VERSION": version})) == DataInspection(version.decode().strip())
