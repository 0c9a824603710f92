"""Questions to servers without a client library: they are what that library would send."""

import socket
import struct
import threading
from collections.abc import Iterator
from datetime import UTC, datetime

import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import example, given
from hypothesis import strategies as st

from triton_env.core.model import Endpoint, Placement
from triton_env.core.setting_types import SecretStr
from triton_env.services import Postgres
from triton_env.services.postgres import protocol as postgres_protocol
from triton_env.services.postgres.protocol import Answer, Login, TooManyRoundsError, answer
from triton_env.services.redis.protocol import NotAnsweredError, answers
from triton_env.services.s3.signing import signed, target
from triton_env.settings import Settings

MOMENT = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)
text = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=20)


@pytest.fixture(scope="module", autouse=True)
def at_that_moment() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.auth, "get_current_datetime", lambda: MOMENT)
        patch.setattr("triton_env.services.s3.signing.time.gmtime", lambda: MOMENT.timetuple())
        yield


@given(
    bucket=st.from_regex(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", fullmatch=True),
    query=st.dictionaries(st.sampled_from(["prefix", "delimiter", "list-type", "max-keys", "versions"]), text),
    secret=text.filter(bool),
)
@example(bucket="triton-documents", query={"prefix": "a b/ü+%~", "delimiter": "/", "versions": ""}, secret="s")
def test_a_signature_is_that_of_botocore(bucket: str, query: dict[str, str], secret: str) -> None:
    asked = target(f"/{bucket}", query)
    request = AWSRequest("GET", f"http://127.0.0.1:4566{asked}")
    botocore.auth.S3SigV4Auth(Credentials("TEST", secret), "s3", "eu-west-1").add_auth(request)
    ours = signed("GET", "127.0.0.1:4566", asked, ("TEST", secret), "eu-west-1")
    assert ours["Authorization"] == request.headers["Authorization"]


def served(content: bytes) -> tuple[str, int]:
    """The address of a server that says this to the first client."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listener, listener.accept()[0] as connection:
            connection.recv(65536)
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
            # Closed with something unread, the connection would lose what was sent.
            while connection.recv(65536):
                pass

    threading.Thread(target=serve, daemon=True).start()
    return "127.0.0.1", listener.getsockname()[1]


def test_redis_answers_of_each_kind() -> None:
    content = "+PONG\r\n$6\r\nq\r\nüx\r\n*2\r\n$4\r\nsave\r\n$0\r\n\r\n:5\r\n".encode()
    assert answers(served(content), [["PING"]] * 4, 5) == ["PONG", "q\r\nüx", ["save", ""], "5"]


@pytest.mark.parametrize(
    "content",
    [
        *(b"-NOAUTH Authentication required.\r\n", b"-LOADING\r\n", b"$-1\r\n", b"", b"$9\r\nshort"),
        *(b"$99999999999999999999\r\n", b"*99999999999999999999\r\n"),
    ],
)
def test_what_is_not_an_answer_of_redis(content: bytes) -> None:
    with pytest.raises(NotAnsweredError):
        answers(served(content), [["PING"]], 5)


def message(kind: bytes, body: bytes) -> bytes:
    """A message of PostgreSQL's protocol."""
    return kind + struct.pack("!i", len(body) + 4) + body


def login_step(kind: int, content: bytes = b"") -> bytes:
    return message(b"R", struct.pack("!i", kind) + content)


READY = message(b"Z", b"I")
ASKED_TO_LOG_IN = login_step(10, b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0")
CHALLENGE = login_step(11, b"r=ours-and-theirs,s=c2FsdA==,i=4096")
DENIED = message(b"E", "Mthe database system is starting up (ü)\0\0".encode())


def asked_postgres(content: bytes) -> Answer:
    return answer(Login(served(content), "user", "pass", "db"), "select word", 5)


def test_postgres_answers_with_parameters_and_rows() -> None:
    rows = b"".join(message(b"D", struct.pack("!hi", 1, len(word)) + word) for word in (b"", "ü".encode()))
    content = login_step(0) + message(b"S", b"server_version\x0015.14\0") + message(b"N", b"Mhello\0\0") + READY
    content += message(b"T", b"") + rows + message(b"C", b"SELECT 2\0") + READY
    assert asked_postgres(content) == Answer({"server_version": "15.14"}, ("", "ü"))


@pytest.mark.parametrize(
    "content",
    [
        DENIED,
        login_step(0) + READY + DENIED,
        login_step(0) + READY,
        login_step(3),
        login_step(5, b"salt"),
        login_step(10, b"OTHER\0\0"),
        ASKED_TO_LOG_IN + login_step(11, b"r=other,s=c2FsdA==,i=4096"),
        ASKED_TO_LOG_IN + login_step(11, b"what"),
        ASKED_TO_LOG_IN + CHALLENGE + login_step(0) + READY + READY,
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"R\0\0",
        b"R\xff\xff\xff\xff" + b"x" * 16,
    ],
)
def test_what_is_not_an_answer_of_postgres(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_protocol, "token_urlsafe", lambda _: "ours")
    with pytest.raises(ConnectionError):
        asked_postgres(content)


def test_a_server_that_does_not_know_the_password_has_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_protocol, "token_urlsafe", lambda _: "ours")
    content = ASKED_TO_LOG_IN + CHALLENGE + login_step(12, b"v=bm90IGl0cyBwcm9vZg==") + login_step(0) + READY + READY
    with pytest.raises(ConnectionError, match="does not know the password"):
        asked_postgres(content)


@pytest.mark.parametrize("rounds", [2_000_001, 2**31 - 1, 10**30])
def test_a_server_cannot_make_a_login_take_minutes(rounds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_protocol, "token_urlsafe", lambda _: "ours")
    endless = login_step(11, b"r=ours-and-theirs,s=c2FsdA==,i=%d" % rounds)
    settings = Settings.model_construct(postgres_user="user", postgres_password=SecretStr("pass"), postgres_db="db")
    service = Postgres(settings, Placement({"postgres": Endpoint(*served(ASKED_TO_LOG_IN + endless))}))
    # Nor is psycopg asked instead, which would do all of it.
    with pytest.raises(TooManyRoundsError, match=f"hash the password {rounds} times") as caught:
        service.check_ready()
    assert service.refuses(caught.value)
