"""One word in each of the services that come with triton-env, for the contract of `triton_env.testing`."""

from collections.abc import Mapping
from contextlib import closing
from typing import Any, Final

from triton_env import S3, ClickHouse, Postgres, Redis
from triton_env.testing import Contents
from triton_env.testing import contents as of_contract
from triton_env.testing.contents import Place


class PostgresContents:
    files: Mapping[str, str] = {
        "1.sql": "create table words (id int primary key, word text);",
        "2/data.sql": "insert into words values (1, 'seeded'); -- ';'\nanalyze words;",
    }

    def put(self, service: Postgres, word: str) -> None:
        with service.connect() as connection:
            connection.execute("drop table if exists words")
            connection.execute("create table words (id int generated always as identity primary key, word text)")
            connection.execute("insert into words (word) values (%s)", [word])

    def look(self, service: Postgres) -> str | None:
        with service.connect() as connection:
            there = connection.execute("select to_regclass('words')::text").fetchone() == ("words",)
            rows = connection.execute("select word from words").fetchall() if there else []
        return rows[0][0] if rows else None

    def remove(self, service: Postgres) -> None:
        with service.connect() as connection:
            connection.execute("drop table words")


class ClickHouseContents:
    files: Mapping[str, str] = {
        "all.sql": "create table words (word String) engine Memory; -- ';' and ;\ninsert into words values ('seeded')"
    }

    def put(self, service: ClickHouse, word: str) -> None:
        with closing(service.client()) as client:
            client.command("drop table if exists words")
            client.command("create table words (word String) engine MergeTree order by word")
            client.insert("words", [[word]], column_names=["word"])

    def look(self, service: ClickHouse) -> str | None:
        with closing(service.client()) as client:
            there = client.query("exists table words").result_rows[0][0]
            rows = client.query("select word from words").result_rows if there else []
        return rows[0][0] if rows else None

    def remove(self, service: ClickHouse) -> None:
        with closing(service.client()) as client:
            client.command("drop table words")


class RedisContents:
    files: Mapping[str, str] = {}

    def put(self, service: Redis, word: str) -> None:
        with service.client() as client:
            client.set("word", word)

    def look(self, service: Redis) -> str | None:
        with service.client(decode_responses=True) as client:
            return client.get("word")

    def remove(self, service: Redis) -> None:
        with service.client() as client:
            client.delete("word")


class S3Contents:
    files: Mapping[str, str] = {"word": "seeded"}

    def put(self, service: S3, word: str) -> None:
        with closing(service.client()) as client:
            client.put_object(Bucket=service.bucket, Key="word", Body=word.encode())

    def look(self, service: S3) -> str | None:
        with closing(service.client()) as client:
            listed = client.list_objects_v2(Bucket=service.bucket, Prefix="word").get("Contents", [])
            if not listed:
                return None
            return client.get_object(Bucket=service.bucket, Key="word")["Body"].read().decode()

    def remove(self, service: S3) -> None:
        with closing(service.client()) as client:
            client.delete_object(Bucket=service.bucket, Key="word")


CONTENTS: Final[Mapping[str, Contents]] = {
    "postgres": PostgresContents(),
    "clickhouse": ClickHouseContents(),
    "redis": RedisContents(),
    "s3": S3Contents(),
}


def fill(place: Place, word: str) -> None:
    """Put a word into every service."""
    of_contract.put(place, CONTENTS, word)


def look(place: Place) -> dict[str, Any]:
    """The words in each service, by its name."""
    return of_contract.look(place, CONTENTS)


def remove(place: Place) -> None:
    """Remove what `fill` has put."""
    of_contract.remove(place, CONTENTS)


def everywhere(place: Place, word: str | None) -> dict[str, Any]:
    """What `look` finds where every service holds `word`."""
    return of_contract.everywhere(place, CONTENTS, word)
