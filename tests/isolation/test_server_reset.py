"""What belongs to a server as a whole: a reset takes it back, and nothing of it keeps a database from being dropped."""

import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
import redis
from psycopg import pq
from psycopg.conninfo import make_conninfo

from patience import until
from triton_env import Namespace, Settings, TritonEnvironment
from triton_env.errors import SnapshotFailed, TemplateFailed
from triton_env.services.postgres.insight import PostgresInsight
from triton_env.services.postgres.isolation import EMPTY
from triton_env.services.s3 import configuration

SUBSCRIPTION = (
    "create publication p",
    "create subscription s connection 'dbname=nowhere' publication p"
    " with (connect = false, slot_name = none, enabled = false)",
)


@pytest.fixture(scope="module")
def env(embedded_packages: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonEnvironment]:
    settings = Settings(triton_state_dir=str(tmp_path_factory.mktemp("state")), triton_pool_size=0)
    with TritonEnvironment(settings, runtime="embedded") as environment:
        yield environment


def one(env: TritonEnvironment | Namespace, query: str, **options: Any) -> Any:
    with env.postgres.connect(**options) as connection:
        row = connection.execute(query).fetchone()
        return row and row[0]


def run(env: TritonEnvironment | Namespace, *statements: str, **options: Any) -> None:
    with env.postgres.connect(autocommit=True, **options) as connection:
        for statement in statements:
            connection.execute(statement)


def test_reset_takes_back_what_changes_all_of_postgresql(env: TritonEnvironment) -> None:
    run(env, "create table of_template1 (id int)", dbname="template1")
    run(
        env,
        "alter system set default_transaction_isolation = 'serializable'",
        "alter system set default_transaction_read_only = on",
        "select pg_reload_conf()",
    )
    writable = {"options": "-c default_transaction_read_only=off"}
    run(
        env,
        "alter role all set work_mem = '9MB'",
        "alter role current_user set search_path = weird, public",
        "alter role current_user connection limit 90 password 'another'",
        "create role left_over login",
        "alter role left_over set work_mem = '8MB'",
        "create database further owner left_over",
        "select pg_create_physical_replication_slot('left_over')",
        "select pg_replication_origin_create('left_over')",
        "create schema left_over",
        "drop database postgres with (force)",
        **writable,
    )
    env.reset()
    assert one(env, "show default_transaction_isolation") == "read committed"
    assert one(env, "show default_transaction_read_only") == "off"
    assert one(env, "show work_mem") == "4MB"
    assert one(env, "show search_path") == '"$user", public'
    assert one(env, "select rolconnlimit from pg_roles where rolname = current_user") == -1
    assert one(env, "select to_regnamespace('left_over')") is None
    # Templates and namespaces of other tests may have the like, and are there below.
    for each in ("roles where rolname", "replication_slots where slot_name", "replication_origin where roname"):
        assert one(env, f"select count(*) from pg_{each} = 'left_over'") == 0
    assert one(env, "select count(*) from pg_db_role_setting where setdatabase = 0") == 0
    query = "select string_agg(datname, ' ' order by datname) from pg_database where datname !~ '^triton_(ns|tpl)_'"
    assert one(env, query) == f"postgres template0 template1 {env.postgres.database} {EMPTY}"
    for database in ("template1", "postgres"):
        assert one(env, "select to_regclass('of_template1')", dbname=database) is None
    assert one(env, "select datistemplate from pg_database where datname = 'template1'") is True
    with env.namespace(services=("postgres",)) as namespace:
        assert one(namespace, "select to_regclass('of_template1')") is None


def test_reset_finds_a_way_in(env: TritonEnvironment) -> None:
    own = env.postgres.database
    untimed = {"options": "-c statement_timeout=0", "dbname": "postgres"}
    for statements in (
        ("alter database template1 is_template false", "drop database template1"),
        (f"drop database {own} with (force)",),
        ("alter system set statement_timeout = 1", "select pg_reload_conf()"),
        ("alter role current_user nologin",),
    ):
        run(env, *statements, **untimed)
        env.reset()
        assert one(env, "show statement_timeout") == "0"
        assert one(env, "select current_user", dbname="template1") == env.postgres.user


def test_what_clients_are_limited_to_is_not_for_the_connections_of_ours(env: TritonEnvironment) -> None:
    limits = {"idle_session_timeout": "100", "idle_in_transaction_session_timeout": "100"}
    styles = {"datestyle": "German", "intervalstyle": "iso_8601", "default_transaction_isolation": "serializable"}
    for name, value in (limits | styles).items():
        run(env, f"alter system set {name} = '{value}'")
    run(env, "select pg_reload_conf()")
    insight = PostgresInsight(env.postgres)
    with env.namespace(services=("postgres",)) as namespace:
        run(namespace, "create table kept as select 1 as a")
        before = insight.sample()
        time.sleep(0.5)  # longer than any of the limits
        namespace.reset()
        assert insight.sample().keys() == before.keys()
    insight.close()
    env.reset()
    assert one(env, "show idle_session_timeout") == "0"


def drop_origin(env: TritonEnvironment) -> None:
    """Have the next empty namespace make again what they are copied from."""
    with env.namespace(services=("postgres",)):
        pass
    run(env, f"alter database {EMPTY} is_template false", f"drop database {EMPTY}")


def test_a_client_in_template1_is_no_obstacle(env: TritonEnvironment) -> None:
    drop_origin(env)
    # As a graphical client has it open all day.
    with closing(env.postgres.connect(dbname="template1", autocommit=True)) as idle:
        with env.namespace(services=("postgres",)) as namespace:
            assert one(namespace, "select 1") == 1
        idle.execute("select 1")
        env.reset()
    with env.namespace(services=("postgres",)) as namespace:
        assert one(namespace, "select 1") == 1


def test_what_is_in_template1_is_in_empty_namespaces(env: TritonEnvironment) -> None:
    drop_origin(env)
    run(env, "create extension citext", dbname="template1")
    try:
        with env.namespace(services=("postgres",)) as namespace:
            assert one(namespace, "select 'a'::citext = 'A'") is True
    finally:
        run(env, "drop extension citext", dbname="template1")
        run(env, f"alter database {EMPTY} is_template false", f"drop database {EMPTY}")


def test_a_database_with_a_subscription_can_be_dropped(env: TritonEnvironment) -> None:
    def build(namespace: Namespace) -> None:
        run(namespace, *SUBSCRIPTION)

    with env.namespace(template=build, services=("postgres",)) as namespace:
        # A copy has none, since subscriptions are the server's.
        run(namespace, "drop publication p", *SUBSCRIPTION)
        namespace.reset()
        assert one(namespace, "select count(*) from pg_publication") == 1
        run(namespace, "drop publication p", *SUBSCRIPTION)
    run(env, *SUBSCRIPTION)
    env.reset()
    assert (
        one(
            env,
            "select count(*) from pg_subscription s join pg_database d on d.oid = s.subdbid"
            " where datname = current_database()",
        )
        == 0
    )


def test_reset_takes_back_what_changes_all_of_redis(env: TritonEnvironment) -> None:
    with env.redis.client() as client:
        before = client.config_get("*")
        client.set("a", 1)
        client.function_load("#!lua name=left_over\nredis.register_function('f', function() return 1 end)")
        client.config_set("maxmemory", "1mb")
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("notify-keyspace-events", "KEA")
        client.config_set("save", "60 1")
        client.config_set("requirepass", "another")
        client.acl_setuser("left_over", enabled=True, nopass=True, commands=["+@all"], keys=["*"])
        client.acl_setuser("default", commands=["-get"])
        client.script_load("return 1")
    with env.namespace(services=("redis",)) as namespace:
        env.reset()
        with env.redis.client() as client:
            assert client.config_get("*") == before
            assert "left_over" not in client.acl_users()
            assert client.function_list() == []
            assert client.get("a") is None
        # The namespace goes on.
        with redis.Redis.from_url(namespace.redis.url) as client:
            assert client.set("a", 1)


def test_reset_takes_back_what_changes_all_of_clickhouse(env: TritonEnvironment) -> None:
    kinds = {
        "users": "CREATE USER left_over",
        "roles": "CREATE ROLE left_over",
        "settings_profiles": "CREATE SETTINGS PROFILE left_over",
        "quotas": "CREATE QUOTA left_over",
        "row_policies": "CREATE ROW POLICY left_over ON default.* USING 1",
        "named_collections": "CREATE NAMED COLLECTION left_over AS a = 1",
        "functions": "CREATE FUNCTION left_over AS (x) -> x * 2",
    }
    made = []
    with closing(env.clickhouse.client()) as client:
        for kind, statement in kinds.items():
            # The embedded server has not all of them.
            with suppress(Exception):
                client.command(statement)
                made.append(kind)
        client.command("SYSTEM STOP MERGES")
    assert "functions" in made
    env.reset()
    with closing(env.clickhouse.client()) as client:
        for kind in made:
            name = "short_name" if kind == "row_policies" else "name"
            assert client.command(f"SELECT count() FROM system.{kind} WHERE {name} = 'left_over'") == 0


def test_functions_that_a_template_may_need_stay(env: TritonEnvironment) -> None:
    def build(namespace: Namespace) -> None:
        with closing(namespace.clickhouse.client()) as client:
            client.command("CREATE OR REPLACE FUNCTION of_template AS (x) -> x * 2")
            client.command("CREATE TABLE t (id UInt8) ENGINE Memory")

    env.namespace(template=build, services=("clickhouse",)).close()
    env._isolation()._open().spaces.sweep()
    with closing(env.clickhouse.client()) as client:
        client.command("CREATE FUNCTION left_over AS (x) -> x * 2")
    env.reset()
    with (
        env.namespace(template=build, services=("clickhouse",)) as namespace,
        closing(namespace.clickhouse.client()) as client,
    ):
        assert client.command("SELECT of_template(2)") == 4
        assert client.command("SELECT count() FROM system.functions WHERE name = 'left_over'") == 0


def test_reset_takes_back_the_settings_of_buckets(env: TritonEnvironment) -> None:
    s3, bucket = env.s3.client(), env.s3.bucket
    before = configuration.read(s3, bucket)
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    s3.put_bucket_cors(
        Bucket=bucket, CORSConfiguration={"CORSRules": [{"AllowedMethods": ["GET"], "AllowedOrigins": ["*"]}]}
    )
    s3.put_object(Bucket=bucket, Key="a", Body=b"1")
    s3.delete_object(Bucket=bucket, Key="a")
    s3.create_bucket(Bucket="further")
    env.reset()
    assert "further" not in [each["Name"] for each in s3.list_buckets()["Buckets"]]
    assert configuration.read(s3, bucket) == before
    assert not s3.list_object_versions(Bucket=bucket).get("Versions")


def test_text_is_text_in_databases_without_an_encoding(env: TritonEnvironment) -> None:
    # All of a server is so where initdb found no locale.
    run(env, "create database plain encoding 'SQL_ASCII' locale 'C' template template0")
    try:
        assert one(env, "select current_database()", dbname="plain") == "plain"
        assert one(env, "select 'ä'", dbname="plain") == "ä"
    finally:
        run(env, "drop database plain")


def test_nothing_left_in_a_database_keeps_it_from_being_dropped(embedded_packages: None, tmp_path: Path) -> None:
    # What servers need to be started with, so that tests can prepare transactions and replicate.
    options = "max_prepared_transactions=10,wal_level=logical"
    settings = Settings(triton_state_dir=str(tmp_path), triton_pool_size=0, triton_postgres_options=options)

    def prepare(place: Namespace | TritonEnvironment, name: str) -> None:
        run(place, "begin", "create table prepared (id int)", f"prepare transaction '{name}'")

    def replicate(place: Namespace | TritonEnvironment, slot: str) -> pq.PGconn:
        run(place, f"select pg_create_logical_replication_slot('{slot}', 'pgoutput')", "create publication p")
        client = pq.PGconn.connect(make_conninfo(place.postgres.url, replication="database").encode())
        words = f"START_REPLICATION SLOT {slot} LOGICAL 0/0 (proto_version '1', publication_names 'p')"
        client.send_query(words.encode())
        assert until(lambda: one(place, f"select active from pg_replication_slots where slot_name = '{slot}'"))
        return client

    with TritonEnvironment(settings, services=("postgres",), runtime="embedded") as env:
        with pytest.raises(TemplateFailed, match="left a transaction open") as caught:
            env.namespace(template=lambda namespace: prepare(namespace, "of_template"))
        assert "the prepared transaction 'of_template'" in caught.value.where
        everything = "select count(*) from pg_prepared_xacts", "select count(*) from pg_replication_slots"
        with env.namespace() as namespace:
            # In this order: a slot that is being made waits for transactions that are prepared.
            client = replicate(namespace, "of_namespace")
            prepare(namespace, "of_namespace")
            namespace.reset()
            assert [one(env, query) for query in everything] == [0, 0]
            prepare(namespace, "of_namespace")
        # It is removed in the background, with what is in it.
        assert until(lambda: one(env, "select count(*) from pg_database where datname like 'triton\\_ns%'") == 0)
        assert [one(env, query) for query in everything] == [0, 0]
        prepare(env, "of_own")
        with pytest.raises(SnapshotFailed, match="a transaction is prepared in it") as caught:
            env.snapshot("prepared")
        assert "rollback prepared 'of_own'" in caught.value.hint
        env.reset()
        assert [one(env, query) for query in everything] == [0, 0]
        client.finish()
