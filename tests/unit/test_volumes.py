"""What is said of data volumes, as far as no volume is needed for it."""

import random
import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from triton_env import Settings
from triton_env.core.model import DataCompatibility, DataInspection, DataRecipe, ServiceRecipe
from triton_env.errors import StartFailed, VolumeMismatch
from triton_env.persistent import stamps
from triton_env.persistent import volume_check as volumes
from triton_env.persistent.stamps import Stamp, last_checkout
from triton_env.persistent.volume_check import explain_login_failure
from triton_env.services import SERVICES
from triton_env.services.postgres.data_directory import data_recipe, inspect

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
    variables = {*data.init_values, *data.secrets}
    assert variables <= {field.upper() for field in Settings.model_fields}
    assert variables == set(data.remedies)
    assert set(data.login_errors) <= variables


def test_only_postgres_takes_names_and_passwords_once() -> None:
    assert {name for name in SERVICES if data_of(name).init_values or data_of(name).secrets} == {"postgres"}


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
    secrets={"POSTGRES_PASSWORD": stamps._hashed(SECRET)},
    written="2026-11-24T10:00:00+00:00",
)


class TestStamp:
    def test_is_read_as_it_was_written(self) -> None:
        assert Stamp.from_json(STAMP.to_json()) == STAMP

    def test_holds_no_secret_and_is_another_each_time(self) -> None:
        assert SECRET.encode() not in STAMP.to_json()
        assert stamps._hashed(SECRET) != stamps._hashed(SECRET)

    def test_confirms_what_it_knows(self) -> None:
        assert STAMP.secret_agrees("POSTGRES_PASSWORD", SECRET) is True
        assert STAMP.secret_agrees("POSTGRES_PASSWORD", SECRET + "x") is False
        assert STAMP.secret_agrees("REDIS_PASSWORD", SECRET) is None
        assert STAMP.fact_agrees("POSTGRES_USER", "alice") is True
        assert STAMP.fact_agrees("POSTGRES_USER", "bob") is False
        assert STAMP.fact_agrees("POSTGRES_HOST", "bob") is None

    def test_agrees_when_everything_does(self) -> None:
        assert STAMP.agrees(data_recipe("alice", SECRET, "shop"))
        assert not STAMP.agrees(data_recipe("alice", SECRET, "other"))
        assert not STAMP.agrees(data_recipe("alice", "other", "shop"))
        assert not replace(STAMP, secrets={}).agrees(data_recipe("alice", SECRET, "shop"))

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
            STAMP.to_json().replace(b'"salt": "', b'"salt": "no hex'),
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
    assert volumes._readable(reads, data, image) is readable


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
    described = recipe("postgres", postgres_user="alice", postgres_password=SECRET, postgres_db="shop")
    raised = StartFailed("It did not come up.")
    raised.__cause__ = ConnectionError(words)
    explained = explain_login_failure(described, raised)
    assert isinstance(explained, VolumeMismatch)
    assert explained.what.startswith(f"PostgreSQL refuses {variable}")
    assert f"set {variable} back" in explained.hint
    assert SECRET not in str(explained)


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


ALICE = data_recipe("alice", SECRET, "shop")


def test_an_empty_volume_says_nothing() -> None:
    assert inspect(Files({}), ALICE) is None


@pytest.mark.parametrize("path", ["18/docker", "19/docker", "data", "pgdata", "17/main"])
def test_data_is_found_where_other_images_put_it(path: str) -> None:
    assert inspect(Files({f"{path}/PG_VERSION": b"18\n"}), ALICE) == DataInspection("18", elsewhere=path)


@pytest.mark.parametrize("version", [b"9.6\n", b"11\n", b"\xff\n", b"17\n"])
def test_of_a_layout_that_is_not_known_only_the_version_is_said(version: bytes) -> None:
    witness = inspect(Files({"PG_VERSION": version, "global/pg_control": b"\0" * 8192}), ALICE)
    assert witness is not None
    assert (witness.values, witness.accepts, witness.certain) == ({}, {}, False)


def damaged(seed: int) -> dict[str, bytes]:
    """The files of a data directory in which anything may be."""
    randomness = random.Random(seed)
    catalog = bytearray(randomness.randbytes(8192 * randomness.randint(0, 2) + randomness.randint(0, 50)))
    if len(catalog) >= 8192:
        # A page header and line pointers, so that the rows are looked at too.
        struct.pack_into("<HHHH", catalog, 12, 24 + 4 * 40, 1000, 8192, 8192 | 4)
        for line in range(40):
            length = randomness.randint(0, 300)
            struct.pack_into(
                "<I", catalog, 24 + 4 * line, randomness.randint(0, 8300) & 0x7FFF | 1 << 15 | length << 17
            )
    if randomness.random() < 0.5 and len(catalog) > 4000:
        at = randomness.randint(200, 3000)
        catalog[at : at + 133] = b"SCRAM-SHA-256$4096:" + b"A" * 24 + b"$" + b"=" * 44 + b":" + b"A" * 44
    mapping = struct.pack("<IIIIII", 0x592717, 2, 1260, 1260, 1262, 1262)
    return {
        "PG_VERSION": b"17\n",
        "global/pg_control": randomness.randbytes(randomness.randint(0, 40)),
        "global/pg_filenode.map": mapping[: randomness.randint(0, len(mapping) * 2)],
        "global/1260": bytes(catalog),
        "global/1262": bytes(catalog),
    }


def test_whatever_the_files_hold_it_is_read_without_an_error() -> None:
    for seed in range(200):
        witness = inspect(Files(damaged(seed)), ALICE)
        assert witness is not None, seed
        assert witness.version == "17", seed
