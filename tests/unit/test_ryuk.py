"""Ryuk is asked for once in a process, without a race, and an environment works without it."""

import socket
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from docker.errors import APIError, ImageNotFound
from testcontainers.core.config import testcontainers_config
from testcontainers.core.labels import LABEL_SESSION_ID, SESSION_ID

from triton_env.runtimes.docker import ryuk


class FakeReaper:
    """Like Testcontainers' own: no lock, and slow to start.

    Attributes:
        answer: what comes back on its connection before that ends.
    """

    _instance: "FakeReaper | None" = None
    _container: Any = None
    _socket: socket.socket | None = None
    answer = b"ACK\n"
    created = 0
    deleted = 0
    error: Exception | None = None

    @classmethod
    def get_instance(cls) -> "FakeReaper":
        if cls._instance is None:
            time.sleep(0.02)
            cls.created += 1
            if cls.error:
                raise cls.error
            cls._socket, theirs = socket.socketpair()
            with theirs:
                theirs.sendall(cls.answer)
            cls._instance = cls()
        return cls._instance

    @classmethod
    def delete_instance(cls) -> None:
        cls.deleted += 1


def engine(*, has_image: bool = True) -> Any:
    def get(image: str) -> None:
        if not has_image:
            raise ImageNotFound(image)

    return SimpleNamespace(url="unix:///x", way="unix:///x", client=SimpleNamespace(images=SimpleNamespace(get=get)))


def refusal(status: int) -> APIError:
    response: Any = SimpleNamespace(status_code=status, url="/containers/create", reason="no")
    return APIError("refused", response=response)


def address_of(server: socket.socket) -> SimpleNamespace:
    """Of a container that is reached there."""
    host, port = server.getsockname()
    return SimpleNamespace(get_container_host_ip=lambda: host, get_exposed_port=lambda _: port)


@pytest.fixture
def reaper(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[FakeReaper]]:
    class Reaper(FakeReaper):
        pass

    monkeypatch.setattr(ryuk, "Reaper", Reaper)
    monkeypatch.setattr(testcontainers_config, "_ryuk_disabled", False)
    yield Reaper
    if Reaper._socket:
        Reaper._socket.close()


def test_many_environments_start_one(reaper: type[FakeReaper]) -> None:
    threads = [threading.Thread(target=ryuk.ensure_ryuk, args=(engine(),)) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert reaper.created == 1


def test_it_is_not_started_where_its_image_is_absent(reaper: type[FakeReaper]) -> None:
    ryuk.ensure_ryuk(engine(has_image=False))
    assert reaper.created == 0


def test_it_is_not_started_where_it_is_disabled(reaper: type[FakeReaper], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(testcontainers_config, "_ryuk_disabled", True)
    ryuk.ensure_ryuk(engine())
    assert reaper.created == 0


def test_one_that_does_not_start_is_removed_and_no_error(
    reaper: type[FakeReaper], caplog: pytest.LogCaptureFixture
) -> None:
    reaper.error = OSError("no route to Ryuk")
    ryuk.ensure_ryuk(engine())
    assert reaper.deleted == 1
    assert "no route to Ryuk" in caplog.text


def test_one_that_did_not_listen_yet_is_asked_again(reaper: type[FakeReaper]) -> None:
    """The engine's proxy has accepted the connection in its place, and closed it."""
    reaper.answer = b""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        reaper._container = address_of(server)

        def serve() -> None:
            server.settimeout(60)
            connection = server.accept()[0]
            with connection, connection.makefile("rb") as lines:
                heard.append(lines.readline())
                connection.sendall(b"ACK\n")

        thread = threading.Thread(target=serve)
        thread.start()
        ryuk.ensure_ryuk(engine())
        thread.join()
    assert heard == [f"label={LABEL_SESSION_ID}={SESSION_ID}\r\n".encode()]
    assert reaper.deleted == 0
    assert reaper._socket is not None


def test_one_that_takes_no_connection_is_removed_and_no_error(
    reaper: type[FakeReaper], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ryuk, "_ANSWER_TIMEOUT", 0.2)
    reaper.answer = b""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        reaper._container = address_of(bound)
        ryuk.ensure_ryuk(engine())
    assert reaper.deleted == 1
    assert "takes no connection" in caplog.text


def test_one_that_holds_the_connection_and_says_nothing_is_left(
    reaper: type[FakeReaper], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another reader of it may have taken the answer."""
    monkeypatch.setattr(ryuk, "_ANSWER_TIMEOUT", 0.2)
    reaper.answer = b""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        reaper._container = address_of(silent)
        ryuk.ensure_ryuk(engine())
    assert reaper.deleted == 0
    assert reaper._socket is not None


def test_volumes_get_the_label_by_which_it_finds_them() -> None:
    labels = ryuk.with_session_label({"org.triton-env": "true"})
    assert labels["org.triton-env"] == "true"
    assert labels[LABEL_SESSION_ID] == SESSION_ID


def test_one_that_another_thread_has_just_started_is_left_alone(reaper: type[FakeReaper]) -> None:
    """Testcontainers starts it without a lock, for a container of the user's; that one's Ryuk must live."""
    reaper.error = refusal(409)
    ryuk.ensure_ryuk(engine())
    assert reaper.deleted == 0


def test_one_that_the_engine_refuses_is_given_up(reaper: type[FakeReaper]) -> None:
    reaper.error = refusal(500)
    ryuk.ensure_ryuk(engine())
    assert reaper.deleted == 1
