"""Questions to servers without a client library: they are what that library would send."""

import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime

import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import example, given
from hypothesis import strategies as st

from triton_env.services.redis_protocol import NotAnsweredError, answers
from triton_env.services.s3_signing import signed, target

MOMENT = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)
text = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=20)


@pytest.fixture(scope="module", autouse=True)
def at_that_moment() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.auth, "get_current_datetime", lambda: MOMENT)
        patch.setattr("triton_env.services.s3_signing.time.gmtime", lambda: MOMENT.timetuple())
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
    """The address of a server that says this to whoever comes, once."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listener, listener.accept()[0] as connection:
            connection.recv(65536)
            connection.sendall(content)

    threading.Thread(target=serve, daemon=True).start()
    return "127.0.0.1", listener.getsockname()[1]


def test_redis_answers_of_each_kind() -> None:
    content = "+PONG\r\n$6\r\nq\r\nüx\r\n*2\r\n$4\r\nsave\r\n$0\r\n\r\n:5\r\n".encode()
    assert answers(served(content), [["PING"]] * 4, 5) == ["PONG", "q\r\nüx", ["save", ""], "5"]


@pytest.mark.parametrize(
    "content", [b"-NOAUTH Authentication required.\r\n", b"-LOADING\r\n", b"$-1\r\n", b"", b"$9\r\nshort"]
)
def test_what_is_not_an_answer_of_redis(content: bytes) -> None:
    with pytest.raises(NotAnsweredError):
        answers(served(content), [["PING"]], 5)
