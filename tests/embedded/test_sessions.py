"""Sessions: state that lives from request to request, and no longer than it should."""

import uuid

import httpx
import pytest

from .conftest import PASSWORD, PATIENCE, USER, Server


@pytest.fixture
def session() -> str:
    return uuid.uuid4().hex


def test_temporary_tables_and_settings_live_in_a_session(server: Server, session: str) -> None:
    server.ask("CREATE TEMPORARY TABLE t (a Int32)", session_id=session)
    server.ask("INSERT INTO t VALUES (1), (2)", session_id=session)
    server.ask("SET max_block_size = 77", session_id=session)
    assert server.ask("SELECT sum(a), getSetting('max_block_size') FROM t", session_id=session) == "3\t77"
    assert server.post("SELECT * FROM t").status_code == 404
    assert server.post("SELECT * FROM t", session_id=session + "x").status_code == 404


def test_a_session_belongs_to_its_user(server: Server, session: str) -> None:
    server.ask("CREATE TEMPORARY TABLE t (a Int32)", session_id=session)
    other = httpx.post(
        server.url, timeout=PATIENCE, params={"session_id": session}, content="SELECT * FROM t", auth=("default", "")
    )
    assert other.status_code == 404


def test_settings_of_one_request_do_not_stay(server: Server, session: str) -> None:
    ask = "SELECT getSetting('max_block_size'), getSetting('max_threads')"
    default = server.ask(ask, session_id=session)
    assert server.ask(ask, session_id=session, max_block_size=11, max_threads=1) == "11\t1"
    assert server.ask(ask, session_id=session, max_block_size=11) == "11\t" + default.split("\t")[1]
    assert server.ask(ask, session_id=session) == default
    server.ask("SET max_block_size = 22", session_id=session, max_block_size=33)
    assert server.ask(ask, session_id=session, max_block_size=44).startswith("44\t")
    assert server.ask(ask, session_id=session).startswith("22\t")


def test_a_failed_setting_does_not_stay(server: Server, session: str) -> None:
    for _ in range(2):
        failed = server.post("SELECT 1", session_id=session, max_block_size=11, max_threads="x")
        assert failed.status_code == 400
        failed = server.post("SELECT 1", session_id=session, no_such=1)
        assert failed.status_code == 404
    assert server.ask("SELECT getSetting('max_block_size')", session_id=session) != "11"


def test_the_database_of_a_session(server: Server, database: str, session: str) -> None:
    ask = "SELECT currentDatabase()"
    assert server.ask(ask, session_id=session) == "default"
    assert server.ask(ask, session_id=session, database=database) == database
    assert server.ask(ask, session_id=session) == "default"
    server.ask(f"USE {database}", session_id=session)
    assert server.ask(ask, session_id=session) == database
    assert server.ask(ask, session_id=session, database="system") == "system"
    assert server.ask(ask, session_id=session) == database


def test_readonly_requests_leave_the_session_writable(server: Server, database: str, session: str) -> None:
    create = f"CREATE TABLE {database}.t (a Int32) ENGINE = Memory"
    assert server.get(create, session_id=session).headers["x-clickhouse-exception-code"] == "164"
    assert server.get("SET max_block_size = 5", session_id=session).status_code == 200
    server.ask(create, session_id=session)
    assert server.get(f"INSERT INTO {database}.t VALUES (1)", session_id=session).status_code == 500
    assert server.ask("SELECT getSetting('max_block_size')", session_id=session) == "5"


def test_a_session_can_be_closed_and_asked_for(server: Server, session: str) -> None:
    missing = server.post("SELECT 1", session_id=session, session_check=1)
    assert missing.headers["x-clickhouse-exception-code"] == "372"
    server.ask("CREATE TEMPORARY TABLE t (a Int32)", session_id=session)
    assert server.ask("SELECT count() FROM t", session_id=session, session_check=1, close_session=1) == "0"
    assert server.post("SELECT 1", session_id=session, session_check=1).status_code == 500


def test_a_session_ends_after_its_timeout(server: Server, session: str) -> None:
    server.ask("CREATE TEMPORARY TABLE t (a Int32)", session_id=session, session_timeout=0)
    assert server.post("SELECT * FROM t", session_id=session).status_code == 404


@pytest.mark.parametrize("timeout", ["x", "-1", "3601", "9" * 40])
def test_bad_timeouts(server: Server, session: str, timeout: str) -> None:
    response = server.post("SELECT 1", session_id=session, session_timeout=timeout)
    assert response.headers["x-clickhouse-exception-code"] == "374"


def test_a_session_is_for_one_request_at_a_time(server: Server, session: str) -> None:
    long = "SELECT number FROM system.numbers"
    with server.http.stream("POST", "/", params={"session_id": session}, content=long) as response:
        next(response.iter_bytes())
        busy = server.post("SELECT 1", session_id=session)
        assert busy.headers["x-clickhouse-exception-code"] == "373"
        assert server.ask("SELECT 1", session_id=session + "x") == "1"


def test_a_client_may_use_its_session_again_as_soon_as_it_has_its_answer(server: Server, session: str) -> None:
    with httpx.Client(
        base_url=server.url, auth=(USER, PASSWORD), params={"session_id": session}, timeout=PATIENCE
    ) as client:
        for number in range(100):
            assert client.post("/", content=f"SELECT {number}").text == f"{number}\n"
            assert client.post("/", content="SELECT throwIf(1)").status_code == 500
        for _ in range(5):
            rows = client.post("/", content="SELECT number FROM numbers(400000)").text
            assert rows.count("\n") == 400_000


def test_external_tables_leave_the_session(server: Server, session: str) -> None:
    parameters = {"session_id": session, "query": "SELECT count() FROM t", "t_structure": "a Int32"}
    for _ in range(2):
        assert server.http.post("/", params=parameters, files={"t": ("t", "1\n2\n")}).text == "2\n"
    assert server.post("SELECT * FROM t", session_id=session).status_code == 404


def test_requests_without_a_session_share_nothing(server: Server, database: str) -> None:
    """Their connections are used again, so each must find nothing of the one before."""
    ask = "SELECT currentDatabase(), getSetting('max_block_size'), getSetting('readonly'), getSetting('max_threads')"
    default = server.ask(ask)
    for _ in range(3):
        assert server.ask(ask, database=database, max_block_size=7).startswith(f"{database}\t7\t0")
        assert server.ask(ask) == default
        assert server.get(ask).text.split("\t")[2] == "2"
        assert server.ask("SELECT {x:Int32}", param_x=1) == "1"
        assert server.post("SELECT {x:Int32}").headers["x-clickhouse-exception-code"] == "456"
        server.ask("SET max_threads = 1")
        server.ask(f"USE {database}")
        server.ask("CREATE TEMPORARY TABLE t (a Int32)")
        assert server.post("SELECT * FROM t").status_code == 404
        broken = "SELECT number, throwIf(number = 900000) FROM numbers(1000000) FORMAT JSON"
        assert server.post(broken, wait_end_of_query=1).status_code == 500
        assert server.ask("SELECT 1", readonly=1) == "1"
        files, parameters = {"t": ("t", "1\n")}, {"query": "SELECT * FROM t", "t_structure": "a Int32"}
        assert server.http.post("/", params=parameters, files=files).text == "1\n"
        assert server.post("SELECT * FROM t").status_code == 404
        assert server.ask(ask) == default


def test_a_database_that_was_dropped_is_gone(server: Server) -> None:
    server.ask("CREATE DATABASE short_lived")
    assert server.ask("SELECT 1", database="short_lived") == "1"
    server.ask("DROP DATABASE short_lived")
    assert server.post("SELECT 1", database="short_lived").headers["x-clickhouse-exception-code"] == "81"
