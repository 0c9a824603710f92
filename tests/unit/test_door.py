"""Sockets at which processes take orders: who may give them, and what becomes of an order that is not answered."""

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from patience import WAIT, until
from triton_env.errors import TritonError
from triton_env.state import door
from triton_env.state.door import Door, Order, ask


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """One that is longer than sockets may have it."""
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    return folder / "1234abcd.sock"


def echoed(order: Order) -> Order:
    return {"heard": order}


@pytest.fixture
def opened(path: Path) -> Iterator[Path]:
    with closing(Door(path, echoed)):
        yield path


def in_child(action: Callable[[], object]) -> int:
    """Do it in a forked child; its exit status, which is 0 where nothing is raised."""
    child = os.fork()
    if child == 0:
        try:
            action()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_an_order_is_answered_and_so_are_several_at_once(path: Path) -> None:
    both = threading.Barrier(2, timeout=WAIT)

    def met(order: Order) -> Order:
        both.wait()
        return order

    answers: list[Order] = []
    with closing(Door(path, met)):
        askers = [threading.Thread(target=lambda: answers.append(ask(path, {"a": 1}, patience=WAIT))) for _ in "ab"]
        for asker in askers:
            asker.start()
        for asker in askers:
            asker.join()
    assert answers == [{"a": 1}, {"a": 1}]


def test_what_is_not_understood_ends_nothing(opened: Path) -> None:
    for words in (b"{", b"[1]\n", b"\xff\n", b""):
        with socket.socket(socket.AF_UNIX) as connection:
            with door._short(opened) as short:
                connection.connect(short)
            connection.sendall(words)
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(WAIT)
            assert connection.recv(100) == b""
    assert ask(opened, {"still": "there"}, patience=WAIT) == {"heard": {"still": "there"}}


def test_a_closed_one_takes_none(path: Path) -> None:
    opened = Door(path, echoed)
    opened.close()
    opened.close()
    with pytest.raises(ConnectionRefusedError):
        ask(path, {}, patience=WAIT)
    assert not opened._thread.is_alive()


def test_a_link_or_a_file_in_its_place_is_not_asked(opened: Path, tmp_path: Path) -> None:
    link, file = tmp_path / "link.sock", tmp_path / "file.sock"
    link.symlink_to(opened)
    file.touch()
    for wrong in (link, file):
        with pytest.raises(PermissionError, match="not a socket of this user's"):
            ask(wrong, {}, patience=WAIT)
    with pytest.raises(FileNotFoundError):
        ask(tmp_path / "none.sock", {}, patience=WAIT)


def test_other_users_are_not_heard_and_not_asked(opened: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Order] = []
    monkeypatch.setattr(door, "_user_of_peer", lambda connection: os.geteuid() + 1)
    with pytest.raises(PermissionError, match=f"of the user {os.geteuid() + 1}"):
        ask(opened, {}, patience=WAIT)
    # The other side alone: it hangs up before it has read anything.
    other = opened.with_name("other.sock")
    with (
        closing(Door(other, lambda order: heard.append(order) or {})),
        socket.socket(socket.AF_UNIX) as connection,
    ):
        with door._short(other) as short:
            connection.connect(short)
        connection.settimeout(WAIT)
        assert connection.recv(100) == b""
    assert heard == []


def test_the_system_says_whose_process_the_other_one_is(opened: Path) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        with door._short(opened) as short:
            connection.connect(short)
        assert door._user_of_peer(connection) == os.geteuid()


def test_a_forked_child_keeps_none_of_it(path: Path) -> None:
    """One that outlives its parent would let others wait for an answer; one that ends would end its parent's."""
    opened = Door(path, echoed)
    assert in_child(opened.close) == 0
    assert ask(path, {}, patience=WAIT) == {"heard": {}}
    child = os.fork()
    if child == 0:
        signal.pause()
        os._exit(0)
    try:
        opened.close()
        with pytest.raises(ConnectionRefusedError):
            ask(path, {}, patience=WAIT)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_one_that_does_not_answer_is_waited_for_as_long_as_it_may_take(path: Path) -> None:
    with door.listening(path), pytest.raises(TimeoutError, match="it does not answer"):
        ask(path, {}, patience=WAIT, at_first=0)
    path.unlink()
    asked = threading.Event()
    goes_on = threading.Event()

    def slow(order: Order) -> Order:
        asked.set()
        goes_on.wait(WAIT)
        return {}

    def look() -> None:
        if asked.is_set():
            raise TritonError("It is not worth waiting.")

    with closing(Door(path, slow)):
        with pytest.raises(TritonError, match="not worth"):
            ask(path, {}, patience=WAIT, look=look)
        goes_on.set()


def test_one_that_ends_before_it_answers_is_found_out(path: Path) -> None:
    with door.listening(path) as listener:

        def hang_up() -> None:
            connection, _ = listener.accept()
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(OSError, match=r"ended without an answer|reset|Broken pipe"):
            ask(path, {}, patience=WAIT)
        thread.join()


def test_too_many_open_files_end_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "_LOOK_INTERVAL", 0.01)
    refused = threading.Event()
    real = socket.socket.accept

    def accept(self: socket.socket) -> tuple[socket.socket, object]:
        if not refused.is_set():
            refused.set()
            raise OSError(24, "Too many open files")
        return real(self)

    monkeypatch.setattr(socket.socket, "accept", accept)
    with closing(Door(path, echoed)):
        assert until(refused.is_set)
        assert ask(path, {}, patience=WAIT) == {"heard": {}}
