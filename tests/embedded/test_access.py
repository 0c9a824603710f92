"""Users, roles, grants, row policies and profiles that SQL makes."""

import json
import re
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import clickhouse_connect
import httpx
import pytest
import sqlalchemy as sa
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError
from clickhouse_connect.driver.external import ExternalData
from clickhouse_driver import Client as NativeClient
from clickhouse_driver.errors import ServerException

from triton_env.servers.clickhouse.access.login import Authentication, is_from
from triton_env.servers.clickhouse.access.reader import Reader, plain
from triton_env.servers.clickhouse.access.rights import Privileges, Rights
from triton_env.servers.clickhouse.accounts import as_user, is_of_access

from .conftest import PATIENCE, Server

SECRET = "it's a \\ word"


@dataclass(frozen=True)
class Person:
    """A user of SQL and the databases of one test."""

    server: Server
    name: str
    own: str
    other: str

    def sql(self, text: str) -> str:
        """The text with the names of this test."""
        names = {"BOB": f"`{self.name}`", "OWN": self.own, "OTHER": self.other}
        return re.sub(r"\b(BOB|OWN|OTHER)\b", lambda found: names[found[0]], text)

    def send(self, text: str, password: str = SECRET, **parameters: object) -> httpx.Response:
        """A query of this user."""
        return self.server.http.post(
            "/",
            params=parameters,  # type: ignore[arg-type]
            content=self.sql(text),
            auth=(self.name.encode(), password.encode()),
        )

    def ask(self, text: str, **parameters: object) -> str:
        """The result of a query of this user, which must succeed."""
        response = self.send(text, **parameters)
        assert response.status_code == 200, response.text
        return response.text.removesuffix("\n")

    def code(self, text: str, **parameters: object) -> int:
        """The code of the error that a query of this user gets, 0 where it succeeds."""
        return int(self.send(text, **parameters).headers.get("x-clickhouse-exception-code", 0))

    def order(self, *statements: str) -> None:
        """Statements of the administrator."""
        for statement in statements:
            self.server.ask(self.sql(statement))

    def refused(self, statement: str) -> str:
        """The error that a statement of the administrator gets."""
        response = self.server.post(self.sql(statement))
        assert response.status_code != 200, statement
        return response.text

    def client(self) -> Client:
        """A client of this user."""
        return clickhouse_connect.get_client(
            host="127.0.0.1", port=self.server.port, username=self.name, password=SECRET, database=self.own
        )


@pytest.fixture
def bob(server: Server) -> Iterator[Person]:
    """A user without rights, with a name that needs quotes; a database for it, and one that is not."""
    mark = uuid.uuid4().hex[:8]
    person = Person(server, f'bob\'s "{mark}"', f"own_{mark}", f"other_{mark}")
    person.order(
        "CREATE DATABASE OWN",
        "CREATE DATABASE OTHER",
        "CREATE TABLE OWN.t (x Int32, owner String) ENGINE MergeTree ORDER BY x",
        f"INSERT INTO OWN.t VALUES (1, 'x'), (2, {literal(person.name)})",
        "CREATE TABLE OTHER.secret (z Int32) ENGINE MergeTree ORDER BY z AS SELECT 7 AS z",
        f"CREATE USER BOB IDENTIFIED BY {literal(SECRET)} DEFAULT DATABASE OWN",
    )
    yield person
    for kind in ("user", "role", "settings profile"):
        table = f"system.{kind.replace(' ', '_')}s"
        for name in server.ask(f"SELECT name FROM {table} WHERE name LIKE '%{mark}%' FORMAT TSVRaw").splitlines():
            server.ask(f"DROP {kind} `{name}`")
    person.order("DROP DATABASE IF EXISTS OWN SYNC", "DROP DATABASE OTHER SYNC")


def literal(text: str) -> str:
    """A string as SQL has it."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def test_a_user_logs_in_and_is_who_it_is(bob: Person) -> None:
    asked = "SELECT currentUser(), user() = currentUser(), currentDatabase() FORMAT JSONCompact"
    answer = json.loads(bob.ask(asked))
    assert answer["data"] == [[bob.name, 1, bob.own]]
    assert answer["meta"][0]["name"] == "currentUser()"
    assert bob.send("SELECT 1", password="wrong").headers["x-clickhouse-exception-code"] == "516"
    by_header = {"X-ClickHouse-User": "missing", "X-ClickHouse-Key": SECRET}
    assert httpx.post(bob.server.url, content="SELECT 1", headers=by_header, timeout=PATIENCE).status_code == 403
    by_parameters = {"user": bob.name, "password": SECRET, "query": "SELECT currentUser()"}
    assert httpx.get(bob.server.url, params=by_parameters, timeout=PATIENCE).text.startswith("bob")
    # The administrator of the configuration is itself, too.
    assert bob.server.ask("SELECT currentUser()") == "triton"
    bob.order("DROP USER BOB")
    assert bob.code("SELECT 1") == 516


def test_grants_decide(bob: Person) -> None:
    denied = bob.send("SELECT x FROM t WHERE owner = 'x'").text
    assert f"{bob.name}: Not enough privileges. To execute this query, it's necessary to have the grant" in denied
    assert f"SELECT(x, owner) ON {bob.own}.t. (ACCESS_DENIED)" in denied
    bob.order("GRANT SELECT ON OWN.* TO BOB")
    assert bob.ask("SELECT count() FROM t") == "2"
    assert "the grant INSERT(x, owner) ON" in bob.send("INSERT INTO t VALUES (3, 'y')").text
    assert "the grant INSERT(x) ON" in bob.send("INSERT INTO t (x) SELECT 3").text
    assert bob.ask("SHOW GRANTS").replace("\\'", "'") == f"GRANT SELECT ON {bob.own}.* TO `{bob.name}`"
    bob.order("GRANT INSERT ON OWN.t TO BOB")
    bob.ask("INSERT INTO t VALUES (3, 'y')")
    bob.ask("INSERT INTO t SELECT x, owner FROM input('x Int32, owner String') FORMAT CSV\n4,z\n")
    bob.order("REVOKE SELECT ON OWN.t FROM BOB")
    assert bob.code("SELECT count() FROM t") == 497
    assert bob.ask("CHECK GRANT INSERT ON OWN.t") == "1"
    assert bob.ask("CHECK GRANT SELECT ON OWN.t") == "0"
    lines = bob.ask("SHOW GRANTS FORMAT TSVRaw").splitlines()
    assert [line.partition(" ON ")[0] for line in lines] == ["GRANT SELECT", "GRANT INSERT", "REVOKE SELECT"]
    # What is taken back of everything is not seen either.
    bob.order("GRANT SELECT, INSERT ON *.* TO BOB", "REVOKE SELECT, INSERT ON OTHER.* FROM BOB")
    assert bob.ask("SELECT count() FROM t") == "4"
    assert bob.own in bob.ask("SHOW DATABASES")
    assert bob.other not in bob.ask("SHOW DATABASES")
    assert bob.ask("SHOW TABLES FROM OTHER") == ""
    assert [bob.code(each) for each in ("USE OTHER", "DESCRIBE OTHER.secret", "SELECT * FROM OTHER.secret")] == [
        497
    ] * 3
    bob.order("GRANT SELECT ON OTHER.secret TO BOB")
    assert bob.other in bob.ask("SHOW DATABASES")
    assert bob.ask("SELECT * FROM OTHER.secret") == "7"
    bob.order("REVOKE ALL ON *.* FROM BOB")
    assert bob.ask("SHOW GRANTS") == ""


ESCAPES = """
SELECT * FROM OTHER.secret
SELECT * FROM `OTHER` . /* FROM own.t */ "secret"
WITH secret AS (SELECT 1 AS z) SELECT * FROM OTHER.secret
SELECT * FROM secret, (WITH secret AS (SELECT 1) SELECT * FROM secret) AS s
WITH secret AS (SELECT * FROM secret) SELECT * FROM secret
SELECT (SELECT z FROM OTHER.secret)
SELECT 7 IN OTHER.secret
SELECT in(7, OTHER.secret)
SELECT 7 GLOBAL NOT IN (OTHER.secret)
SELECT * FROM (SELECT * FROM OWN.over)
SELECT * FROM t JOIN OTHER.secret ON x = z
SELECT 1 UNION ALL SELECT z FROM OTHER.secret
SELECT 1 INTERSECT SELECT z FROM OTHER.secret
SELECT joinGet('OTHER.joined', 'v', 1)
SELECT dictGet('OTHER.words', 'w', 1)
SELECT dictGet(OTHER.words, 'w', 1)
SELECT dictGet(concat('OTHER', '.words'), 'w', 1)
SELECT LEAK(1)
SELECT * FROM merge('OTHER', '.*')
SELECT * FROM merge(REGEXP('.*'), 'secret')
SELECT * FROM remote('127.0.0.1', 'OTHER', 'secret')
SELECT * FROM cluster('default', OTHER.secret)
SELECT * FROM view(SELECT * FROM OTHER.secret)
SELECT * FROM viewIfPermitted(SELECT * FROM OTHER.secret ELSE null('z Int'))
SELECT * FROM loop('OTHER', 'secret') LIMIT 1
SELECT * FROM dictionary('OTHER.words')
SELECT * FROM OTHER.words
SELECT * FROM OTHER.parametrised(least=1)
SELECT * FROM mergeTreeIndex('OTHER', 'secret')
SELECT * FROM eval('SELECT * FROM OTHER.secret')
SELECT * FROM file('x.csv')
SELECT file('x.csv')
SELECT * FROM url('http://127.0.0.1:1')
SELECT hasColumnInTable('OTHER', 'secret', 'z')
INSERT INTO t SELECT z, 'x' FROM OTHER.secret
INSERT INTO OTHER.secret VALUES (1)
INSERT INTO t VALUES (1, 'x'), ((SELECT max(z) FROM OTHER.secret), 'x')
INSERT INTO t VALUES (joinGet('OTHER.joined', 'v', toInt32(1)), 'x')
INSERT INTO FUNCTION file('x.csv') SELECT 1
INSERT INTO FUNCTION remote('127.0.0.1', 'OTHER', 'secret') SELECT 1
CREATE TABLE OWN.c ENGINE = Memory AS SELECT * FROM OTHER.secret
CREATE TEMPORARY TABLE c AS SELECT * FROM OTHER.secret
CREATE TABLE OWN.c CLONE AS OTHER.secret
CREATE TABLE OWN.c AS OTHER.secret
CREATE TABLE OWN.c (z Int DEFAULT (SELECT max(z) FROM OTHER.secret)) ENGINE = Memory
CREATE TABLE OWN.c (z Int) ENGINE = Merge('OTHER', 'secret')
CREATE TABLE OWN.c (z Int) ENGINE = Buffer('OTHER', 'secret', 1, 1, 1, 1, 1, 1, 1)
CREATE TABLE OWN.c (z Int) ENGINE = File(CSV)
CREATE TABLE OWN.c (z String) ENGINE = FileLog('.', 'LineAsString')
CREATE MATERIALIZED VIEW OWN.m ENGINE = Memory AS SELECT * FROM OTHER.secret
CREATE MATERIALIZED VIEW OWN.m TO OTHER.secret AS SELECT x AS z FROM OWN.t
CREATE VIEW OWN.w SQL SECURITY NONE AS SELECT * FROM OTHER.secret
CREATE DICTIONARY OWN.d (z Int64) PRIMARY KEY z SOURCE(CLICKHOUSE(TABLE 'secret' DB 'OTHER')) LAYOUT(FLAT()) LIFETIME(0)
ALTER TABLE t DELETE WHERE x IN (SELECT z FROM OTHER.secret)
ALTER TABLE t REPLACE PARTITION tuple() FROM OTHER.secret
ALTER TABLE t MOVE PARTITION tuple() TO TABLE OTHER.secret
ALTER TABLE OTHER.secret ADD COLUMN y Int
DELETE FROM OTHER.secret WHERE 1
UPDATE OTHER.secret SET z = 1 WHERE 1
DROP TABLE OTHER.secret
DROP TABLE OWN.t, OTHER.secret
DROP DATABASE OTHER
TRUNCATE TABLE OTHER.secret
TRUNCATE ALL TABLES FROM OTHER
DETACH TABLE OTHER.secret
RENAME TABLE OTHER.secret TO OWN.s
EXCHANGE TABLES OWN.t AND OTHER.secret
RENAME DATABASE OTHER TO mine_2
OPTIMIZE TABLE OTHER.secret
CREATE INDEX i ON OTHER.secret (z) TYPE minmax
CHECK TABLE OTHER.secret
DESCRIBE OTHER.secret
DESCRIBE (SELECT * FROM OTHER.secret)
SHOW CREATE TABLE OTHER.secret
EXISTS OTHER.secret
EXISTS DATABASE OTHER
USE OTHER
EXPLAIN SELECT * FROM OTHER.secret
CREATE DATABASE mine_3
CREATE DATABASE OWN ENGINE = Filesystem('/')
CREATE FUNCTION escape AS x -> 1
SYSTEM SHUTDOWN
SYSTEM FLUSH LOGS
KILL QUERY WHERE 1
BACKUP TABLE OTHER.secret TO Disk('a', 'b')
CREATE TABLE OWN.z UUID '00000000-0000-0000-0000-000000000001' (z Int) ENGINE = MergeTree ORDER BY z
ATTACH TABLE OWN.z FROM '/x' (z Int) ENGINE = MergeTree ORDER BY z
CREATE USER mallory
ALTER USER BOB SETTINGS max_threads = 1
DROP USER BOB
GRANT SELECT ON OWN.* TO BOB
GRANT SELECT ON OTHER.* TO BOB
SHOW GRANTS FOR triton
SHOW USERS
SHOW ACCESS
SELECT * FROM system.users
SELECT * FROM system.processes
SELECT * FROM system.query_log
SHOW PROCESSLIST
EXECUTE AS triton SELECT 1
CREATE ROW POLICY p ON OWN.t USING 1
""".strip().splitlines()


def test_what_is_not_granted_cannot_be_reached(bob: Person) -> None:
    """All statements in one test: making what they try to reach takes longer than trying."""
    leak = f"leak_{bob.own}"
    bob.order(
        "CREATE VIEW OWN.over AS SELECT * FROM OTHER.secret",
        "CREATE TABLE OTHER.joined (k Int32, v Int32) ENGINE Join(ANY, LEFT, k)",
        "CREATE DICTIONARY OTHER.words (x Int64, owner String) PRIMARY KEY x SOURCE(CLICKHOUSE(TABLE 't' DB 'OWN')) "
        "LAYOUT(FLAT()) LIFETIME(0)",
        "CREATE VIEW OTHER.parametrised AS SELECT * FROM OTHER.secret WHERE z > {least:Int32}",
        f"CREATE FUNCTION {leak} AS a -> (SELECT max(z) FROM OTHER.secret)",
        "CREATE TABLE OWN.secret (z Int32) ENGINE = Memory",
        "GRANT ALL ON OWN.* TO BOB",
        "REVOKE SELECT ON OWN.secret FROM BOB",
    )
    try:
        reached = [each for each in ESCAPES if bob.code(each.replace("LEAK", leak)) != 497]
        assert reached == []
        assert bob.code("SELECT * FROM {where:Identifier}.secret", param_where=bob.other) == 497
        assert bob.code("SELECT * FROM {where:Identifier}.secret") == 456
        # What the engine would refuse, or would do in another way than was looked at.
        assert bob.code("SELECT 1; SELECT z FROM OTHER.secret") == 62
        for change in ("additional_table_filters = {}", "dialect = 'kusto'", "param_where = 'x'", "database = 'x'",
                       "implicit_table_at_top_level = 'x'", "use_query_cache = 1", "select = 'x'"):  # fmt: skip
            assert bob.code(f"SELECT * FROM t SETTINGS {change}") == 452
            assert bob.code(f"SET {change}") == 452
        assert bob.code("SELECT 1", dialect="kusto") == 452
        # Values that come while the first of them are inserted are not expressions.
        streamed = (each.encode() for each in (bob.sql("INSERT INTO OWN.t VALUES (1, 'x'),"), "(3, 'y'),",
                                               bob.sql("((SELECT max(z) FROM OTHER.secret), 'x')")))  # fmt: skip
        refused = bob.server.http.post("/", content=streamed, auth=(bob.name.encode(), SECRET.encode()))
        assert refused.status_code != 200
        assert bob.ask("SELECT count() FROM t") == "2"
        for hidden in ("SHOW TABLES FROM OTHER", "SELECT * FROM system.columns WHERE database = 'OTHER'",
                       "SELECT * FROM system.parts WHERE database = 'OTHER'",
                       "SELECT * FROM information_schema.tables WHERE table_schema = 'OTHER'"):  # fmt: skip
            assert bob.ask(hidden) == ""
        assert bob.other not in bob.ask("SHOW DATABASES")
        assert bob.server.ask(bob.sql("SELECT z FROM OTHER.secret")) == "7"
    finally:
        bob.order(f"DROP FUNCTION {leak}", "DROP DICTIONARY OTHER.words")


def test_no_insert_reads_a_file_of_the_server(bob: Person) -> None:
    """A real server refuses it, too: the file is one of the client's."""
    bob.order("CREATE TABLE OWN.lines (line String) ENGINE = Log", "GRANT ALL ON OWN.* TO BOB")
    for head in (
        "INSERT INTO OWN.lines FROM INFILE 'PATH'",
        "insert into OWN.lines from /* it */ infile $a$FILE$a$ compression 'none'",
        "INSERT INTO OWN.lines FROM INFILE \u2018PATH\u2019 SETTINGS max_threads = 1",
        "INSERT INTO OWN.lines FROM INFILE 'PATH' SELECT line FROM input('line String')",
    ):
        statement = f"{head.replace('PATH', str(bob.server.log))} FORMAT LineAsString\nx"
        assert bob.code(statement) == 78, statement
        assert bob.refused(statement).startswith("Code: 78. ")
    assert bob.server.ask(bob.sql("SELECT count() FROM OWN.lines")) == "0"
    # The word alone is a name like others.
    bob.order(
        "CREATE TABLE OWN.infile (infile String) ENGINE = TinyLog", "INSERT INTO OWN.infile VALUES ('from infile')"
    )
    bob.ask("INSERT INTO lines SELECT infile FROM infile")
    assert bob.server.ask(bob.sql("SELECT * FROM OWN.lines")) == "from infile"


def test_a_temporary_table_hides_no_other_one(bob: Person) -> None:
    """What is created or renamed is a table for good, though a temporary one has the same name."""
    bob.order("GRANT ALL ON OWN.* TO BOB", "GRANT SELECT ON OTHER.t TO BOB")
    bob.ask("CREATE TEMPORARY TABLE secret (temporary Int32)", session_id="s")
    bob.ask("USE OTHER", session_id="s")
    for statement in (
        "CREATE TABLE secret (z Int32) ENGINE = Memory",
        "CREATE OR REPLACE TABLE secret ENGINE = Memory AS SELECT 8 AS z",
        "CREATE TABLE secret ENGINE = Memory AS SELECT 8 AS z",
        "CREATE VIEW secret AS SELECT 8 AS z",
        "CREATE MATERIALIZED VIEW secret TO OWN.t AS SELECT 8 AS x",
        "CREATE DICTIONARY secret (z Int64) PRIMARY KEY z SOURCE(NULL()) LAYOUT(FLAT()) LIFETIME(0)",
        "RENAME TABLE secret TO OWN.taken",
        "SHOW CREATE TABLE OTHER.secret",
        "EXISTS OTHER.secret",
    ):
        assert bob.code(statement, session_id="s") == 497, statement
    table = {"default_format": "TSV", "secret_structure": "temporary Int32", "database": bob.other}
    made = bob.server.http.post(
        "/",
        params={"query": "CREATE OR REPLACE TABLE secret ENGINE = Memory AS SELECT 8 AS z", **table},
        files={"secret": b"1"},
        auth=(bob.name.encode(), SECRET.encode()),
    )
    assert made.headers["x-clickhouse-exception-code"] == "497"
    assert bob.server.ask(bob.sql("SELECT z FROM OTHER.secret")) == "7"
    # It is its own all the same.
    bob.ask("INSERT INTO secret VALUES (3)", session_id="s")
    assert bob.ask("SELECT temporary FROM secret", session_id="s") == "3"
    assert "temporary" in bob.ask("SHOW CREATE TABLE secret", session_id="s")
    bob.ask("CREATE OR REPLACE TEMPORARY TABLE secret ENGINE = Memory AS SELECT 4 AS temporary", session_id="s")
    bob.ask("CREATE TABLE OWN.kept ENGINE = Memory AS SELECT * FROM secret", session_id="s")
    bob.ask("DROP TABLE secret", session_id="s")
    assert bob.ask("SELECT * FROM kept") == "4"


def test_changes_of_rows_read_where_their_table_is(bob: Person) -> None:
    bob.order(
        "CREATE TABLE OWN.secret (z Int32) ENGINE = Memory",
        "CREATE TABLE OTHER.rows (x Int32, y Int32) ENGINE = MergeTree ORDER BY x "
        "SETTINGS enable_block_number_column = 1, enable_block_offset_column = 1",
        "INSERT INTO OTHER.rows SELECT number, number FROM numbers(9)",
        "GRANT SELECT ON OWN.secret TO BOB",
        "GRANT SELECT, ALTER DELETE, ALTER UPDATE ON OTHER.rows TO BOB",
    )
    statements = (
        "UPDATE OTHER.rows SET y = -1 WHERE x IN (SELECT z - 1 FROM secret)",
        "ALTER TABLE OTHER.rows DELETE WHERE x IN secret SETTINGS mutations_sync = 2",
        "DELETE FROM OTHER.rows WHERE x IN (SELECT z + 1 FROM secret)",
    )
    assert [bob.code(each) for each in statements] == [497] * 3
    bob.order("GRANT SELECT ON OTHER.secret TO BOB", "REVOKE SELECT ON OWN.secret FROM BOB")
    for statement in statements:
        bob.ask(statement)
    assert bob.ask("SELECT groupArray(y) FROM OTHER.rows") == "[0,1,2,3,4,5,-1]"


def test_what_is_granted_works(bob: Person) -> None:
    bob.order(
        "CREATE VIEW OWN.definer DEFINER = default SQL SECURITY DEFINER AS SELECT * FROM OTHER.secret",
        "GRANT ALL ON OWN.* TO BOB",
    )
    for statement in (
        "INSERT INTO t (x) SELECT number FROM numbers(3)",
        "INSERT INTO t VALUES (1 + 1, upper('x')), (3, 'SELECT');",
        "INSERT INTO t VALUES (1, 'x') (2, 'no comma before it')",
        "INSERT INTO t FORMAT CSV\n9,\"a\"\n",
        "CREATE TABLE n (x Int32) ENGINE = MergeTree ORDER BY x",
        "CREATE TABLE m AS n",
        "CREATE OR REPLACE TABLE k ENGINE = MergeTree ORDER BY x AS SELECT * FROM t",
        "RENAME TABLE m TO m2",
        "EXCHANGE TABLES n AND m2",
        "ALTER TABLE n ADD COLUMN z Int32, DROP COLUMN z",
        "ALTER TABLE t REPLACE PARTITION tuple() FROM k",
        "ALTER TABLE k DELETE WHERE x = 1",
        "DELETE FROM k WHERE x = 2",
        "CREATE VIEW vv AS SELECT * FROM t",
        "CREATE MATERIALIZED VIEW mm TO n AS SELECT x FROM t",
        "SELECT count() FROM vv",
        "SELECT * FROM definer",
        "SELECT count() FROM merge('OWN', '^t$')",
        "WITH a AS (SELECT 1 AS q) SELECT q FROM a WHERE q IN (SELECT * FROM a)",
        "SELECT [1, 2] AS k, 1 IN k",
        "DESCRIBE t", "SHOW CREATE TABLE t", "SHOW COLUMNS FROM t", "EXISTS t", "EXISTS nothing", "SHOW TABLES",
        "USE OWN", "SET max_threads = 2",
        "CREATE INDEX i ON n (x) TYPE minmax", "DROP INDEX i ON n",
        "OPTIMIZE TABLE n FINAL", "TRUNCATE TABLE n", "EXPLAIN SELECT * FROM t",
        "DROP VIEW vv", "DROP TABLE mm, n", "SHOW CREATE USER", "SHOW SETTINGS LIKE 'max_threads'", "SET ROLE NONE",
        "SELECT name FROM system.databases", "SELECT name FROM system.settings LIMIT 1 FORMAT Native",
        "DROP DATABASE OWN",
    ):  # fmt: skip
        response = bob.send(statement)
        assert response.status_code == 200, f"{statement}: {response.text}"


def test_roles(bob: Person) -> None:
    role, above = f"role {bob.own}", f"above {bob.own}"
    bob.order(
        f"CREATE ROLE `{role}` SETTINGS max_block_size = 123",
        f"CREATE ROLE `{above}`",
        f"GRANT SELECT ON OWN.* TO `{role}`",
        f"GRANT `{role}` TO `{above}`",
        f"GRANT `{above}` TO BOB",
    )
    assert bob.ask("SELECT count(), getSetting('max_block_size') FROM t") == "2\t123"
    assert bob.ask("SHOW CURRENT ROLES") == f"{above}\t0\t1"
    assert {line.split("\t")[0] for line in bob.ask("SHOW ENABLED ROLES").splitlines()} == {role, above}
    bob.ask("SET ROLE NONE", session_id="s")
    assert bob.code("SELECT count() FROM t", session_id="s") == 497
    bob.ask("SET ROLE DEFAULT", session_id="s")
    assert bob.ask("SELECT count() FROM t", session_id="s") == "2"
    bob.order("ALTER USER BOB DEFAULT ROLE NONE")
    assert bob.code("SELECT count() FROM t") == 497
    assert bob.ask("SELECT count() FROM t", role=above) == "2"
    assert bob.ask("SELECT currentRoles(), defaultRoles()") == "[]\t[]"
    assert bob.ask("SELECT currentRoles(), length(enabledRoles())", role=above) == f"['{above}']\t2"
    assert bob.code("SELECT 1", role=role) == 512
    assert bob.code("SELECT 1", role="no such") == 511
    assert bob.code(f"SET ROLE `{role}`") == 512
    bob.order(f"REVOKE `{above}` FROM BOB")
    assert bob.code("SELECT 1", role=above) == 512
    # Who may grant.
    bob.order("GRANT SELECT ON OWN.* TO BOB WITH GRANT OPTION", f"GRANT `{role}` TO BOB WITH ADMIN OPTION")
    bob.ask(f"GRANT SELECT ON OWN.t TO `{above}`")
    bob.ask(f"GRANT `{role}` TO `{above}`")
    assert bob.code(f"GRANT INSERT ON OWN.t TO `{above}`") == 497
    assert bob.code(f"GRANT `{above}` TO BOB") == 497
    bob.order(f"DROP ROLE `{role}`")
    assert bob.ask("SHOW GRANTS FORMAT TSVRaw").endswith(" WITH GRANT OPTION")


def test_what_may_not_be_granted_is_neither_given_nor_taken(bob: Person) -> None:
    low, high, eve = (f"{name} {bob.own}" for name in ("low", "high", "eve"))
    bob.order(
        f"CREATE ROLE `{low}`", f"CREATE ROLE `{high}`", f"CREATE USER `{eve}`", f"GRANT ALL ON *.* TO `{high}`",
        f"GRANT `{high}`, `{low}` TO `{eve}` WITH ADMIN OPTION", f"ALTER USER `{eve}` DEFAULT ROLE `{high}`, `{low}`",
        f"GRANT SELECT, INSERT ON OWN.t TO `{eve}`", "GRANT CREATE USER ON *.* TO BOB",
        f"GRANT `{low}` TO BOB WITH ADMIN OPTION", "GRANT SELECT ON OWN.* TO BOB WITH GRANT OPTION",
    )  # fmt: skip

    def shown() -> str:
        return bob.server.ask(f"SHOW GRANTS FOR `{eve}` FORMAT TSVRaw")

    before = shown()
    for statement in (
        f"CREATE USER `new {bob.own}` DEFAULT ROLE `{high}`",
        f"CREATE USER OR REPLACE BOB DEFAULT ROLE `{low}`, `{high}`",
        f"GRANT USAGE ON *.* TO `{eve}` WITH REPLACE OPTION",
        f"GRANT SELECT ON OWN.t TO `{eve}` WITH REPLACE OPTION",
        f"GRANT `{low}` TO `{eve}` WITH REPLACE OPTION",
    ):
        assert bob.code(statement) == 497, statement
    assert shown() == before
    bob.ask(f"CREATE USER `new {bob.own}` DEFAULT ROLE `{low}`")
    assert bob.server.ask(f"SHOW GRANTS FOR `new {bob.own}` FORMAT TSVRaw").startswith(f"GRANT `{low}` TO ")
    bob.order("GRANT INSERT ON OWN.* TO BOB WITH GRANT OPTION", f"GRANT `{high}` TO BOB WITH ADMIN OPTION")
    bob.ask(f"GRANT SELECT ON OWN.t TO `{eve}` WITH REPLACE OPTION")
    bob.ask(f"GRANT `{low}` TO `{eve}` WITH REPLACE OPTION")
    assert shown().splitlines() == [f"GRANT SELECT ON {bob.own}.t TO `{eve}`", f"GRANT `{low}` TO `{eve}`"]
    assert bob.server.ask(f"SHOW CREATE USER `{eve}` FORMAT TSVRaw").endswith(f"DEFAULT ROLE `{low}`")


def test_settings_and_their_limits(bob: Person) -> None:
    profile = f"profile {bob.own}"
    bob.order(
        f"CREATE SETTINGS PROFILE `{profile}` SETTINGS max_threads = 3 MAX 5, max_block_size = 100 CONST",
        f"ALTER USER BOB SETTINGS PROFILE `{profile}`",
    )
    asked = "SELECT getSetting('max_threads'), getSetting('max_block_size')"
    assert bob.ask(asked) == "3\t100"
    assert bob.ask(f"{asked} SETTINGS max_threads = 4") == "4\t100"
    assert bob.ask(asked, max_threads=5) == "5\t100"
    for statement in ("SELECT 1 SETTINGS max_threads = 9", "SET max_threads = 9", "SET max_block_size = 1",
                      "SELECT 1 SETTINGS max_block_size = DEFAULT",
                      "SELECT * FROM (SELECT 1 SETTINGS max_threads = 9)"):  # fmt: skip
        assert bob.code(statement) == 452
    assert bob.code("SELECT 1", max_threads=9) == 452
    # A session begins with them, and keeps what was set in it.
    bob.ask("SET max_threads = 2", session_id="s")
    assert bob.ask(asked, session_id="s") == "2\t100"
    assert bob.ask("SELECT currentDatabase()", session_id="s") == bob.own
    bob.ask("USE system", session_id="s")
    assert bob.ask("SELECT currentDatabase()", session_id="s") == "system"
    bob.order("ALTER USER BOB SETTINGS readonly = 1", "GRANT ALL ON OWN.* TO BOB")
    assert bob.ask("SELECT count(), getSetting('readonly') FROM t") == "2\t1"
    for statement in ("INSERT INTO t VALUES (5, 'x')", "CREATE TABLE OWN.c (x Int32) ENGINE = Memory",
                      "SELECT 1 SETTINGS max_threads = 1", "SET readonly = 0", "CREATE USER mallory"):  # fmt: skip
        assert bob.code(statement) == 164
        assert bob.code(statement, session_id="s") == 164
    assert bob.code("SELECT 1", max_threads=1) == 164
    assert bob.code("SELECT 1", readonly=0) == 164
    refused = bob.send("SET max_threads = 2", session_id="of the reader").text
    assert "Cannot modify 'max_threads' setting in readonly mode" in refused
    assert "SETTINGS readonly = 1" in bob.ask("SHOW CREATE USER")


def test_row_policies(bob: Person) -> None:
    bob.order("GRANT SELECT ON OWN.* TO BOB", "CREATE VIEW OWN.v AS SELECT * FROM OWN.t")
    bob.order("CREATE ROW POLICY mine ON OWN.t USING owner = currentUser() TO BOB")
    for table in ("OWN.t", "v", "(SELECT * FROM t)", "view(SELECT * FROM t)"):
        assert bob.ask(f"SELECT x FROM {table} WHERE x IN (SELECT x FROM t)") == "2"
    assert bob.ask("SELECT (1, 'x') IN t") == "0"
    assert bob.ask("SELECT count() FROM t", session_id="s") == "1"
    for function in ("merge('OWN', 't')", "mergeTreeIndex('OWN', 't')", "mergeTreeIndex(OWN, t)",
                     "mergeTreeProjection('OWN', 't', 'p')",
                     "view(SELECT * FROM mergetreeindex('OWN', 't'))"):  # fmt: skip
        assert bob.code(f"SELECT * FROM {function}") == 48, function
    assert bob.ask("SELECT x FROM loop('OWN', 't') LIMIT 1") == "2"
    assert bob.server.ask(bob.sql("SELECT count() FROM OWN.t")) == "2"
    bob.order("CREATE ROW POLICY also ON OWN.* USING x = 1 TO BOB")
    assert bob.ask("SELECT count() FROM t") == "2"
    bob.order("CREATE ROW POLICY less ON OWN.t USING x < 2 AS RESTRICTIVE TO ALL EXCEPT triton")
    assert bob.ask("SELECT x FROM t", session_id="s") == "1"
    assert bob.server.ask(bob.sql("SHOW ROW POLICIES ON OWN.t")).split() == ["less", "mine"]
    shown = bob.server.ask(bob.sql("SHOW CREATE ROW POLICY less ON OWN.t"))
    assert shown == bob.sql(
        "CREATE ROW POLICY less ON OWN.t AS RESTRICTIVE FOR SELECT USING x < 2 TO ALL EXCEPT triton"
    )
    bob.order("DROP ROW POLICY mine, less ON OWN.t", "DROP ROW POLICY also ON OWN.*")
    assert bob.ask("SELECT count() FROM t") == "2"
    # A policy for a role holds for those who may choose it.
    role = f"role {bob.own}"
    bob.order(f"CREATE ROLE `{role}`", f"GRANT `{role}` TO BOB", "ALTER USER BOB DEFAULT ROLE NONE")
    bob.order(f"CREATE ROW POLICY theirs ON OWN.t USING x = 1 TO `{role}`")
    bob.ask(f"SET ROLE `{role}`", session_id="r")
    assert bob.ask("SELECT x FROM t", session_id="r") == "1"
    bob.order("DROP ROW POLICY theirs ON OWN.t")


def test_ways_to_log_in(bob: Person) -> None:
    def can(password: str = SECRET) -> bool:
        return bob.send("SELECT 1", password=password).status_code == 200

    for kind in ("plaintext_password", "sha256_password", "double_sha1_password"):
        bob.order(f"ALTER USER BOB IDENTIFIED WITH {kind} BY 'one'")
        assert (can("one"), can("two"), can("")) == (True, False, False)
        assert kind in bob.send("SHOW CREATE USER", password="one").text
    bob.order("ALTER USER BOB ADD IDENTIFIED WITH sha256_password BY 'two'")
    assert (can("one"), can("two")) == (True, True)
    bob.order("ALTER USER BOB RESET AUTHENTICATION METHODS TO NEW")
    assert (can("one"), can("two")) == (False, True)
    bob.order("ALTER USER BOB NOT IDENTIFIED")
    assert can("anything")
    bob.order(f"ALTER USER BOB IDENTIFIED BY {literal(SECRET)} HOST IP '192.0.2.0/24'")
    assert not can()
    bob.order("ALTER USER BOB ADD HOST LOCAL")
    assert can()
    bob.order("ALTER USER BOB HOST LIKE '127.%' VALID UNTIL '2020-01-01 00:00:00'")
    assert not can()
    bob.order("ALTER USER BOB VALID UNTIL '2099-01-01'")
    assert can()
    bob.server.ask(bob.sql("ALTER USER BOB IDENTIFIED BY {secret:String}"), param_secret="from elsewhere")
    assert can("from elsewhere")


ERRORS = {
    "CREATE USER BOB": 493, "CREATE USER triton": 493, "ALTER USER triton SETTINGS max_threads = 1": 495,
    "DROP USER triton": 495, "DROP USER missing": 192, "ALTER USER missing HOST ANY": 192,
    "GRANT SELECT ON a.b TO missing": 192, "GRANT missing TO BOB": 511, "DROP ROLE missing": 511,
    "SHOW CREATE USER missing": 192, "SHOW GRANTS FOR missing": 192,
    "ALTER USER BOB SETTINGS PROFILE 'missing'": 180, "ALTER USER BOB SETTINGS missing = 1": 115,
    "CREATE USER eve ON CLUSTER c": 701, "CREATE USER eve IN elsewhere": 514,
    "GRANT SYSTEM SHUTDOWN ON a.* TO BOB": 509, "CREATE USER eve IDENTIFIED BY 'hidden' WRONG": 62,
    "CREATE USER eve IDENTIFIED WITH bcrypt_password BY 'hidden'": 48,
    "CREATE USER eve IDENTIFIED WITH ldap SERVER 'x'": 48, "CREATE USER eve HOST REGEXP 'x'": 48,
    "CREATE USER eve GRANTEES NONE": 48, "GRANT SELECT(x) ON OWN.t TO BOB": 48,
    "GRANT READ ON S3('s3://x/.*') TO BOB": 48, "GRANT WRITE ON FILE TO BOB": 48,
    "GRANT SELECT ON OWN.t* TO BOB": 48, "GRANT CURRENT GRANTS ON *.* TO BOB": 48, "CREATE QUOTA q": 48,
    "GRANT TABLE ENGINE ON Memory TO BOB": 48, "ALTER USER BOB SETTINGS additional_table_filters = ''": 48,
}  # fmt: skip


def test_errors_have_the_numbers_of_clickhouse(bob: Person) -> None:
    for statement, code in ERRORS.items():
        text = bob.refused(statement)
        assert text.startswith(f"Code: {code}. "), statement
        assert "hidden" not in text


def test_conditions_of_statements(bob: Person) -> None:
    bob.order(
        "CREATE USER IF NOT EXISTS BOB",
        "DROP USER IF EXISTS missing, missing_2",
        "ALTER USER IF EXISTS missing HOST ANY",
        "/* a comment */ CREATE -- another\n USER OR REPLACE BOB IDENTIFIED WITH no_password HOST NONE",
    )
    assert bob.code("SELECT 1") == 516
    assert bob.server.ask(bob.sql("ALTER USER BOB ON CLUSTER default HOST ANY")) == "localhost\t9000\t0\t\t0\t0"
    assert bob.ask("SELECT 1") == "1"
    renamed = Person(bob.server, f"{bob.name} the second", bob.own, bob.other)
    bob.order(f"ALTER USER BOB RENAME TO `{renamed.name}`")
    assert (bob.code("SELECT 1"), renamed.ask("SELECT currentUser() FORMAT TSVRaw")) == (516, renamed.name)
    refused = httpx.get(bob.server.url, params={"query": "CREATE USER by_get"}, timeout=PATIENCE)
    assert refused.headers["x-clickhouse-exception-code"] == "164"


def test_tables_of_system(bob: Person) -> None:
    bob.order("GRANT SELECT, INSERT ON OWN.t TO BOB")
    of_bob = f"WHERE user_name = {literal(bob.name)}"
    granted = bob.server.ask(f"SELECT access_type, database, table FROM system.grants {of_bob} ORDER BY access_type")
    assert granted == f"SELECT\t{bob.own}\tt\nINSERT\t{bob.own}\tt"
    storages = bob.server.ask("SELECT name, storage FROM system.users FORMAT TSVRaw")
    assert {"triton\tusers_xml", f"{bob.name}\tlocal_directory"} <= set(storages.splitlines())
    assert bob.name in json.dumps(json.loads(bob.server.ask("SHOW USERS FORMAT JSONCompact"))["data"]).replace(
        '\\"', '"'
    )


@pytest.mark.filterwarnings("ignore:.*remains registered to another SQLAlchemy dialect:UserWarning")
def test_clients_of_several_users(bob: Person) -> None:
    bob.order("GRANT SELECT, CREATE TABLE, DROP TABLE, INSERT ON OWN.* TO BOB")
    client = bob.client()
    assert client.query("SELECT count() FROM t").first_row == (2,)
    assert client.query("SHOW GRANTS").result_rows != []
    client.insert("t", [[5, "e"]], column_names=["x", "owner"])
    data = ExternalData(file_name="e", data=b"5,five\n", fmt="CSV", structure=["id UInt32", "name String"])
    joined = client.query("SELECT name, currentUser() FROM e JOIN t ON e.id = t.x", external_data=data)
    assert joined.result_rows == [("five", bob.name)]
    with client.query_rows_stream("SELECT x FROM t ORDER BY x") as rows:
        assert list(rows) == [(1,), (2,), (5,)]
    # What dbt does: a table beside the old one, then an exchange.
    client.command("CREATE TABLE model__dbt_backup ENGINE = MergeTree ORDER BY x AS SELECT * FROM t")
    client.command("CREATE OR REPLACE TABLE model ENGINE = MergeTree ORDER BY x AS SELECT * FROM t")
    client.command("EXCHANGE TABLES model AND model__dbt_backup")
    client.command("DROP TABLE IF EXISTS model__dbt_backup")
    assert len(client.query_df("SELECT * FROM model")) == 3
    with pytest.raises(DatabaseError, match="Code: 497"):
        client.command("ALTER TABLE t DELETE WHERE 1")
    client.close()
    bob.order("ALTER USER BOB SETTINGS readonly = 1")
    reader = bob.client()
    assert reader.query("SELECT count() FROM t").first_row == (3,)
    with pytest.raises(DatabaseError, match="Code: 164"):
        reader.insert("t", [[5, "e"]], column_names=["x", "owner"])
    reader.close()
    address = sa.URL.create("clickhousedb", bob.name, SECRET, "127.0.0.1", bob.server.port, bob.own)
    engine = sa.create_engine(address)
    with engine.connect() as db:
        assert db.execute(sa.text("SELECT count() FROM t")).scalar() == 3
    assert sorted(sa.inspect(engine).get_table_names()) == ["model", "t"]
    engine.dispose()


def test_the_native_protocol_knows_the_same_users(bob: Person) -> None:
    def client(password: str = SECRET) -> NativeClient:
        return NativeClient("127.0.0.1", bob.server.native_port, bob.own, bob.name, password)

    def code(call: Callable[[], object]) -> int:
        with pytest.raises(ServerException) as refused:
            call()
        return int(refused.value.code)

    bob.order("GRANT SELECT, INSERT, CREATE TEMPORARY TABLE ON *.* TO BOB", "REVOKE SELECT, INSERT ON OTHER.* FROM BOB")
    bob.order("ALTER USER BOB SETTINGS max_threads = 3 MAX 4")
    with client() as native:
        asked = "SELECT currentUser(), currentDatabase(), getSetting('max_threads')"
        assert native.execute(asked) == [(bob.name, bob.own, 3)]
        native.execute("CREATE TEMPORARY TABLE mine (a Int32)")
        native.execute("INSERT INTO mine VALUES", [(1,)])
        native.execute("INSERT INTO t VALUES", [(3, "y")])
        assert native.execute("SELECT (SELECT count() FROM mine), count() FROM t") == [(1, 3)]
        native.execute("SET max_threads = 2")
        assert native.execute(asked) == [(bob.name, bob.own, 2)]
    with client() as native:
        assert code(lambda: native.execute(bob.sql("SELECT * FROM OTHER.secret"))) == 497
        assert code(lambda: native.execute(bob.sql("INSERT INTO OTHER.secret VALUES"), [(1,)])) == 497
        assert code(lambda: native.execute("SELECT 1", settings={"max_threads": 9})) == 452
        bob.order("CREATE ROW POLICY mine ON OWN.t USING x = 1 TO BOB")
        assert native.execute("SELECT x FROM t") == [(1,)]
        bob.order("DROP ROW POLICY mine ON OWN.t", "ALTER USER BOB SETTINGS readonly = 1")
        assert code(lambda: native.execute("INSERT INTO t VALUES", [(3, "y")])) == 164
    with client("wrong") as native:
        assert code(lambda: native.execute("SELECT 1")) == 516


def test_many_at_once(bob: Person) -> None:
    """Grants that come and go, while their user asks: each answer is one of the two, and the server lives."""
    bob.order("GRANT SELECT ON OWN.t TO BOB")

    def change(number: int) -> None:
        bob.order("REVOKE SELECT ON OWN.t FROM BOB" if number % 2 else "GRANT SELECT ON OWN.t TO BOB")

    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(bob.code, "SELECT count() FROM t") for _ in range(40)]
        for number in range(10):
            pool.submit(change, number)
        assert {each.result() for each in asked} <= {0, 497}
    bob.order("GRANT SELECT ON OWN.t TO BOB")
    assert bob.ask("SELECT count() FROM t") == "2"


def test_passwords_are_in_no_log(bob: Person) -> None:
    bob.order("ALTER USER BOB IDENTIFIED WITH plaintext_password BY 'not-for-logs'")
    bob.refused("CREATE USER eve IDENTIFIED BY 'not-for-logs' WRONG")
    assert "not-for-logs" not in bob.server.log.read_text()
    bob.server.ask("SYSTEM FLUSH LOGS")
    logged = "SELECT count() FROM system.engine_query_log WHERE query LIKE concat('%not-', 'for-logs%')"
    assert bob.server.ask(logged) == "0"


def test_everything_is_there_after_a_restart(tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("access")
    server = Server(directory)
    try:
        for statement in (
            "CREATE DATABASE db", "CREATE TABLE db.t (x Int32) ENGINE = MergeTree ORDER BY x AS SELECT 1 AS x",
            "CREATE SETTINGS PROFILE base SETTINGS max_threads = 3 MIN 1 MAX 5 CONST",
            "CREATE SETTINGS PROFILE derived SETTINGS INHERIT base, max_block_size = 7",
            "CREATE ROLE reader SETTINGS PROFILE 'derived'", "GRANT SELECT ON db.* TO reader",
            "CREATE USER bob IDENTIFIED BY 'it\\'s' HOST LOCAL, IP '192.0.2.0/24' DEFAULT DATABASE db",
            "CREATE USER `second user` IDENTIFIED WITH double_sha1_password BY 'x' VALID UNTIL '2099-01-01'",
            "GRANT reader TO bob WITH ADMIN OPTION", "ALTER USER bob DEFAULT ROLE reader",
            "GRANT ALL ON db.* TO `second user` WITH GRANT OPTION", "REVOKE DROP TABLE ON db.t FROM `second user`",
            "REVOKE GRANT OPTION FOR SELECT ON db.t FROM `second user`",
            "CREATE ROW POLICY p ON db.t USING x > 1 AS RESTRICTIVE TO bob",
            "ALTER SETTINGS PROFILE base TO `second user`",
            "CREATE USER gone DEFAULT ROLE reader", "REVOKE reader FROM gone",
        ):  # fmt: skip
            server.ask(statement)
        before = server.ask("SHOW ACCESS"), server.ask("SELECT * FROM system.grants ORDER BY ALL")
        saved = directory / "data" / "access" / "entities.sql"
        assert "it\\'s" not in saved.read_text()
        assert saved.stat().st_mode & 0o077 == 0
    finally:
        assert server.stop() == 0
    server = Server(directory)
    try:
        asked = httpx.post(server.url, content="SELECT count(), getSetting('max_block_size') FROM t",
                           auth=("bob", "it's"), timeout=PATIENCE)  # fmt: skip
        assert asked.text == "0\t7\n"
        assert (server.ask("SHOW ACCESS"), server.ask("SELECT * FROM system.grants ORDER BY ALL")) == before
    finally:
        assert server.stop() == 0


def test_rights() -> None:
    rows = [
        ("SELECT", "ALL", "COLUMN"),
        ("SYSTEM", "ALL", None),
        ("SYSTEM STOP", "SYSTEM", "GLOBAL"),
        ("ALL", None, None),
    ]
    privileges, rights = Privileges(rows), Rights()
    rights.grant(privileges.within("ALL"), (), with_option=False)
    rights.revoke(["SELECT"], ("a",))
    rights.grant(["SELECT"], ("a", "t"), with_option=True)
    assert rights.allow("SELECT", ("b", "t"))
    assert not rights.allow("SELECT", ())
    assert not rights.allow("SELECT", ("a", "s"))
    assert rights.allow("SELECT", ("a", "t"), with_option=True)
    assert list(rights.statements(privileges, "r")) == [
        "GRANT ALL ON *.* TO r", "REVOKE SELECT ON a.* FROM r", "GRANT SELECT ON a.t TO r WITH GRANT OPTION",
    ]  # fmt: skip
    rights.grant(["SELECT"], (), with_option=False)
    assert next(rights.statements(privileges, "r")) == "GRANT ALL ON *.* TO r"
    assert rights.allow("SELECT", ("a", "s"))


def test_texts() -> None:
    assert as_user(b"SELECT user ( ), 'user()', x.user", "b'b", is_named=False) == b"SELECT 'b\\'b', 'user()', x.user"
    assert as_user(b"SELECT currentUser()", "b", is_named=True) == b"SELECT ('b' AS `currentUser()`)"
    for text in (b"CREATE USER a", b"create or replace role a", b"DROP ROW POLICY p ON a.b", b"SHOW GRANTS",
                 b"SHOW CREATE SETTINGS PROFILE p", b"SET DEFAULT ROLE a TO b", b"GRANT a TO b"):  # fmt: skip
        assert is_of_access(text)
    for text in (
        b"CREATE TABLE user (a Int)",
        b"SHOW TABLES",
        b"SET a = 1",
        b"SHOW CREATE TABLE role",
        b"SELECT user()",
    ):
        assert not is_of_access(text)
    assert Reader(b"`a\\`b` 'c\\'d' {e:String}", {"e": "f"}).names() == ["a`b"]
    assert (plain("a_1"), plain("a b"), plain("all")) == ("a_1", "`a b`", "`all`")


def test_places_and_hashes() -> None:
    assert is_from("IP", "10.0.0.0/8", "::ffff:10.1.2.3")
    assert is_from("LIKE", "10.%", "10.1.2.3")
    assert not is_from("IP", "10.0.0.0/8", None)
    assert not is_from("LOCAL", "", "10.1.2.3")
    # As PASSWORD('password') of MySQL has it.
    assert Authentication.of("double_sha1_password", "password").value == "2470c0c06dee42fd1618bb99005adca2ec9d1e19"
    assert "hush" not in repr(Authentication.of("plaintext_password", "hush"))
