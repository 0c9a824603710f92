"""What clients say to a server, and an engine in a process does not know by itself."""

import threading
from contextlib import ExitStack

import httpx
import pytest
from clickhouse_driver import Client

from patience import until
from triton_env.servers.clickhouse.rewriting import custom_settings, rewritten
from triton_env.servers.clickhouse.sql import insert_target

from .conftest import PASSWORD, PATIENCE, USER, Server


def test_a_query_knows_the_id_that_its_client_gave_it(server: Server) -> None:
    assert server.ask("SELECT queryID() = 'of-mine', query_id( ), 'queryID()'", query_id="of-mine") == (
        "1\tof-mine\tqueryID()"
    )
    assert server.ask("SELECT length(initialQueryID()) > 0") == "1"


def test_a_query_is_replaced_by_one_of_its_id(server: Server) -> None:
    answers: list[httpx.Response] = []
    slow = "SELECT sum(sleepEachRow(0.1)) AS replaced FROM numbers(10000) SETTINGS max_block_size = 1"
    first = threading.Thread(target=lambda: answers.append(server.post(slow, query_id="replaced-1")))
    first.start()
    running = "SELECT count() FROM system.processes WHERE query_id = 'replaced-1'"
    assert until(lambda: server.ask(running) == "1")
    assert server.post("SELECT 1", query_id="replaced-1").headers["x-clickhouse-exception-code"] == "216"
    assert server.ask("SELECT 2", query_id="replaced-1", replace_running_query=1) == "2"
    first.join(PATIENCE)
    assert answers[0].headers["x-clickhouse-exception-code"] == "394"


def test_connections_of_clients_are_counted_by_their_protocol(server: Server) -> None:
    def counted(query: str = "SELECT value FROM system.metrics WHERE metric = '{}'") -> list[int]:
        return [int(server.ask(query.format(name))) for name in ("HTTPConnection", "TCPConnection")]

    with ExitStack() as stack:
        before = counted()
        assert before[0] > 0
        for _ in range(3):
            client = stack.enter_context(httpx.Client(base_url=server.url))
            assert client.get("/ping").text == "Ok.\n"
        native = Client("127.0.0.1", port=server.native_port, user=USER, password=PASSWORD)
        stack.callback(native.disconnect)
        assert native.execute("SELECT value FROM system.metrics WHERE name = 'TCPConnection'") == [(before[1] + 1,)]
        for query in (
            "SELECT value FROM system.metrics WHERE metric = '{}'",
            "SELECT m.value FROM `system` . \"metrics\" AS m JOIN system.one AS o ON true WHERE name = '{}' FORMAT TSV",
            "WITH found AS (SELECT * FROM system.metrics) SELECT value FROM found WHERE metric = '{}'",
        ):
            assert counted(query) == [before[0] + 3, before[1] + 1], query
        assert server.ask("SELECT * FROM system.metrics LIMIT 1").count("\t") == 2
        # What is no reading of it stays as it is.
        for query in ("SELECT 'FROM system.metrics'", "SELECT count(metrics.value) > 9 FROM system.metrics"):
            assert server.ask(query) in ("FROM system.metrics", "1")
    assert until(lambda: counted() == before)


def test_statements_for_the_cluster(server: Server, database: str) -> None:
    made = server.post(f"CREATE TABLE {database}.t ON CLUSTER '{{cluster}}' (a UInt8) ENGINE = Memory")
    assert made.text == "localhost\t9000\t0\t\t0\t0\n"
    changed = server.post(
        f"ALTER TABLE {database}.t ON CLUSTER default ADD COLUMN b UInt8", default_format="JSONEachRow"
    )
    assert changed.json()["host"] == "localhost"
    assert server.ask(f"SELECT count() FROM system.columns WHERE database = '{database}'") == "2"
    missing = server.post(f"DROP TABLE {database}.t ON CLUSTER another")
    assert missing.headers["x-clickhouse-exception-code"] == "701"
    server.ask(f"DROP TABLE {database}.t ON CLUSTER `default` SYNC")
    assert server.ask(f"SHOW TABLES FROM {database}") == ""


def test_on_cluster_of_a_join_stays() -> None:
    text = b"CREATE VIEW v ON CLUSTER default AS SELECT * FROM a JOIN b ON cluster = x"
    changed, is_for_cluster = rewritten(text, "CREATE", "", {})
    assert (changed, is_for_cluster) == (b"CREATE VIEW v  AS SELECT * FROM a JOIN b ON cluster = x", True)
    join = b"SELECT * FROM a JOIN b ON cluster default"
    assert rewritten(join, "SELECT", "", {}) == (join, False)


def test_settings_that_a_client_made_up(server: Server) -> None:
    server.ask("SET SQL_MODE = 'ansi', SQL_LIMIT = 5", session_id="made-up")
    assert server.ask("SELECT getSetting('SQL_MODE'), getSetting('SQL_LIMIT')", session_id="made-up") == "ansi\t5"
    assert server.ask("SELECT getSetting('SQL_MODE')", SQL_MODE="other") == "other"
    assert server.post("SELECT getSetting('SQL_MODE')").headers["x-clickhouse-exception-code"] == "115"
    assert server.post("SET made_up = 1").headers["x-clickhouse-exception-code"] == "115"
    assert custom_settings(b"SET SQL_a = 1, max_threads = 2") is None


def test_a_table_that_cannot_start_is_not_left_behind(server: Server, database: str) -> None:
    kafka = "ENGINE = Kafka('127.0.0.1:1', 'topic', 'group', 'TSV')"
    assert server.post(f"CREATE TABLE {database}.`k k` (a UInt8) {kafka}").status_code == 500
    assert server.ask(f"SHOW TABLES FROM {database}") == ""
    server.ask(f"CREATE TABLE {database}.t (a UInt8) ENGINE = Memory")
    again = server.post(f"CREATE TABLE {database}.t (a UInt8) ENGINE = Memory")
    assert again.headers["x-clickhouse-exception-code"] == "57"
    assert server.ask(f"SHOW TABLES FROM {database}") == "t"


def test_input_takes_the_structure_of_its_table(server: Server, database: str) -> None:
    server.ask(f"CREATE TABLE {database}.t (a UInt8, b String, c UInt8 ALIAS a + 1) ENGINE = Memory")
    server.ask(f"INSERT INTO {database}.t SELECT a + 1, upper(b) FROM input('auto') FORMAT CSV\n1,x\n2,y\n")
    server.ask(f"INSERT INTO TABLE {database}.t (b) SELECT b FROM input('auto') FORMAT CSV\nz\n")
    assert server.ask(f"SELECT a, b FROM {database}.t ORDER BY b") == "2\tX\n3\tY\n0\tz"
    assert insert_target(b"INSERT INTO FUNCTION file('x') SELECT * FROM ") is None


def test_headers_that_a_client_wants(server: Server) -> None:
    by_url = server.post("SELECT 1", http_response_headers="{'X-Mine':'a', 'Content-Type':'text/x'}")
    assert (by_url.headers["x-mine"], by_url.headers.get_list("content-type")) == ("a", ["text/x"])
    query = "SELECT 1 SETTINGS http_response_headers = {'X-Mine':'b\\r\\nX-Evil: 1'}, max_threads = 1"
    in_query = server.post(query)
    assert "x-evil" not in in_query.headers
    assert in_query.headers["x-mine"].startswith("b")
    assert server.post("SELECT 1", http_response_headers="{'X Mine':'a'}").status_code == 400


@pytest.mark.parametrize("query", ["SELECT 1", "SELECT nope"])
def test_web_pages_read_answers_where_they_are_let(server: Server, query: str) -> None:
    origin = {"Origin": "https://page.example"}
    for parameters, expected in (({"add_http_cors_header": "1"}, "*"), ({}, None)):
        response = server.http.post("/", params=parameters, content=query, headers=origin)
        assert response.headers.get("access-control-allow-origin") == expected


def test_readonly_is_for_settings_too(server: Server) -> None:
    setting = "SELECT 1 SETTINGS max_threads = 1"
    for parameters in ({}, {"session_id": "of-readers"}):
        refused = server.post(setting, readonly=1, **parameters)
        assert refused.headers["x-clickhouse-exception-code"] == "164"
        assert server.ask(setting, readonly=2, **parameters) == "1"
        assert server.post("SET max_threads = 1", readonly=1, **parameters).status_code == 500
    assert server.get("SELECT 1", readonly=1).headers["x-clickhouse-exception-code"] == "164"
