"""What servers answer differently on Docker and embedded: each difference with a probe that asks for it.

`tests/contract/test_server_differences.py` asks the servers, and `scripts/differences_tables.py` writes the tables of
docs/reference/runtimes.md from here, so what those say of the embedded runtime was answered. What S3 servers answer is
in `s3_differences.py`.
"""

import os
import tempfile
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import redis

from triton_env import TritonEnvironment

WORKS, REFUSED = "works", "refused"


@dataclass(frozen=True)
class Difference:
    """One line of a table.

    Attributes:
        subject: what is asked, in words.
        probe: asks for it in an environment; gives the answer in words.
        docker: the answer of the image.
        embedded: that of the embedded server.
    """

    subject: str
    probe: Callable[[TritonEnvironment], str]
    docker: str = WORKS
    embedded: str = REFUSED


def _name() -> str:
    return f"difference_{uuid.uuid4().hex[:8]}"


def _asked(env: TritonEnvironment, query: str, **parameters: str) -> httpx.Response:
    """What ClickHouse answers over HTTP."""
    keys = {"X-ClickHouse-User": env.clickhouse.user, "X-ClickHouse-Key": env.clickhouse.password}
    keys |= {f"X-ClickHouse-{name.title()}": parameters.pop(name) for name in ("user", "key") if name in parameters}
    url = f"http://{env.clickhouse.host}:{env.clickhouse.http_port}/"
    return httpx.post(url, params=parameters, headers=keys, content=query, timeout=200, trust_env=False)


def _clickhouse(*statements: str) -> Callable[[TritonEnvironment], str]:
    """Whether ClickHouse does all of these; `{name}` is a new name, of which nothing is left."""

    def probe(env: TritonEnvironment) -> str:
        name = _name()
        try:
            works = all(_asked(env, each.format(name=name)).is_success for each in statements)
        finally:
            for kind in ("TABLE", "USER", "QUOTA"):
                _asked(env, f"DROP {kind} IF EXISTS {name}")
        return WORKS if works else REFUSED

    return probe


def _missing(column: str, table: str, names: Sequence[str]) -> Callable[[TritonEnvironment], str]:
    """Which of these names a table of `system` lacks."""

    def probe(env: TritonEnvironment) -> str:
        there = _asked(env, f"SELECT {column} FROM system.{table} FORMAT TSV").text.split("\n")
        missing = [name for name in names if name not in there]
        return "all there" if not missing else "missing" if missing == list(names) else f"without {', '.join(missing)}"

    return probe


def _query_cache(env: TritonEnvironment) -> str:
    mark = _name()
    _asked(env, f"SELECT '{mark}' SETTINGS use_query_cache = 1")
    found = _asked(env, f"SELECT count() FROM system.query_cache WHERE query LIKE '%{mark}%'").text.strip()
    return "results are stored" if found == "1" else "no effect"


def _logs(env: TritonEnvironment) -> str:
    _asked(env, "SELECT 1")
    _asked(env, "SYSTEM FLUSH LOGS")
    query = (
        "SELECT name FROM system.tables WHERE database = 'system' AND name IN ('query_log', 'part_log', 'metric_log')"
    )
    found = set(_asked(env, query).text.split())
    return "`query_log`" if found == {"query_log"} else "all"


def _comment(env: TritonEnvironment) -> str:
    found = _asked(env, "SELECT getSetting('log_comment')", log_comment="mine").text.strip()
    return "the client's" if found == "mine" else "a note of the server for the log"


def _system_files(env: TritonEnvironment) -> str:
    """A text that each system of Linux and of macOS has below the folder of libraries."""
    paths = ("/usr/lib/os-release", "/usr/lib/dyld")
    queries = (f"SELECT count() FROM file('{path}', 'RawBLOB', 'content String')" for path in paths)
    return "readable" if any(_asked(env, query).is_success for query in queries) else REFUSED


def _names_of_files(env: TritonEnvironment) -> str:
    found = _asked(env, "SELECT count() FROM filesystem('/etc')")
    return "size, times and owner of a path" if found.is_success else REFUSED


def _pages(env: TritonEnvironment) -> str:
    url = f"http://{env.clickhouse.host}:{env.clickhouse.http_port}/play"
    return "there" if httpx.get(url, timeout=200, trust_env=False).is_success else "404"


def _late_error(env: TritonEnvironment) -> str:
    """What an error is after the first rows of a document, between which there is time."""
    query = "SELECT sleepEachRow(0.2), throwIf(number = 2) FROM system.numbers SETTINGS max_block_size = 1 FORMAT JSON"
    try:
        status = _asked(env, query).status_code
    except httpx.RemoteProtocolError:
        status = 200
    return "within a result with the status 200" if status == 200 else f"the status {status}"


def _reader(env: TritonEnvironment) -> str:
    """Who `currentUser()` is in a view."""
    user, view = _name(), _name()
    try:
        _asked(env, f"CREATE USER {user} IDENTIFIED WITH plaintext_password BY 'secret'")
        _asked(env, f"CREATE VIEW {view} AS SELECT currentUser() AS who", database=env.clickhouse.database)
        _asked(env, f"GRANT SELECT ON *.* TO {user}")
        asked = _asked(env, f"SELECT who FROM {view}", database=env.clickhouse.database, user=user, key="secret")
    finally:
        _asked(env, f"DROP USER IF EXISTS {user}")
        _asked(env, f"DROP VIEW IF EXISTS {view}", database=env.clickhouse.database)
    return "who reads" if asked.text.strip() == user else f"`{asked.text.strip()}`"


_TABLE = "CREATE TABLE {name} (a Int32) ENGINE = Memory"
_KAFKA = (
    "CREATE TABLE {name} (a Int32) ENGINE = Kafka SETTINGS kafka_broker_list = '127.0.0.1:1', kafka_topic_list = 't',"
    " kafka_group_name = 'g', kafka_format = 'CSV'"
)
CLICKHOUSE: Sequence[Difference] = (
    Difference("`ON CLUSTER default`", _clickhouse("CREATE TABLE {name} ON CLUSTER default (a Int32) ENGINE = Memory"),
               "refused without a Keeper", WORKS),
    Difference("The engine Kafka", _clickhouse(_KAFKA)),
    Difference("Engines of tables: RabbitMQ, NATS, ArrowFlight",
               _missing("name", "table_engines", ("RabbitMQ", "NATS", "ArrowFlight")), "all there", "missing"),
    Difference("The engine Overlay of databases", _missing("name", "database_engines", ("Overlay",)), "all there",
               "missing"),
    Difference("The format CapnProto", _missing("name", "formats", ("CapnProto",)), "all there", "missing"),
    Difference(
        "Functions about languages: `stem`, `lemmatize`, `detectLanguage`, `detectCharset`",
        _missing("name", "functions", ("stem", "lemmatize", "detectLanguage", "detectCharset")), "all there", "missing",
    ),
    Difference(
        "`generateULID`, `idnaEncode`, `punycodeEncode`, `catboostEvaluate`",
        _missing("name", "functions", ("generateULID", "idnaEncode", "punycodeEncode", "catboostEvaluate")),
        "all there", "missing",
    ),
    Difference("The query cache (`use_query_cache`)", _query_cache, "results are stored", "no effect"),
    Difference("`SYSTEM RELOAD CONFIG`", _clickhouse("SYSTEM RELOAD CONFIG")),
    Difference("Logs in `system`", _logs, "all", "`query_log`"),
    Difference("`getSetting('log_comment')`", _comment, "the client's", "a note of the server for the log"),
    Difference("A setting that begins with `SQL_`, in `SETTINGS` of a query",
               _clickhouse("SELECT getSetting('SQL_difference') SETTINGS SQL_difference = 1")),
    Difference("`file()` of what is below `/usr/lib`", _system_files, REFUSED, "readable"),
    Difference("`filesystem()` of other folders than `user_files`", _names_of_files, REFUSED,
               "size, times and owner of a path"),
    Difference("`SHOW CREATE TABLE` of a table of `system`", _clickhouse("SHOW CREATE TABLE system.one")),
    Difference("`/play` and other pages", _pages, "there", "404"),
    Difference("An error after the first rows of `JSON` and other documents", _late_error,
               "within a result with the status 200", "the status 500"),
    Difference("`currentUser()` in a view", _reader, "who reads", "`default`"),
    Difference("A grant on columns", _clickhouse(_TABLE, "CREATE USER {name}", "GRANT SELECT(a) ON {name} TO {name}")),
    Difference("A grant on names that begin alike",
               _clickhouse("CREATE USER {name}", "GRANT SELECT ON system.q* TO {name}")),
    Difference("`GRANT CURRENT GRANTS`", _clickhouse("CREATE USER {name}", "GRANT CURRENT GRANTS ON *.* TO {name}")),
    Difference("A password as `bcrypt_password`",
               _clickhouse("CREATE USER {name} IDENTIFIED WITH bcrypt_password BY 'secret'")),
    Difference("`HOST REGEXP` of a user", _clickhouse("CREATE USER {name} HOST REGEXP 'a'")),
    Difference("`CREATE QUOTA`", _clickhouse("CREATE QUOTA {name} FOR INTERVAL 1 hour MAX queries = 1")),
)  # fmt: skip


def _postgres(*statements: str) -> Callable[[TritonEnvironment], str]:
    """Whether PostgreSQL does all of these in one transaction, of which nothing is left."""

    def probe(env: TritonEnvironment) -> str:
        with env.postgres.connect() as connection:
            try:
                for each in statements:
                    connection.execute(each)
            except psycopg.Error:
                return REFUSED
            finally:
                connection.rollback()
        return WORKS

    return probe


def _files(env: TritonEnvironment) -> str:
    """Whose files PostgreSQL's superuser reads."""
    with tempfile.NamedTemporaryFile("w", dir="/tmp") as file, env.postgres.connect() as connection:
        os.chmod(file.name, 0o644)
        Path(file.name).write_text("here")
        try:
            connection.execute("select pg_read_file(%s)", (file.name,))
        except psycopg.Error:
            return "the container's"
    return "this machine's, as far as the server's user may"


def _extension(name: str, *more: str) -> Callable[[TritonEnvironment], str]:
    return _postgres(f'create extension "{name}"', *more)


POSTGRES: Sequence[Difference] = (
    Difference("`pgcrypto`: `digest`, `hmac`, `gen_random_bytes`, `crypt` with MD5",
               _extension("pgcrypto", "select digest('a', 'sha1'), crypt('a', gen_salt('md5'))"), WORKS, WORKS),
    Difference("`pgcrypto`: `gen_salt('bf')`", _extension("pgcrypto", "select gen_salt('bf')")),
    Difference("`pgcrypto`: `encrypt`, `pgp_sym_encrypt`", _extension("pgcrypto", "select pgp_sym_encrypt('a', 'b')")),
    Difference("`xml2`", _extension("xml2")),
    Difference("`sslinfo`", _extension("sslinfo")),
    Difference("pgvector", _extension("vector"), REFUSED, WORKS),
    Difference("The type `xml`", _postgres("select xmlelement(name a)")),
    Difference("ICU collations", _postgres("create collation difference (provider = icu, locale = 'de-DE')")),
    Difference("Files that the superuser reads", _files, "the container's",
               "this machine's, as far as the server's user may"),
)  # fmt: skip
"""Embedded, of the PostgreSQL of the Python package."""


def _redis(*commands: Sequence[str]) -> Callable[[TritonEnvironment], str]:
    """Whether Redis knows all of these; `{name}` is a new key."""

    def probe(env: TritonEnvironment) -> str:
        name = _name()
        with env.redis.client() as client:
            try:
                for command in commands:
                    client.execute_command(*(word.format(name=name) for word in command))
            except redis.ResponseError:
                return REFUSED
            finally:
                client.delete(name)
        return WORKS

    return probe


def _who_answers(env: TritonEnvironment) -> str:
    with env.redis.client() as client:
        found: Any = client.info("server")
    return f"`{found.get('server_name', 'redis')}`"


REDIS: Sequence[Difference] = (
    Difference("The server's name for `HELLO` and `INFO`", _who_answers, "`redis`", "`valkey`"),
    Difference("Fields of hashes that expire (`HEXPIRE`)",
               _redis(("HSET", "{name}", "f", "v"), ("HEXPIRE", "{name}", "10", "FIELDS", "1", "f")), REFUSED, WORKS),
    Difference("`SET ... IFEQ`, `DELIFEQ`", _redis(("SET", "{name}", "v", "IFEQ", "v"), ("DELIFEQ", "{name}", "v")),
               REFUSED, WORKS),
)  # fmt: skip

DIFFERENCES: Mapping[str, Sequence[Difference]] = {"clickhouse": CLICKHOUSE, "postgres": POSTGRES, "redis": REDIS}
"""By the name of the service."""
