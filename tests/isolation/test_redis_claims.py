"""Which logical database of a Redis is whose, where machines share it: also after FLUSHALL and broken connections."""

import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
import redis.exceptions

from patience import WAIT, until
from triton_env import Settings, TritonEnvironment
from triton_env.core.model import Endpoint, Placement
from triton_env.core.threads import in_thread
from triton_env.services import Redis
from triton_env.services.base_isolation import ContentLost, Space
from triton_env.services.redis.claims import RedisBoard
from triton_env.services.redis.isolation import RedisIsolation

A = "triton_ns_1_maaaaaaaaaa"
B = "triton_ns_1_mbbbbbbbbbb"
NUMBER = 500


@pytest.fixture
def boards(small: TritonEnvironment) -> Iterator[tuple[RedisBoard, RedisBoard]]:
    """Those of two machines."""
    with closing(RedisBoard(small.redis)) as one, closing(RedisBoard(small.redis)) as other:
        one.attend("maaaaaaaaaa")
        other.attend("mbbbbbbbbbb")
        yield one, other
    small.redis.client().flushall()


Boards = tuple[RedisBoard, RedisBoard]


def words(env: TritonEnvironment, *written: str) -> list[bytes]:
    """The keys in the logical database, after some were written."""
    with env.redis.client(db=NUMBER) as client:
        for each in written:
            client.set(each, 1)
        return sorted(client.keys())


def lose(board: RedisBoard, other: RedisBoard) -> None:
    """Cut a machine off for so long that another one takes what it had."""
    assert board._listener
    board._listener.close()
    other.remove(f"number/{NUMBER}")
    assert until(lambda: other.take([NUMBER], B))


@pytest.mark.parametrize("is_wiped", [False, True], ids=["noted", "wiped"])
def test_a_machine_notices_that_it_has_lost_a_number(
    small: TritonEnvironment, boards: Boards, caplog: pytest.LogCaptureFixture, is_wiped: bool
) -> None:
    one, other = boards
    assert one.take([NUMBER], A)
    lose(one, other)
    if is_wiped:
        small.redis.client().flushall()
    words(small, "theirs")
    with caplog.at_level(logging.WARNING, "triton_env"):
        one.attend("maaaaaaaaaa")
    assert f"{NUMBER} ({A})" in caplog.text
    small.redis.client().flushall()
    words(small, "theirs")
    one.attend("maaaaaaaaaa")
    assert not one.has(NUMBER, A)
    assert not one.empty(NUMBER, A, goes=True)
    other.attend("mbbbbbbbbbb")
    assert other.has(NUMBER, B)
    assert words(small) == [b"theirs"]


def test_what_is_wiped_and_attended_by_another_is_not_emptied(small: TritonEnvironment, boards: Boards) -> None:
    one, other = boards
    assert one.take([NUMBER], A)
    lose(one, other)
    small.redis.client().flushall()
    words(small, "theirs")
    assert not one.empty(NUMBER, A, goes=True)  # before it has heard of its loss
    assert words(small) == [b"theirs"]


def test_of_two_that_take_a_number_between_wipes_one_has_it(
    small: TritonEnvironment, boards: Boards, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = boards
    listen = one._listen

    def wiped_before() -> None:
        small.redis.client().flushall()
        assert other.take([NUMBER], B)
        small.redis.client().flushall()
        listen()

    monkeypatch.setattr(one, "_listen", wiped_before)
    assert not one.take([NUMBER], A)
    assert until(lambda: not (other.attend("mbbbbbbbbbb") or one.has(NUMBER, A)) and other.has(NUMBER, B))


def test_a_number_that_was_given_back_is_attended_when_it_is_taken_again(boards: Boards) -> None:
    one, other = boards
    for _ in range(2):
        # The server may not have heard yet that the one before has let go.
        assert until(lambda: one.take([NUMBER], A))
        other.remove(f"number/{NUMBER}")
        assert not other.take([NUMBER], B)
        assert one.empty(NUMBER, A, goes=True)
    assert until(lambda: other.take([NUMBER], B))


def test_numbers_of_processes_that_have_ended_are_noted_again(small: TritonEnvironment, boards: Boards) -> None:
    _, other = boards
    with closing(RedisBoard(small.redis, lambda: {NUMBER: A, NUMBER + 1: "triton_tpl_0123456789ab"})) as later:
        assert other.take([NUMBER + 2], B)
        small.redis.client().flushall()
        later.attend("maaaaaaaaaa")
        assert later.numbers() == {NUMBER: A, NUMBER + 1: "triton_tpl_0123456789ab"}
        assert not other.take([NUMBER], B)
        words(small, "written since")
        assert later.empty(NUMBER, A, goes=True)
        assert words(small) == []
        assert other.take([NUMBER], B)


def test_a_source_of_another_machine_whose_note_is_wiped_has_lost_its_content(small: TritonEnvironment) -> None:
    class Nothing:
        def of(self, space: Space) -> range:
            return range(0)

    with closing(RedisIsolation(small.redis)) as isolation:
        isolation.slots = Nothing()  # type: ignore[assignment]
        with pytest.raises(ContentLost, match="triton_tpl_1_mbbbbbbbbbb has no logical database"):
            isolation.verify(Space("triton_tpl_1_mbbbbbbbbbb"), '{"mark": "triton-env:1", "keys": [1]}')


def test_a_thread_that_still_works_makes_nothing_once_claims_are_closed(small: TritonEnvironment) -> None:
    isolation = RedisIsolation(small.redis)
    board = isolation.board()
    assert board
    isolation.close()
    for act in (lambda: isolation.drop(Space(A)), isolation.found, lambda: board.take([NUMBER], A)):
        with pytest.raises(redis.exceptions.ConnectionError, match="has closed its claims"):
            act()


@pytest.mark.parametrize("how", ["close", "break_off"])
def test_notes_are_not_waited_for_where_a_server_hangs(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("triton_env.services.redis.claims._TIMEOUT", WAIT)
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        board = RedisBoard(Redis(Settings(), Placement({"redis": Endpoint("127.0.0.1", hanging.getsockname()[1])})))
        waiting = in_thread(board.numbers)
        connection, _ = hanging.accept()
        with connection:
            assert connection.recv(1)  # its first command
            act: Callable[[], None] = getattr(board, how)
            act()
            assert until(waiting.done, WAIT / 3)
    assert isinstance(waiting.exception(), redis.exceptions.ConnectionError)
    board.close()
