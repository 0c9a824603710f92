"""Something in every service of a namespace or an environment, under the same names everywhere."""

from typing import Any

from triton_env import Namespace, TritonEnvironment

Place = Namespace | TritonEnvironment


def fill(place: Place, word: str) -> None:
    """Write `word` into every service. What is there under these names goes first."""
    if "postgres" in place.services:
        with place.postgres.connect() as connection:
            connection.execute("drop table if exists words")
            connection.execute("create table words (id int generated always as identity primary key, word text)")
            connection.execute("insert into words (word) values (%s)", [word])
    if "clickhouse" in place.services:
        client = place.clickhouse.client()
        client.command("drop table if exists words")
        client.command("create table words (word String) engine MergeTree order by word")
        client.insert("words", [[word]], column_names=["word"])
        client.close()
    if "redis" in place.services:
        with place.redis.client() as redis:
            redis.set("word", word)
    if "s3" in place.services:
        s3 = place.s3.client()
        s3.put_object(Bucket=place.s3.bucket, Key="word", Body=word.encode())
        s3.close()


def remove(place: Place) -> None:
    """Remove what `fill` wrote."""
    if "postgres" in place.services:
        with place.postgres.connect() as connection:
            connection.execute("drop table words")
    if "clickhouse" in place.services:
        client = place.clickhouse.client()
        client.command("drop table words")
        client.close()
    if "redis" in place.services:
        with place.redis.client() as redis:
            redis.delete("word")
    if "s3" in place.services:
        s3 = place.s3.client()
        s3.delete_object(Bucket=place.s3.bucket, Key="word")
        s3.close()


def look(place: Place) -> dict[str, Any]:
    """What `fill` wrote, by service; None where there is nothing."""
    found: dict[str, Any] = {}
    if "postgres" in place.services:
        with place.postgres.connect() as connection:
            there = connection.execute("select to_regclass('words')::text").fetchone() == ("words",)
            rows = connection.execute("select word from words").fetchall() if there else []
            found["postgres"] = rows[0][0] if rows else None
    if "clickhouse" in place.services:
        client = place.clickhouse.client()
        there = client.query("exists table words").result_rows[0][0]
        rows = client.query("select word from words").result_rows if there else []
        found["clickhouse"] = rows[0][0] if rows else None
        client.close()
    if "redis" in place.services:
        with place.redis.client(decode_responses=True) as redis:
            found["redis"] = redis.get("word")
    if "s3" in place.services:
        s3 = place.s3.client()
        listed = s3.list_objects_v2(Bucket=place.s3.bucket).get("Contents", [])
        found["s3"] = s3.get_object(Bucket=place.s3.bucket, Key="word")["Body"].read().decode() if listed else None
        s3.close()
    return found


def everywhere(place: Place, word: str | None) -> dict[str, Any]:
    """What `look` finds where every service holds `word`."""
    return dict.fromkeys(place.services, word)
