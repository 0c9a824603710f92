"""The HTTP interface: paths, where a query may be, parameters, headers, status codes."""

import http.client
import json
import subprocess
import uuid
from contextlib import closing

import httpx
import psutil
import pytest

from .conftest import PASSWORD, PATIENCE, USER, Server


@pytest.mark.parametrize("path", ["/ping", "/replicas_status", "/"])
def test_health_checks_need_no_login(server: Server, path: str) -> None:
    response = httpx.get(server.url + path, timeout=PATIENCE)
    assert (response.status_code, response.text) == (200, "Ok.\n")
    head = httpx.head(server.url + path, timeout=PATIENCE)
    assert (head.status_code, head.content) == (200, b"")


def test_unknown_path(server: Server) -> None:
    response = httpx.get(server.url + "/nowhere?query=SELECT+1", timeout=PATIENCE)
    assert response.status_code == 404
    assert "There is no handle /nowhere" in response.text
    assert httpx.delete(server.url + "/", timeout=PATIENCE).status_code == 404
    assert httpx.options(server.url + "/", timeout=PATIENCE).status_code == 204


def test_query_in_url_in_body_and_split(server: Server) -> None:
    assert server.get("SELECT 1").text == "1\n"
    assert server.post("SELECT 2").text == "2\n"
    assert server.http.post("/", params={"query": "SELECT 3"}).text == "3\n"
    assert server.http.post("/", params={"query": "SELECT"}, content="4 AS x").text == "4\n"
    assert server.http.put("/", content="SELECT 5").text == "5\n"


def test_head_runs_the_query_and_sends_no_body(server: Server) -> None:
    response = server.http.head("/", params={"query": "SELECT 1 FORMAT JSON"})
    assert response.status_code == 200
    assert response.headers["x-clickhouse-format"] == "JSON"
    assert response.content == b""


def test_response_headers(server: Server) -> None:
    response = server.post("SELECT number FROM numbers(10)", query_id="my-query")
    headers = response.headers
    assert headers["x-clickhouse-query-id"] == "my-query"
    assert headers["x-clickhouse-format"] == "TabSeparated"
    assert headers["content-type"] == "text/tab-separated-values; charset=UTF-8"
    assert headers["x-clickhouse-timezone"] == server.ask("SELECT timezone()")
    assert headers["x-clickhouse-server-display-name"] == server.ask("SELECT hostName()")
    summary = json.loads(headers["x-clickhouse-summary"])
    assert (summary["read_rows"], summary["result_rows"], summary["written_rows"]) == ("10", "10", "0")
    assert int(summary["elapsed_ns"]) > 0


def test_query_ids_are_made_up_when_none_is_given(server: Server) -> None:
    ids = {server.post("SELECT 1").headers["x-clickhouse-query-id"] for _ in range(3)}
    assert len(ids) == 3


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("SELEC 1 FROM", 400, 62),
        ("", 400, 62),
        ("SELECT 1; SELECT 2", 400, 62),
        ("SELECT nope", 404, 47),
        ("SELECT * FROM nope", 404, 60),
        ("SELECT * FROM nope.nope", 404, 81),
        ("SELECT nope(1)", 404, 46),
        ("SELECT 1 FORMAT Nope", 404, 73),
        ("SELECT 1 SETTINGS nope = 1", 404, 115),
        ("SELECT throwIf(1, 'told')", 500, 395),
        ("SELECT toInt32('x')", 400, 6),
        ("SELECT CAST('x' AS Nope)", 404, 50),
        ("DROP USER missing", 403, 192),
        ("SELECT 1 INTO OUTFILE 'x'", 500, 358),
        ("SELECT sleepEachRow(1) FROM numbers(3) SETTINGS max_execution_time = 0.1, max_block_size = 1", 408, 159),
        ("INSERT INTO nope VALUES (1)", 404, 60),
        ("INSERT INTO nope FORMAT Nope\n1", 404, 60),
    ],
)
def test_errors_have_the_status_of_a_real_server(server: Server, query: str, status: int, code: int) -> None:
    response = server.post(query)
    assert response.status_code == status, response.text
    assert response.headers["x-clickhouse-exception-code"] == str(code)
    assert response.text.startswith(f"Code: {code}. DB::Exception: ")
    assert response.text.rstrip().endswith(f"(version {server.ask('SELECT version()')})")
    assert response.headers["content-type"] == "text/plain; charset=UTF-8"


def test_an_error_about_a_query_that_is_no_text(server: Server) -> None:
    for query in (b"(\x80", b"SELECT \xff FROM", b"SELECT '\xff' FORMAT Nope", b"INSERT INTO `\xff` VALUES (1)"):
        response = server.post(query)
        assert response.status_code in (400, 404), response.text
        assert response.text.startswith("Code: ")
    assert server.post(b"SELECT '\xff'").content == b"\xff\n"


def test_an_error_that_quotes_others_has_its_own_code(server: Server) -> None:
    """Nothing listens at this port: it is one that only root may use, and of no service."""
    for query, code in (
        ("SELECT * FROM remote('127.0.0.1:1', system.one)", "519"),
        ("SELECT * FROM url('http://127.0.0.1:1/', 'TSV', 'a String') SETTINGS http_max_tries = 1", "1000"),
    ):
        response = server.post(query)
        assert response.headers["x-clickhouse-exception-code"] == code, response.text
        assert response.text.startswith(f"Code: {code}. DB::"), response.text


def test_a_long_url(server: Server) -> None:
    for size, status in ((1_000_000, 200), (3_000_000, 400)):
        with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)) as connection:
            connection.request("GET", f"/?query=SELECT%20{{x:String}}%20FORMAT%20TSV&param_x={'y' * size}")
            response = connection.getresponse()
            assert response.status == status
            assert status != 200 or response.read() == b"y" * size + b"\n"


def test_the_text_of_an_error_says_its_name_once(server: Server) -> None:
    text = server.post("SELECT 1 FORMAT Nope").text
    assert text.count("Code:") == text.count("UNKNOWN_FORMAT") == text.count("version") == 1


def test_settings_are_parameters(server: Server) -> None:
    assert server.ask("SELECT getSetting('max_block_size')", max_block_size=1234) == "1234"
    assert server.ask("SELECT getSetting('max_block_size')") != "1234"
    assert server.post("SELECT 1", max_block_size="many").status_code == 400
    unknown = server.post("SELECT 1", no_such_setting=1)
    assert (unknown.status_code, unknown.headers["x-clickhouse-exception-code"]) == (404, "115")


@pytest.mark.parametrize("name", ["a b", "x=1; DROP DATABASE triton", "max_threads = 1, max_block_size", "ä", "'"])
def test_a_setting_with_a_strange_name_is_an_unknown_setting(server: Server, name: str) -> None:
    response = server.post("SELECT 1", **{name: "1"})
    assert (response.status_code, response.headers["x-clickhouse-exception-code"]) == (404, "115")


def test_nothing_is_done_for_a_request_that_is_not_understood(server: Server, database: str) -> None:
    server.ask(f"CREATE TABLE {database}.t (a Int32) ENGINE = Memory")
    for name in ("compress", "http_zlib_compression_level", "wait_end_of_query", "max_threads", "no_such_setting"):
        assert server.post(f"INSERT INTO {database}.t VALUES (1)", **{name: "?"}).status_code >= 400
    assert server.ask(f"SELECT count() FROM {database}.t") == "0"


def test_query_parameters(server: Server) -> None:
    query = "SELECT {number:Int32} + 1, {text:String}, {list:Array(String)}, {name:Identifier} FROM numbers(1)"
    answer = server.ask(query, param_number=41, param_text="it's", param_list="['a','b']", param_name="number")
    assert answer == "42\tit\\'s\t['a','b']\t0"
    missing = server.post("SELECT {absent:Int32}")
    assert missing.headers["x-clickhouse-exception-code"] == "456"


def test_database(server: Server, database: str) -> None:
    assert server.ask("SELECT currentDatabase()") == "default"
    assert server.ask("EXISTS DATABASE triton") == "1"
    assert server.ask("SELECT currentDatabase()", database=database) == database
    header = {"X-ClickHouse-Database": database}
    assert server.http.post("/", content="SELECT currentDatabase()", headers=header).text == f"{database}\n"
    missing = server.post("SELECT 1", database="no such one")
    assert (missing.status_code, missing.headers["x-clickhouse-exception-code"]) == (404, "81")


def test_format(server: Server) -> None:
    query = "SELECT 1 AS x"
    assert server.post(query, default_format="JSONEachRow").json() == {"x": 1}
    header = {"X-ClickHouse-Format": "CSVWithNames"}
    by_header = server.http.post("/", content=query, headers=header)
    assert by_header.text == '"x"\n1\n'
    assert by_header.headers["x-clickhouse-format"] == "CSVWithNames"
    in_query = server.post(query + " FORMAT JSONCompact", default_format="CSV")
    assert in_query.json()["data"] == [[1]]
    assert in_query.headers["content-type"] == "application/json; charset=UTF-8"


def test_a_statement_without_result(server: Server, database: str) -> None:
    response = server.post(f"CREATE TABLE {database}.t (a Int32) ENGINE = Memory")
    assert (response.status_code, response.content) == (200, b"")
    assert "x-clickhouse-format" not in response.headers


def test_get_is_readonly(server: Server, database: str) -> None:
    refused = server.get(f"CREATE TABLE {database}.t (a Int32) ENGINE = Memory")
    assert refused.headers["x-clickhouse-exception-code"] == "164"
    assert server.get(f"INSERT INTO {database}.t VALUES (1)").headers["x-clickhouse-exception-code"] == "164"
    # Settings may be changed for a GET, but not with readonly=1.
    assert server.get("SELECT getSetting('max_block_size')", max_block_size=99).text == "99\n"
    assert server.post("SELECT 1", readonly=1).text == "1\n"
    for level in (1, 2):
        refused = server.post(f"DROP DATABASE {database}", readonly=level)
        assert refused.headers["x-clickhouse-exception-code"] == "164"
    assert server.ask(f"EXISTS DATABASE {database}") == "1"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_no_statement_writes_a_file(server: Server, database: str, method: str) -> None:
    server.ask(f"CREATE TABLE {database}.outfile (a Int32) ENGINE = Memory")
    name = f"{database}.csv"
    for statement in (
        "SELECT 1", "SHOW DATABASES", "EXPLAIN SELECT 1", "EXPLAIN AST SELECT 1", "DESC system.one", "SHOW GRANTS",
        "EXISTS TABLE system.one", "SHOW CREATE TABLE system.one", f"CHECK TABLE {database}.outfile",
        "KILL QUERY WHERE 0", "SELECT 1 AS \u201c'\u201d", "KILL QUERY WHERE 0 = length(\u2018'\u2019)",
    ):  # fmt: skip
        for clause in (f"INTO OUTFILE '{name}'", f"into/**/outfile '{name}' TRUNCATE FORMAT CSV -- '"):
            refused = server.http.request(method, "/", params={"query": f"{statement} {clause}"})
            assert refused.headers["x-clickhouse-exception-code"] == "358", refused.text
    assert server.ask("SELECT count() FROM file('*.csv', LineAsString) WHERE _file = {n:String}", param_n=name) == "0"
    server.ask("INSERT INTO outfile SELECT 7 WHERE 'INTO OUTFILE' != ''", database=database)
    assert server.ask(f"SELECT a FROM {database}.outfile") == "7"


def test_a_form_is_a_query(server: Server) -> None:
    form = server.http.post(
        "/", data={"query": "SELECT {x:Int32} AS y", "param_x": "5", "default_format": "JSONEachRow"}
    )
    assert form.json() == {"y": 5}


def test_curl_announces_a_form_but_sends_a_query(server: Server) -> None:
    command = ["curl", "-sS", "-u", f"{USER}:{PASSWORD}", server.url, "-d", "SELECT 'a=b' AS x FORMAT CSV"]
    assert subprocess.run(command, capture_output=True, check=True, text=True).stdout == '"a=b"\n'


def test_curl_pipes_data_in(server: Server, database: str) -> None:
    server.ask(f"CREATE TABLE {database}.t (a Int32, s String) ENGINE = Memory")
    target = f"{server.url}/?query=INSERT%20INTO%20{database}.t%20FORMAT%20CSV"
    rows = "".join(f"{number},row {number}\n" for number in range(50_000))
    command = ["curl", "-sS", "-u", f"{USER}:{PASSWORD}", "--data-binary", "@-", target]
    for extra in ([], ["-H", "Transfer-Encoding: chunked"], ["-H", "Expect: 100-continue"]):
        subprocess.run([*command, *extra], input=rows, check=True, text=True)
    assert server.ask(f"SELECT count(), uniq(s) > 49000 FROM {database}.t") == "150000\t1"


def test_external_tables(server: Server) -> None:
    files = {"ids": ("ids.tsv", "1\tone\n3\tthree\n"), "more": ("more.csv", "2\n")}
    parameters = {
        "query": "SELECT name FROM ids WHERE id IN (1, 3) UNION ALL SELECT toString(_1) FROM more",
        "ids_structure": "id UInt32, name String",
        "more_types": "Nullable(Decimal(9, 2))",
        "more_format": "CSV",
    }
    response = server.http.post("/", params=parameters, files=files)
    assert sorted(response.text.split()) == ["2", "one", "three"]
    assert server.post("SELECT * FROM ids").status_code == 404


def test_external_tables_described_in_the_form(server: Server) -> None:
    fields = {"query": "SELECT sum(_1) + {add:Int32} FROM t", "t_types": "UInt32", "param_add": "100"}
    rows = "".join(f"{number}\n" for number in range(200_000))
    response = server.http.post("/", data=fields, files={"t": ("t", rows)})
    assert response.text == f"{sum(range(200_000)) + 100}\n"


@pytest.mark.parametrize(
    ("parameters", "files", "code"),
    [
        ({}, {"t": ("t", "1\n")}, 36),
        ({"t_structure": "a Int32"}, {"t": ("t", "x\n")}, 27),
        ({"t_structure": "a Nope"}, {"t": ("t", "1\n")}, 50),
        ({"t_structure": "a Int32", "t_format": "No pe"}, {"t": ("t", "1\n")}, 36),
    ],
)
def test_bad_external_tables(
    server: Server, parameters: dict[str, str], files: dict[str, tuple[str, str]], code: int
) -> None:
    response = server.http.post("/", params={"query": "SELECT count() FROM t", **parameters}, files=files)
    assert response.headers["x-clickhouse-exception-code"] == str(code), response.text


def test_exceptions_in_the_output_format(server: Server) -> None:
    query = "SELECT throwIf(number = 3, 'told') FROM numbers(10)"
    for output_format in ("JSON", "JSONCompact", "JSONEachRow"):
        response = server.post(query, default_format=output_format, http_write_exception_in_output_format=1)
        assert response.status_code == 500
        assert response.json()["exception"].startswith("Code: 395. DB::Exception: told")
        assert response.headers["content-type"].startswith(("application/json", "application/x-ndjson"))
    xml = server.post(query, default_format="XML", http_write_exception_in_output_format=1)
    assert "<exception>Code: 395." in xml.text
    assert server.post(query, default_format="JSON").text.startswith("Code: 395")
    plain = server.post("SELEC 1 FROM", default_format="JSON", http_write_exception_in_output_format=1)
    assert plain.text.startswith("Code: 62")


def test_progress_headers(server: Server) -> None:
    # It takes so long that the engine reports something, even where its reports are late.
    query = "SELECT sum(sleepEachRow(0.05)) FROM numbers(60) SETTINGS max_block_size = 1"
    response = server.post(query, send_progress_in_http_headers=1, http_headers_progress_interval_ms=50)
    reports = [json.loads(value) for value in response.headers.get_list("x-clickhouse-progress", split_commas=False)]
    assert reports
    rows = [int(report["read_rows"]) for report in reports]
    assert rows == sorted(rows)
    assert "x-clickhouse-progress" not in server.post("SELECT 1").headers


def test_header_values_cannot_be_smuggled_in(server: Server) -> None:
    response = server.post("SELECT 1", query_id="a\r\nX-Evil: 1\r\n\r\nbody")
    assert response.text == "1\n"
    assert "x-evil" not in response.headers


def test_the_memory_of_the_server_is_out_of_reach(server: Server, database: str) -> None:
    for query in (
        "SELECT * FROM Python(headers)",
        "SELECT * FROM `python` (request)",
        "SELECT * FROM\nPYTHON/**/('x')",
        r"SELECT * FROM `pyth\x6fn`(headers)",
        r'SELECT * FROM "\x50ython" (headers)',
        "SELECT * FROM \u201cPython\u201d('x')",
    ):
        assert server.post(query).headers["x-clickhouse-exception-code"] == "497"
    assert server.ask("SELECT 'Python (3)' AS python") == "Python (3)"


def test_two_requests_cannot_have_the_same_query_id(server: Server) -> None:
    with server.http.stream("POST", "/", params={"query_id": "twin"}, content="SELECT * FROM system.numbers") as first:
        next(first.iter_bytes())
        second = server.post("SELECT 1", query_id="twin")
        assert second.headers["x-clickhouse-exception-code"] == "216"


def logged(server: Server, since: str, what: str) -> list[str]:
    server.ask("SYSTEM FLUSH LOGS")
    query = (
        f"SELECT {what} FROM system.query_log WHERE event_time_microseconds > '{since}' AND type != 'QueryStart'"
        " AND log_comment = 'ours' ORDER BY event_time_microseconds"
    )
    return server.ask(query, default_format="TSVRaw").splitlines()


def test_the_log_of_queries_is_as_its_clients_know_them(server: Server, database: str) -> None:
    began = server.ask("SELECT now64(6)")
    options = {"log_comment": "ours", "database": database}
    server.post("SELECT 'one'", query_id="the-first", **options)
    server.post("SELECT 'two' FORMAT JSON", **options)
    server.post("SELECT 'three' -- end", default_format="JSON", max_block_size=7, **options)
    server.post("SELECT nope", session_id="of-the-log", query_id="the-last", **options)
    rows = [row.split("\t") for row in logged(server, began, "query_id, query, type, current_database, user")]
    assert [row[1] for row in rows] == ["SELECT 'one'", "SELECT 'two' FORMAT JSON", "SELECT 'three'", "SELECT nope"]
    assert {(row[3], row[4]) for row in rows} == {(database, USER)}
    assert (rows[0][0], rows[3][0], rows[3][2]) == ("the-first", "the-last", "ExceptionBeforeStart")
    assert logged(server, began, "Settings['max_block_size'], Settings['log_comment']")[2] == "7\tours"


def test_a_comment_is_among_the_settings_of_a_query_that_has_one(server: Server) -> None:
    shown = "SELECT mapContains(Settings, 'log_comment'), Settings['log_comment'] FROM system.processes"
    assert server.ask(shown).splitlines() == ["0\t"]
    assert server.ask(shown, log_comment="ours").splitlines() == ["1\tours"]


def test_the_log_says_which_client_asked(server: Server) -> None:
    began = server.ask("SELECT now64(6)")
    answer = server.http.post("/", params={"log_comment": "ours"}, content="SELECT 1", headers={"user-agent": "me/1"})
    made = answer.headers["x-clickhouse-query-id"]
    asked = "query_id, interface, http_method, http_user_agent, client_name"
    assert logged(server, began, asked) == [f"{made}\t2\t2\tme/1\t"]
    server.ask("SELECT queryID()", log_comment="ours")
    assert len(logged(server, began, "query_id")) == 2


def test_a_query_finds_itself_by_its_id(server: Server) -> None:
    query = "SELECT query_id, user, query FROM system.processes WHERE query_id = queryID()"
    for given in ("itself", str(uuid.uuid4())):
        answer = server.post(f"{query} FORMAT TSVRaw", query_id=given).text
        assert answer.startswith(f"{given}\t{USER}\tSELECT query_id, user, query FROM system.processes WHERE")


def test_a_comment_may_come_with_the_query(server: Server, database: str) -> None:
    began = server.ask("SELECT now64(6)")
    options = {"session_id": "comments", "database": database}
    server.ask("CREATE TABLE t (a Int32, log_comment String) ENGINE = Memory", **options)
    text = r"SELECT 'log_comment', log_comment = 'x' FROM t SETTINGS max_threads = 1, log_comment = 'it\'s one'"
    assert server.ask(text, query_id="clause", **options) == ""
    server.ask("INSERT INTO t SETTINGS log_comment = 'two' VALUES (1, 'x')", **options)
    server.ask("SET log_comment = 'three', max_threads = 2", **options)
    server.ask("SELECT 3", query_id="three", **options)
    server.ask("SELECT 3 SETTINGS log_comment = {name:String}", param_name="it's a parameter", **options)
    server.ask("SELECT 3 SETTINGS log_comment = $$here$$", **options)
    server.ask("SELECT 4", log_comment="four", **options)
    server.ask("SELECT 5", **options)
    server.ask("SET log_comment = DEFAULT", **options)
    server.ask("SELECT 6", **options)
    assert server.post("SELECT 7 SETTINGS log_comment = 7", **options).status_code != 200
    server.ask("SYSTEM FLUSH LOGS")
    query = (
        f"SELECT log_comment, query FROM system.query_log WHERE event_time_microseconds > '{began}'"
        f" AND type = 'QueryFinish' AND current_database = '{database}' AND query_kind IN ('Select', 'Insert')"
        " ORDER BY event_time_microseconds"
    )
    rows = [row.split("\t") for row in server.ask(query, default_format="TSVRaw").splitlines()]
    assert [row[0] for row in rows] == ["it's one", "two", "three", "it's a parameter", "$$here$$", "four", "three", ""]
    assert rows[0][1] == text


def test_the_cluster_of_the_image(server: Server, database: str) -> None:
    server.ask(f"CREATE TABLE {database}.t (a UInt8) ENGINE = MergeTree ORDER BY a")
    server.ask(f"CREATE TABLE {database}.d AS {database}.t ENGINE = Distributed('{{cluster}}', {database}, t, rand())")
    server.ask(f"INSERT INTO {database}.d VALUES (1), (2)", distributed_foreground_insert=1)
    assert server.ask(f"SELECT count() FROM {database}.t") == "2"
    assert server.ask(f"SELECT sum(a) FROM cluster('default', {database}, t)") == "3"
    assert server.ask("SELECT getMacro('cluster'), getMacro('shard'), getMacro('replica')") == "default\t01\t01"


def test_backups_go_to_a_folder_of_the_server(server: Server, database: str) -> None:
    server.ask(f"CREATE TABLE {database}.t (a UInt8) ENGINE = MergeTree ORDER BY a")
    server.ask(f"INSERT INTO {database}.t VALUES (7)")
    assert "BACKUP_CREATED" in server.ask(f"BACKUP TABLE {database}.t TO File('{database}')")
    server.ask(f"DROP TABLE {database}.t SYNC")
    assert "RESTORED" in server.ask(f"RESTORE TABLE {database}.t FROM File('{database}')")
    assert server.ask(f"SELECT a FROM {database}.t") == "7"
    assert server.post(f"BACKUP TABLE {database}.t TO File('/tmp/{database}')").status_code == 400


def test_memory_has_a_limit(server: Server) -> None:
    refused = server.post("SELECT groupArray(number) FROM numbers(100000000)", max_memory_usage=10_000_000)
    assert refused.headers["x-clickhouse-exception-code"] == "241"
    limit = server.ask("SELECT value FROM system.server_settings WHERE name = 'max_server_memory_usage'")
    assert 0 < int(limit) <= psutil.virtual_memory().total * 0.51
