"""Namespaces in advance: how many there are, that they come back, and that all ends with the environment."""

import threading
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest

import contents
from isolation.processes import LIMIT
from patience import WAIT, until
from triton_env import Namespace, Settings, TritonEnvironment
from triton_env.core import interrupts
from triton_env.core.threads import in_thread
from triton_env.isolation import pool as pool_module
from triton_env.isolation.pool import Pool


class Made:
    """Counts what a pool makes and removes."""

    def __init__(self) -> None:
        self.made = 0
        self.removed: list[int] = []
        self.swept = 0
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.hangs = threading.Event()
        self.fails = False
        self._lock = threading.Lock()

    def make(self) -> Mock:
        if not self.may_go_on.is_set():
            self.hangs.set()
        assert self.may_go_on.wait(LIMIT)
        if self.fails:
            raise ConnectionError("no server")
        with self._lock:
            self.made += 1
            return Mock(number=self.made, thread=threading.current_thread())

    def remove(self, namespace: Mock) -> None:
        self.removed.append(namespace.number)

    def sweep(self) -> None:
        self.swept += 1


@pytest.fixture
def made() -> Made:
    return Made()


@pytest.fixture
def pool(made: Made) -> Iterator[Pool]:
    pool = Pool(2, made.remove, made.sweep)
    yield pool
    made.may_go_on.set()
    pool.end(drain=False)


def test_it_makes_some_in_advance_once_there_is_a_first(made: Made, pool: Pool) -> None:
    assert not pool.counts()
    first = pool.take(("a",), made.make)
    assert first.thread is threading.current_thread()
    assert until(lambda: pool.counts() == {("a",): 2})
    # As many, and no more.
    assert made.made == 3
    # The oldest of those that are ready. The thread may have made its first one before ours.
    assert pool.take(("a",), made.make).number == min({1, 2, 3} - {first.number})
    assert until(lambda: pool.counts() == {("a",): 2})
    assert made.made == 4


def test_kinds_do_not_mix_and_are_bounded(made: Made, pool: Pool) -> None:
    for n in range(20):
        pool.take((n,), made.make)
    assert until(lambda: sorted(pool.counts().values()) == [2] * 8)
    assert set(pool.counts()) == {(n,) for n in range(12, 20)}
    assert until(lambda: len(made.removed) == made.made - 20 - 16)


def test_none_in_advance(made: Made) -> None:
    pool = Pool(0, made.remove, made.sweep)
    pool.take(("a",), made.make)
    pool.take(("a",), made.make)
    assert until(lambda: made.swept == 1)
    assert (made.made, pool.counts()) == (2, {})
    assert not pool.end(drain=False)


def test_who_closes_faster_than_it_removes_has_to_help(made: Made, pool: Pool) -> None:
    namespaces = [pool.take(("a",), made.make) for _ in range(30)]
    assert until(lambda: pool.counts() == {("a",): 2})
    made.may_go_on.clear()
    pool.take(("a",), made.make)  # a ready one, and the thread hangs while it makes another
    assert made.hangs.wait(LIMIT)
    for namespace in namespaces:
        pool.put_away(namespace)
    assert len(made.removed) == len(namespaces) - 8
    made.may_go_on.set()
    assert until(lambda: {namespace.number for namespace in namespaces} <= set(made.removed))


def test_where_it_fails_in_the_background_the_next_one_sees_why(made: Made, pool: Pool) -> None:
    pool.take(("a",), made.make)
    assert until(lambda: pool.counts() == {("a",): 2})
    made.fails = True
    pool.take(("a",), made.make)
    pool.take(("a",), made.make)
    with pytest.raises(ConnectionError, match="no server"):
        pool.take(("a",), made.make)
    made.fails = False
    pool.take(("a",), made.make)
    assert until(lambda: pool.counts() == {("a",): 2})


def test_a_failure_in_the_background_does_not_undo_what_was_asked_for_meanwhile(made: Made, pool: Pool) -> None:
    pool.take(("a",), made.make)
    assert until(lambda: pool.counts() == {("a",): 2})
    made.fails = True
    made.may_go_on.clear()
    pool.take(("a",), made.make)
    assert made.hangs.wait(LIMIT)
    pool.take(("a",), lambda: Mock(number=-1))
    made.may_go_on.set()  # and it fails
    assert until(lambda: pool.counts() == {("a",): 2})


def test_a_pause_waits_for_what_is_being_made_and_nothing_begins_in_it(made: Made, pool: Pool) -> None:
    first = pool.take(("a",), made.make)
    assert until(lambda: pool.counts() == {("a",): 2})
    made.may_go_on.clear()
    pool.take(("a",), made.make)
    assert made.hangs.wait(WAIT)
    entered, leave = threading.Event(), threading.Event()

    def pause() -> list[int]:
        with pool.paused() as unused:
            entered.set()
            assert leave.wait(LIMIT)
            pool.put_away(first)
            return [namespace.number for namespace in unused]

    answer = in_thread(pause)
    assert not entered.wait(0.1)
    made.may_go_on.set()
    assert entered.wait(WAIT)
    leave.set()
    # The fourth was being made when the pause was asked for.
    assert answer.result(WAIT) == [3, 4]
    assert until(lambda: made.removed == [1])


def test_it_ends_and_gives_back_what_it_has(made: Made, pool: Pool) -> None:
    pool.take(("a",), made.make)
    assert until(lambda: pool.counts() == {("a",): 2})
    assert len(pool.end(drain=False)) == 2
    assert not made.removed
    # From then on nothing is made in advance, and what is closed is removed at once.
    namespace = pool.take(("a",), made.make)
    pool.put_away(namespace)
    assert made.removed == [namespace.number]
    assert made.made == 4


def test_it_removes_all_first_where_the_servers_go_on(made: Made, pool: Pool) -> None:
    first = pool.take(("a",), made.make)
    assert until(lambda: pool.counts() == {("a",): 2})
    assert not pool.end(drain=True)
    assert sorted(made.removed) == sorted({1, 2, 3} - {first.number})


@pytest.fixture(scope="module")
def warm(embedded_packages: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonEnvironment]:
    settings = Settings(triton_state_dir=str(tmp_path_factory.mktemp("state")), triton_pool_size=3)
    with TritonEnvironment(settings, services=("postgres", "redis"), runtime="embedded") as environment:
        yield environment


def threads_of_pools() -> set[threading.Thread]:
    """Those of all environments of this process: other modules may have left one running."""
    return {thread for thread in threading.enumerate() if thread.name == "triton-namespaces"}


def test_ready_namespaces_are_like_others(warm: TritonEnvironment) -> None:
    def build(namespace: Namespace) -> None:
        contents.fill(namespace, "template")

    pool = warm._isolation()._open().pool
    with warm.namespace(template=build):
        threads = threads_of_pools()
    seen = set()
    for n in range(12):
        with warm.namespace(template=build) as namespace:
            seen.add((namespace.id, namespace.redis.database, n))
            assert contents.look(namespace) == contents.everywhere(namespace, "template")
            contents.fill(namespace, "used")
        assert until(lambda: max(pool.counts().values()) == 3)
    assert len({identifier for identifier, _, _ in seen}) == 12
    assert threads_of_pools() == threads


def test_a_named_one_is_not_from_the_pool(warm: TritonEnvironment) -> None:
    with warm.namespace("by_name") as namespace:
        assert namespace.id == "triton_ns_by_name"


def test_everything_of_it_ends_with_the_environment(embedded_packages: None, tmp_path: Path) -> None:
    before = threads_of_pools()
    settings = Settings(triton_state_dir=str(tmp_path))
    with TritonEnvironment(settings, services=("redis",), runtime="embedded") as env:
        env.namespace().close()
        assert until(lambda: list(env._isolation()._open().pool.counts().values()) == [4])
        leases = list((tmp_path / "spaces" / env.id).glob("*.lease"))
        assert len(leases) >= 4
    assert threads_of_pools() == before
    assert not list((tmp_path / "spaces").iterdir())


def test_a_reset_does_not_take_what_is_just_being_made(warm: TritonEnvironment) -> None:
    pool = warm._isolation()._open().pool
    for n in range(5):
        # After each of these the background makes another one.
        with warm.namespace(services=("postgres",)):
            warm.reset()
        assert until(lambda: min(pool.counts().values()) == 3)
        for _ in range(3):
            with warm.namespace(services=("postgres",)) as namespace, namespace.postgres.connect() as connection:
                assert connection.execute("select %s", [n]).fetchone() == (n,)


def test_its_end_hurries_where_a_server_hangs(pool: Pool, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_DRAIN_TIMEOUT", WAIT)
    pool.take(("a",), made.make)
    assert until(lambda: pool.counts() == {("a",): 2})
    made.may_go_on.clear()
    pool.take(("a",), made.make)  # a ready one, and the thread hangs while it makes another
    assert made.hangs.wait(LIMIT)
    ending = in_thread(lambda: pool.end(drain=True))
    with interrupts.hurrying():
        assert until(ending.done, WAIT / 3)
