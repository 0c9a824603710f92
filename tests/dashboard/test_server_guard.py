"""Who may use the dashboard: this machine's browser, on this very server, with its token."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from dashboard.served import without_engine
from patience import WAIT
from triton_env import Settings
from triton_env.dashboard.application import Dashboard
from triton_env.dashboard.guard import HEADERS, OURS, Guard, Key
from triton_env.dashboard.serving import Serving

KEY = Key(8123)
POST = "/api/environments/nothing/actions/stop"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    settings = Settings(triton_state_dir=str(tmp_path_factory.mktemp("state")))
    app = Guard(Dashboard(settings, KEY).app, KEY)
    with without_engine(), TestClient(app, f"http://127.0.0.1:{KEY.port}") as client:
        yield client


@pytest.fixture(autouse=True)
def no_cookie_of_another_test(client: TestClient) -> None:
    client.cookies.clear()


def with_token(**headers: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {KEY.token}"} | {name.replace("_", "-"): value for name, value in headers.items()}


def test_without_its_token_nothing_is_shown(client: TestClient) -> None:
    for path in ("/", "/static/index.html", "/api/inspection", "/api/events", "/metrics", "/nothing"):
        for query in ("", "?token=", "?token=wrong", f"?token={KEY.token}x", "?token=%C3%A9"):
            answer = client.get(path + query)
            assert answer.status_code == 403, path + query
            assert "token" in answer.text


def test_the_page_sets_the_cookie_with_which_all_else_is_asked_for(client: TestClient) -> None:
    answer = client.get("/", params={"token": KEY.token})

    assert answer.status_code == 200
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert client.get("/api/inspection").json()["version"] == 2
    client.cookies.clear()
    client.cookies.set(KEY.cookie, "wrong")
    assert client.get("/api/inspection").status_code == 403


@pytest.mark.parametrize("other", ['a={"theme": "dark", "n": [1]}', "no equals sign", "b=\xe9", '=; ;"', "a:b=c"])
def test_cookies_of_other_servers_of_this_machine_lock_no_one_out(client: TestClient, other: str) -> None:
    for cookies in (f"{other}; {KEY.cookie}={KEY.token}", f"{KEY.cookie}={KEY.token}; {other}"):
        assert client.get("/api/services", headers={b"Cookie": cookies.encode("latin-1")}).status_code == 200


@pytest.mark.parametrize("host", ["localhost:8123", "127.0.0.1:8123"])
def test_it_goes_by_two_names(client: TestClient, host: str) -> None:
    assert client.get("/api/inspection", headers=with_token(Host=host)).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "rebound.example:8123",
        "127.0.0.1",
        "127.0.0.1:8124",
        "127.0.0.1:08123",
        "127.0.0.1.:8123",
        "127.0.0.1:8123@rebound.example",
        "localhost.:8123",
        "localhost:8123.rebound.example",
        "127.1:8123",
        "2130706433:8123",
        "0.0.0.0:8123",
        "[::1]:8123",
        "[::ffff:127.0.0.1]:8123",
        "",
    ],
)
def test_a_name_that_was_made_to_lead_here_is_refused(client: TestClient, host: str) -> None:
    answer = client.get("/api/inspection", headers=with_token(Host=host))

    assert answer.status_code == 403
    assert "environments" not in answer.text


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "",
        "https://127.0.0.1:8123",
        "http://127.0.0.1:8124",
        "http://127.0.0.1:8123.evil.example",
        "http://localhost.:8123",
    ],
)
def test_another_site_is_refused_whatever_it_asks_for(client: TestClient, origin: str) -> None:
    for method, path in (("GET", "/api/inspection"), ("GET", "/metrics"), ("POST", POST), ("OPTIONS", POST)):
        answer = client.request(method, path, headers=with_token(Origin=origin, **{OURS: "1"}))
        assert answer.status_code == 403, path
        assert "access-control-allow-origin" not in answer.headers


def test_a_form_of_another_site_changes_nothing(client: TestClient) -> None:
    form = with_token(Content_Type="application/x-www-form-urlencoded")

    assert client.post(POST, headers=form).status_code == 403
    assert client.post(POST, headers=form | {OURS: "1", "Sec-Fetch-Site": "same-site"}).status_code == 403


@pytest.mark.parametrize("path", ["/api/inspection", "/nothing", "/static/index.html", "/"])
@pytest.mark.parametrize("token", [KEY.token, "wrong"], ids=["right", "wrong"])
def test_every_answer_has_the_headers(client: TestClient, path: str, token: str) -> None:
    answer = client.get(path, params={"token": token})

    assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    assert answer.headers["cache-control"] in ("no-store", "no-cache")


def test_a_large_body_is_not_read(client: TestClient) -> None:
    change = with_token(**{OURS: "1"})

    assert client.post(POST, headers=change, content=b"x" * 100_000).status_code == 413
    # Without a length it could be of any.
    assert client.post(POST, headers=change, content=iter([b"x"])).status_code == 411


@pytest.mark.parametrize(
    "path", ["../guard.py", "%2e%2e/guard.py", "..%2fguard.py", "%2Fetc%2Fpasswd", "a/../../guard.py"]
)
def test_no_path_leads_out_of_the_static_files(client: TestClient, path: str) -> None:
    assert client.get(f"/static/{path}", headers=with_token()).status_code == 404


@pytest.mark.parametrize(
    "headers",
    [
        {"Referer": f"http://127.0.0.1:8123/?token={KEY.token}"},
        {"Cookie": f"triton-env-8124={KEY.token}"},
        {"X-Token": KEY.token},
        {"Authorization": f"Basic {KEY.token}"},
    ],
)
def test_a_token_in_another_place_opens_nothing(client: TestClient, headers: dict[str, str]) -> None:
    assert client.get("/api/inspection", headers=headers).status_code == 403


def test_what_looks_like_a_websocket_of_another_site_is_refused(client: TestClient) -> None:
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    for token, status in ((with_token(Origin="http://evil.example"), 403), ({}, 403), (with_token(), 404)):
        assert client.get("/nothing", headers=token | upgrade | {"Sec-WebSocket-Key": "a"}).status_code == status


def test_headers_without_end_are_not_kept(tmp_path: Path) -> None:
    with without_engine(), Serving(Settings(triton_state_dir=str(tmp_path))) as serving:
        with (
            socket.create_connection(("127.0.0.1", serving.key.port), WAIT) as client,
            pytest.raises(OSError, match=r"reset|pipe"),
        ):
            client.sendall(b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000_000)
        assert serving.is_running
