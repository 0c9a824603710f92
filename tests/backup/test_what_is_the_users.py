"""Backups hold the user's data alone, and restores leave what isolation made as it is."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from triton_env import Settings, TritonEnvironment, backup
from triton_env.isolation.namespace import Namespace
from triton_env.services import Redis
from triton_env.services.postgres.roles import MARK
from triton_env.services.redis import backup as saving

pytestmark = pytest.mark.timeout(300)


def fill(space: TritonEnvironment | Namespace, word: str) -> None:
    with space.postgres.connect() as connection:
        connection.execute(f"create table t as select '{word}' as word")
    with space.clickhouse.client() as client:
        client.command("CREATE TABLE t (word String) ENGINE = MergeTree ORDER BY word")
        client.command(f"INSERT INTO t VALUES ('{word}')")
    with space.redis.client() as redis:
        redis.set("word", word)
    client = space.s3.client()
    client.put_object(Bucket=space.s3.bucket, Key="word", Body=word.encode())
    client.create_bucket(Bucket="more")
    client.put_object(Bucket="more", Key="word", Body=word.encode())


def look(space: TritonEnvironment | Namespace) -> set[str]:
    """The words that the services hold."""
    found: set[Any] = set()
    with space.postgres.connect() as connection:
        found |= {word for (word,) in connection.execute("select word from t").fetchall()}
    with space.clickhouse.client() as client:
        found |= {word for (word,) in client.query("SELECT word FROM t").result_rows}
    with space.redis.client() as redis:
        found.add((redis.get("word") or b"").decode())
    for bucket in (space.s3.bucket, "more"):
        found.add(space.s3.client().get_object(Bucket=bucket, Key="word")["Body"].read().decode())
    return found


def from_template(namespace: Namespace) -> None:
    fill(namespace, "template")


@pytest.fixture(scope="module")
def env(embedded_packages: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonEnvironment]:
    settings = Settings(triton_state_dir=str(tmp_path_factory.mktemp("state")), triton_pool_size=1)
    with TritonEnvironment(settings, runtime="embedded") as environment:
        fill(environment, "users")
        yield environment


def test_namespaces_templates_and_snapshots_are_neither_saved_nor_touched(
    env: TritonEnvironment, tmp_path: Path
) -> None:
    ended = threading.Event()

    def come_and_go() -> None:
        while not ended.is_set():
            env.namespace(template=from_template).close()

    with env.namespace(template=from_template) as living:
        env.snapshot("before")
        churn = threading.Thread(target=come_and_go)
        churn.start()
        try:
            manifest = backup.create(env, tmp_path / "a")
        finally:
            ended.set()
            churn.join()
        assert {name: saved.contents for name, saved in manifest.services.items()} == {
            "postgres": ("postgres", "triton"),
            "clickhouse": ("default", "triton"),
            "redis": ("0",),
            "s3": ("more", env.s3.bucket),
        }
        assert not [note for saved in manifest.services.values() for note in saved.notes]
        env.redis.client().set("word", "changed")
        env.s3.client().put_object(Bucket="more", Key="word", Body=b"changed")
        backup.restore(env, tmp_path / "a", replace=True)
        assert look(env) == {"users"}
        assert look(living) == {"template"}
        for _ in range(3):  # those that were made before the restore, and after it
            with env.namespace(template=from_template) as namespace:
                assert look(namespace) == {"template"}
        with env.namespace(template="before") as namespace:
            assert look(namespace) == {"users"}
    env.redis.client().set("word", "changed")
    env.restore("before")
    assert look(env) == {"users"}


def test_what_has_the_name_of_a_namespace_and_is_none_is_named(env: TritonEnvironment, tmp_path: Path) -> None:
    names = ("triton_ns_mine", "triton_snap_mine", "triton_empty")
    bucket = f"{env.s3.bucket}-ns-mine"
    s3 = env.s3.client()
    with env.postgres.connect(autocommit=True) as connection, env.clickhouse.client() as client, env.namespace():
        for name in names:
            if name != "triton_empty":  # here it is isolation's
                connection.execute(f"create database {name}")
            client.command(f"CREATE DATABASE {name}")
        s3.create_bucket(Bucket=bucket)
        try:
            saved = backup.create(env, tmp_path / "a").services
        finally:
            for name in names:
                if name != "triton_empty":
                    connection.execute(f"drop database {name}")
                client.command(f"DROP DATABASE {name}")
            s3.delete_bucket(Bucket=bucket)
    notes = {name: [note for note in each.notes if note.startswith("Not saved, since")] for name, each in saved.items()}
    assert [len(each) for each in notes.values()] == [1, 1, 0, 1], notes
    assert ": the database triton_ns_mine, the database triton_snap_mine. Rename" in notes["postgres"][0]
    for name in names:
        assert f"the database {name}" in notes["clickhouse"][0]
    assert f": the bucket {bucket}. Rename" in notes["s3"][0]


class ComingSpaces:
    """Spaces to which a logical database of Redis comes as soon as they were asked once."""

    def __init__(self, redis: Redis, number: int) -> None:
        self._redis = redis
        self._number = number
        self._slots: frozenset[int] = frozenset()

    def known_spaces(self) -> frozenset[str]:
        return frozenset()

    def taken_slots(self, service: str) -> frozenset[int]:
        known = self._slots
        with self._redis.client(db=self._number) as client:
            client.set("word", "theirs")
        self._slots = frozenset({self._number})
        return known


def test_a_namespace_that_comes_during_a_backup_is_not_noted(env: TritonEnvironment) -> None:
    with env.redis.client(db=41) as client:
        try:
            assert saving._strays(env.redis, ComingSpaces(env.redis, 40), range(40)) == []
            client.set("word", "a user's")
            assert saving._strays(env.redis, ComingSpaces(env.redis, 40), range(40)) == [41]
        finally:
            client.flushdb()
            env.redis.client(db=40).flushdb()


def test_what_isolation_made_is_not_in_the_way_of_a_restore(env: TritonEnvironment, tmp_path: Path) -> None:
    backup.create(env, tmp_path / "a")
    env.reset()
    with env.namespace(template=from_template) as living:
        backup.restore(env, tmp_path / "a")  # replace=True is not needed
        assert look(living) == {"template"}
    assert look(env) == {"users"}


def test_what_older_versions_saved_of_namespaces_is_not_restored(
    env: TritonEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes: list[str] = []
    with env.namespace(template=from_template) as living:
        with monkeypatch.context() as older:
            older.setattr(saving, "own_numbers", lambda count, taken: range(count))
            backup.create(env, tmp_path / "a", services=("redis",))
        living.redis.client().set("word", "living")
        backup.restore(
            env, tmp_path / "a", replace=True, report=lambda step: notes.append(step.words) if step.note else None
        )
        assert living.redis.client().get("word") == b"living"
        (note,) = notes
        assert "a namespace, template or snapshot has here" in note
    assert look(env) == {"users"}


def test_a_key_that_looks_like_one_of_a_restore_hides_no_others(env: TritonEnvironment, tmp_path: Path) -> None:
    with env.redis.client(db=5) as redis:
        redis.mset({"triton_restore": "mine", "word": "mine"})
        (saved,) = backup.create(env, tmp_path / "a", services=("redis",)).services.values()
        assert "5" in saved.contents
        assert saved.notes == ("A key triton_restore is not saved: restores use this name.",)
        backup.restore(env, tmp_path / "a", services=("redis",), replace=True)
        assert redis.keys() == [b"word"]
        redis.flushdb()


def test_roles_of_templates_come_along_where_the_users_data_names_them(
    env: TritonEnvironment, embedded: TritonEnvironment, tmp_path: Path
) -> None:
    roles = ("triton_role_0123456789ab", "marked", "unused")
    with env.postgres.connect(autocommit=True) as connection:
        for role in roles:
            connection.execute(f"create role {role}; comment on role {role} is '{MARK}'")
        connection.execute("create table given (a int); grant select on given to triton_role_0123456789ab")
        connection.execute("create table owned (a int); alter table owned owner to marked")
    backup.create(env, tmp_path / "a.backup", services=("postgres",))
    backup.restore(embedded, tmp_path / "a.backup", services=("postgres",), replace=True)
    query = "select relacl::text, relowner::regrole::text from pg_class where relname in ('given', 'owned') order by 1"
    with env.postgres.connect() as before, embedded.postgres.connect() as after:
        assert after.execute(query).fetchall() == before.execute(query).fetchall()
        assert after.execute("select from pg_roles where rolname = 'unused'").fetchone() is None
