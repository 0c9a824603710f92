"""Large results: streamed, broken in the middle, cancelled, kept back until they are whole."""

import contextlib
import json
import socket
import threading

import httpx
import pytest

from patience import until

from .conftest import PASSWORD, PATIENCE, USER, Server, read_until_cut

BREAKS = "SELECT number, throwIf(number = 3000000, 'told') FROM numbers(10000000)"


def running(server: Server, mark: str) -> int:
    return int(
        server.ask(f"SELECT count() FROM system.processes WHERE query LIKE '%{mark}%' AND query NOT LIKE '%processes%'")
    )


def wait_until_gone(server: Server, mark: str) -> None:
    assert until(lambda: not running(server, mark))


@pytest.mark.parametrize("name", ["TSV", "CSV", "JSONEachRow", "Native", "RowBinary", "JSONCompactEachRow"])
def test_a_streamed_result_is_the_same_as_a_whole_one(server: Server, name: str) -> None:
    query = f"SELECT number, toString(number) AS s FROM numbers(500000) ORDER BY number FORMAT {name}"
    assert server.post(query, max_threads=1).content == server.post(query, max_threads=1, wait_end_of_query=1).content


@pytest.mark.parametrize("name", ["JSONEachRow", "JSONLines", "NDJSON", "JSONStringsEachRow"])
@pytest.mark.parametrize("way", ["request", "clause", "session"])
def test_rows_in_an_array_are_one_document(server: Server, name: str, way: str) -> None:
    options = {"max_block_size": 2, "default_format": name, "session_id": f"array-{name}-{way}"}
    query, setting = "SELECT number FROM numbers(5)", "output_format_json_array_of_rows"
    if way == "request":
        options[setting] = 1
    elif way == "clause":
        query += f" SETTINGS {setting} = 1"
    else:
        server.ask(f"SET {setting} = 1", session_id=options["session_id"])
    answer = server.ask(query, **options)
    assert [int(row["number"]) for row in json.loads(answer)] == [0, 1, 2, 3, 4]
    assert server.ask(query, wait_end_of_query=1, **options) == answer


@pytest.mark.parametrize(
    "name", ["JSON", "CSVWithNames", "Parquet", "Arrow", "Pretty", "Values", "XML", "TabSeparatedWithNames"]
)
def test_other_formats_are_one_document(server: Server, name: str) -> None:
    response = server.post(
        f"SELECT number AS the_number FROM numbers(300000) FORMAT {name}", output_format_pretty_max_rows=300000
    )
    assert response.status_code == 200
    if name == "JSON":
        document = response.json()
        assert (document["rows"], len(document["data"])) == (300_000, 300_000)
    if name.endswith("WithNames"):
        assert response.text.count("the_number") == 1
        assert response.text.count("\n") == 300_001
    if name == "Parquet":
        assert (response.content[:4], response.content[-4:]) == (b"PAR1", b"PAR1")


FORMATS = ["JSON", "JSONCompact", "CSVWithNames", "TSVWithNamesAndTypes", "Parquet", "ArrowStream", "XML", "Values"]


@pytest.mark.parametrize("name", ["TSV", "Native", *FORMATS])
def test_a_result_is_on_its_way_before_the_query_ends(server: Server, name: str) -> None:
    query = f"SELECT number AS endless FROM system.numbers FORMAT {name}"
    parameters = {"output_format_parquet_row_group_size": "100000"}
    for version in ("0", "54460"):
        parameters["client_protocol_version"] = version
        with server.http.stream("POST", "/", params=parameters, content=query) as response:
            assert response.status_code == 200
            pieces = response.iter_raw()  # where it goes, it takes the connection along
            assert next(pieces)
            assert running(server, "endless") == 1
        wait_until_gone(server, "endless")


def test_slow_rows_are_not_kept_back(server: Server) -> None:
    query = "SELECT number, sleepEachRow(0.1) AS slowly FROM system.numbers SETTINGS max_block_size = 1"
    with server.http.stream("POST", "/", content=query, headers={"accept-encoding": "identity"}) as response:
        pieces = response.iter_raw()
        assert next(pieces).startswith(b"0\t0\n")
        assert running(server, "slowly") == 1
    wait_until_gone(server, "slowly")


def test_each_block_is_sent_when_it_comes_and_errors_come_after_it(server: Server) -> None:
    # With time between the blocks: the engine reports an error at once, and gives up a block that was on its way.
    query = "SELECT sleepEachRow(0.3), throwIf(number = 2, 'boom') FROM system.numbers SETTINGS max_block_size = 1"
    headers = {"accept-encoding": "identity"}
    with server.http.stream("POST", "/", content=query, headers=headers) as response:
        assert response.status_code == 200
        assert b"boom" in read_until_cut(response.iter_bytes())
    for name in ("buffer_size", "http_response_buffer_size"):
        assert server.post(query, **{name: 1 << 30}).status_code == 500
    assert server.post("SELECT throwIf(number = 3) FROM numbers(10)").status_code == 500


def test_names_and_types_are_sent_once(server: Server) -> None:
    for condition in ("number >= 0", "number < 0"):
        query = f"SELECT number AS n FROM numbers(3) WHERE {condition} SETTINGS max_block_size = 1"
        answer = server.post(f"{query} FORMAT RowBinaryWithNamesAndTypes").content
        rows = server.post(f"{query} FORMAT RowBinary").content
        assert answer == b"\x01\x01n\x06UInt64" + rows


def test_a_result_has_a_tag_before_there_is_an_error(server: Server) -> None:
    answer = server.post("SELECT concat('__exception__', char(13), char(10), 'x')")
    assert answer.headers["x-clickhouse-exception-tag"].encode() not in answer.content


def test_totals_and_empty_results(server: Server) -> None:
    totals = "SELECT number % 2 AS k, count() FROM numbers(5) GROUP BY k WITH TOTALS ORDER BY k"
    assert server.post(totals).text == "0\t3\n1\t2\n\n0\t5\n"
    assert server.post("SELECT 1 WHERE 0").text == ""
    assert server.post("SELECT 1 WHERE 0").headers["x-clickhouse-format"] == "TabSeparated"
    assert server.post("SELECT 1 AS x WHERE 0 FORMAT JSON").json()["rows"] == 0
    assert server.post("SELECT 1 FORMAT Null").text == ""


def test_an_error_in_the_middle_is_marked_and_the_connection_cut(server: Server) -> None:
    with server.http.stream("POST", "/", content=BREAKS, headers={"accept-encoding": "identity"}) as response:
        assert response.status_code == 200
        tag = response.headers["x-clickhouse-exception-tag"].encode()
        received = read_until_cut(response.iter_bytes())
    assert received.startswith(b"0\t0\n1\t0\n")
    head, _, rest = received.rpartition(b"\r\n__exception__\r\n" + tag + b"\r\n")
    assert head.endswith(b"\n")
    message, _, end = rest.partition(b"\n")
    assert message.startswith(b"Code: 395. DB::Exception: told")
    assert end == b"%d %b\r\n__exception__\r\n" % (len(message) + 1, tag)


def test_an_error_in_the_middle_of_json_lines(server: Server) -> None:
    parameters = {"http_write_exception_in_output_format": "1", "default_format": "JSONEachRow"}
    query = BREAKS.replace("3000000", "500000")
    with server.http.stream("POST", "/", params=parameters, content=query) as response:
        received = read_until_cut(response.iter_bytes())
    assert json.loads(received.splitlines()[-1])["exception"].startswith("Code: 395.")


def test_waiting_for_the_end_turns_it_into_a_plain_error(server: Server) -> None:
    response = server.post(BREAKS, wait_end_of_query=1)
    assert (response.status_code, response.headers["x-clickhouse-exception-code"]) == (500, "395")
    assert response.text.startswith("Code: 395.")


def test_a_larger_buffer_does_the_same(server: Server) -> None:
    response = server.post(BREAKS, buffer_size=1 << 30)
    assert response.status_code == 500


@pytest.mark.parametrize(
    "query",
    [
        "SELECT 'gone-1', count() FROM numbers(1000000000000) WHERE NOT ignore(sipHash64(number))",
        "SELECT 'gone-1', * FROM system.numbers",
        "SELECT 'gone-1', sum(sleepEachRow(0.1)) FROM numbers(10000) SETTINGS max_block_size = 1 FORMAT JSON",
    ],
)
@pytest.mark.parametrize("session", ["", "&session_id=leaving"])
def test_a_client_that_goes_away_cancels_its_query(server: Server, query: str, session: str) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        body = query.encode()
        head = f"POST /?{session} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        assert until(lambda: running(server, "gone-1") > 0)
    wait_until_gone(server, "gone-1")
    if session:
        later: list[httpx.Response] = []

        def has_been_given_back() -> bool:
            parameters = {"session_id": "leaving"}
            later.append(httpx.post(server.url, timeout=PATIENCE, params=parameters, content="SELECT 1"))
            return later[-1].headers.get("x-clickhouse-exception-code") != "373"

        # The server does so a moment after the engine has ended the query.
        assert until(has_been_given_back)
        assert later[-1].text == "1\n"


def test_a_query_can_be_killed_by_the_id_that_its_client_gave_it(server: Server) -> None:
    answers: list[httpx.Response] = []
    query = "SELECT sum(sleepEachRow(0.1)) FROM numbers(10000) SETTINGS max_block_size = 1"
    victim = threading.Thread(target=lambda: answers.append(server.post(query, query_id="victim-1")))
    victim.start()
    assert until(lambda: running(server, "sleepEachRow(0.1)") > 0)
    assert "victim" not in server.ask("KILL QUERY WHERE query_id = 'other' SYNC")
    server.ask("KILL QUERY WHERE query_id = 'victim-1' SYNC")
    victim.join(PATIENCE)
    assert answers[0].headers["x-clickhouse-exception-code"] == "394"


@pytest.mark.parametrize("is_set", [False, True])
def test_a_query_with_a_comment_of_its_own_can_be_killed(server: Server, is_set: bool) -> None:
    answers: list[httpx.Response] = []
    query = "SELECT sum(sleepEachRow(0.1)) FROM numbers(10000) SETTINGS max_block_size = 1"
    options = {"session_id": "commented", "query_id": f"commented-{is_set}"}
    if is_set:
        server.ask("SET log_comment = 'mine'", session_id="commented")
    else:
        query += ", log_comment = 'mine'"
    victim = threading.Thread(target=lambda: answers.append(server.post(query, **options)))
    victim.start()
    assert until(lambda: running(server, "sleepEachRow(0.1)") > 0)
    server.ask(f"KILL QUERY WHERE query_id = 'commented-{is_set}' SYNC")
    victim.join(PATIENCE)
    assert answers[0].headers["x-clickhouse-exception-code"] == "394"


def test_small_queries_run_beside_long_ones(server: Server) -> None:
    with httpx.Client(base_url=server.url, auth=(USER, PASSWORD), timeout=PATIENCE) as client:
        streams = [client.stream("POST", "/", content="SELECT * FROM system.numbers") for _ in range(8)]
        responses = [stream.__enter__() for stream in streams]
        for response in responses:
            next(response.iter_raw())
        assert server.ask("SELECT 'still here'") == "still here"
        for stream in streams:
            stream.__exit__(None, None, None)
    wait_until_gone(server, "system.numbers")


def test_a_query_waits_for_no_others(server: Server) -> None:
    body = b"SELECT 'crowd', sleepEachRow(0.1) FROM numbers(100000) SETTINGS max_block_size = 1 FORMAT JSON"
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    with contextlib.ExitStack() as stack:
        for _ in range(40):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            connection.sendall(head + body)
        assert until(lambda: running(server, "crowd") == 40)
    wait_until_gone(server, "crowd")
