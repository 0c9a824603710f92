"""Who may log in, how, and from where."""

import httpx
import pytest

from triton_env.servers.clickhouse.auth import Authenticator, Credentials
from triton_env.servers.clickhouse.config import ConfigError, User, load_users
from triton_env.servers.clickhouse.errors import ServerError

from .conftest import PASSWORD, PATIENCE, USER, Server

KEY = {"X-ClickHouse-User": USER, "X-ClickHouse-Key": PASSWORD}


def test_the_three_ways_to_log_in(server: Server) -> None:
    by_basic = httpx.post(server.url, timeout=PATIENCE, content="SELECT 1", auth=(USER, PASSWORD))
    by_header = httpx.post(server.url, timeout=PATIENCE, content="SELECT 1", headers=KEY)
    by_parameter = httpx.post(
        server.url, timeout=PATIENCE, content="SELECT 1", params={"user": USER, "password": PASSWORD}
    )
    assert by_basic.text == by_header.text == by_parameter.text == "1\n"
    # `default`, without a password, from this host
    assert httpx.post(server.url, timeout=PATIENCE, content="SELECT 1").text == "1\n"


@pytest.mark.parametrize(
    "attempt",
    [
        {"auth": (USER, "wrong")},
        {"auth": ("stranger", PASSWORD)},
        {"auth": ("elsewhere", PASSWORD)},
        {"auth": (USER, "")},
        {"headers": {"X-ClickHouse-User": USER}},
        {"headers": {"X-ClickHouse-Key": PASSWORD}},
        {"params": {"user": USER, "password": "wrong"}},
        {"params": {"user": "nöbody", "password": "wröng"}},
        {"headers": {"Authorization": "Basic !!!"}},
        {"headers": {"Authorization": "Bearer x"}},
        {"headers": KEY, "auth": (USER, PASSWORD)},
        {"headers": KEY, "params": {"user": USER}},
    ],
)
def test_refusals_are_those_of_clickhouse(server: Server, attempt: dict[str, object]) -> None:
    response = httpx.post(server.url, timeout=PATIENCE, content="SELECT 'secret'", **attempt)  # type: ignore[arg-type]
    assert response.status_code == 403
    assert response.headers["x-clickhouse-exception-code"] == "516"
    assert "AUTHENTICATION_FAILED" in response.text
    assert PASSWORD not in response.text


def test_a_name_is_not_distinguished_from_a_password(server: Server) -> None:
    texts = {httpx.get(server.url, timeout=PATIENCE, params={"query": "SELECT 1"}, auth=pair).text.replace(pair[0], "?")
             for pair in ((USER, "x"), ("stranger", "x"), ("elsewhere", PASSWORD))}  # fmt: skip
    assert len(texts) == 1


def test_networks() -> None:
    users = (User("a", "", (__import__("ipaddress").ip_network("10.0.0.0/8"),)), User("b", ""))
    authenticator = Authenticator(users)
    authenticator.check(Credentials("a", ""), "10.1.2.3")
    authenticator.check(Credentials("a", ""), "::ffff:10.1.2.3")
    authenticator.check(Credentials("b", ""), "2001:db8::1")
    for address in ("11.0.0.1", "::1", None, "nonsense"):
        with pytest.raises(ServerError) as refusal:
            authenticator.check(Credentials("a", ""), address)
        assert refusal.value.code == 516


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[1]", '[{"name": ""}]', '[{"name": "a", "password": 1}]', '[{"name": "a", "networks": ["x"]}]',
     '[{"name": "a", "networks": 1}]', '[{"name": "a", "passwort": "x"}]', '[{"name": "a"}, {"name": "a"}]'],
)  # fmt: skip
def test_bad_users_files_are_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("users") / "users.json"
    path.write_text(text)
    with pytest.raises(ConfigError):
        load_users(path)


def test_passwords_are_not_shown() -> None:
    assert "hush" not in repr(User("a", "hush")) + repr(Credentials("a", "hush"))
