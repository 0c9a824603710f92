"""The poll loop. Where a test would hang if the loop were wrong, its own short timeout says so."""

import itertools
import socket
import threading
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from triton_env.core import readiness
from triton_env.core.readiness import DeadlineExceeded, Explain, Refused, check_listening, wait_until_ready
from triton_env.errors import StartCancelled, UsageError


class Died(Exception):
    """The container is gone."""


def alive() -> None: ...


def dead() -> None:
    raise Died


def ready_at_try(number: int) -> Callable[[], None]:
    tries = itertools.count(1)

    def probe() -> None:
        if (count := next(tries)) < number:
            raise ConnectionError(f"refused {count}")

    return probe


def wait(
    probe: Callable[[], None],
    *,
    timeout: float = 60,
    interval: float = 0.001,
    check_alive: Callable[[], None] = alive,
    cancelled: threading.Event | None = None,
    explain: Explain = lambda error: None,
) -> int:
    return wait_until_ready(
        probe,
        timeout=timeout,
        interval=interval,
        check_alive=check_alive,
        cancelled=cancelled or threading.Event(),
        explain=explain,
    )


@pytest.mark.parametrize("tries", [1, 2, 5])
def test_it_returns_at_the_first_success(tries: int) -> None:
    assert wait(ready_at_try(tries)) == tries


def test_success_at_the_first_try_asks_nobody_else() -> None:
    assert wait(ready_at_try(1), timeout=0, check_alive=dead) == 1


def test_the_deadline_keeps_the_last_error(monkeypatch: pytest.MonkeyPatch) -> None:
    raised: list[Exception] = []
    # By a clock on which each try takes 8 ms: by the real one, a single try may take all the time.
    monkeypatch.setattr(readiness, "time", SimpleNamespace(monotonic=lambda: 0.008 * len(raised)))

    def probe() -> None:
        raised.append(ConnectionError(f"refused {len(raised)}"))
        raise raised[-1]

    with pytest.raises(DeadlineExceeded, match=r"not ready after 0\.02 s: refused") as caught:
        wait(probe, timeout=0.02)
    assert caught.value.seconds == 0.02
    assert caught.value.last_error is caught.value.__cause__ is raised[-1]
    assert len(raised) == 3


def test_the_probe_is_called_at_least_once() -> None:
    with pytest.raises(DeadlineExceeded, match="refused 1"):
        wait(ready_at_try(2), timeout=0)


def test_a_mistake_in_a_program_is_raised_as_it_is_and_not_explained() -> None:
    def probe() -> None:
        raise KeyError("memo")

    with pytest.raises(KeyError, match="memo"):
        wait(probe, timeout=0, explain=lambda error: UsageError("The server refuses."))


def test_an_error_that_trying_again_does_not_change_ends_the_wait() -> None:
    with pytest.raises(UsageError, match="refused 1") as caught:
        wait(ready_at_try(2), explain=lambda error: UsageError(str(error)))
    assert isinstance(caught.value.__cause__, ConnectionError)


@pytest.mark.timeout(60)
def test_an_exit_is_noticed_at_once_not_at_the_deadline() -> None:
    with pytest.raises(Died):
        wait(ready_at_try(2), timeout=3600, interval=3600, check_alive=dead)


@pytest.mark.timeout(60)
def test_an_exit_is_noticed_between_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "_LIVENESS_INTERVAL", 0.01)
    checks = itertools.count()

    def dies_later() -> None:
        if next(checks) == 2:
            raise Died

    with pytest.raises(Died):
        wait(ready_at_try(1_000_000), timeout=3600, check_alive=dies_later)


def test_liveness_is_asked_more_rarely_than_the_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "_LIVENESS_INTERVAL", 3600)
    checks: list[None] = []
    assert wait(ready_at_try(20), check_alive=lambda: checks.append(None)) == 20
    assert len(checks) == 1


def test_a_start_that_was_called_off_is_not_tried() -> None:
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(StartCancelled):
        wait(lambda: pytest.fail("tried"), cancelled=cancelled)


@pytest.mark.timeout(60)
def test_calling_off_does_not_wait_for_the_interval() -> None:
    cancelled = threading.Event()
    threading.Timer(0.02, cancelled.set).start()
    with pytest.raises(StartCancelled):
        wait(ready_at_try(100), interval=3600, timeout=3600, cancelled=cancelled)


def test_ctrl_c_in_a_probe_is_no_failed_try() -> None:
    def probe() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        wait(probe)


def test_a_client_that_is_turned_down_is_not_tried_until_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "REFUSED_FOR", 0)

    def refused() -> None:
        raise Refused("password authentication failed")

    with pytest.raises(DeadlineExceeded, match="password authentication failed") as given_up:
        wait(refused, timeout=1000)
    assert given_up.value.refused


def test_a_refusal_that_ends_is_forgotten() -> None:
    errors: list[Exception] = [Refused("no"), ConnectionError("not yet"), Refused("no")]

    def probe() -> None:
        if errors:
            raise errors.pop(0)

    assert wait(probe) == 4


class TestCheckListening:
    @pytest.fixture
    def patience(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """For what the other side does at once, which is a while on a busy machine."""
        monkeypatch.setattr(readiness, "_CLOSED_WITHIN", 60)

    def test_nobody_there(self) -> None:
        # Bound, so that no other program gets the port, but not listening.
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            with pytest.raises(ConnectionRefusedError):
                check_listening("127.0.0.1", bound.getsockname()[1])

    @pytest.mark.usefixtures("patience")
    def test_a_proxy_without_a_server_behind_it(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as proxy:
            closing = threading.Thread(target=lambda: proxy.accept()[0].close())
            closing.start()
            with pytest.raises(ConnectionError):
                check_listening("127.0.0.1", proxy.getsockname()[1])
            closing.join()

    def test_a_server_that_waits_for_its_client(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            check_listening("127.0.0.1", server.getsockname()[1])

    @pytest.mark.usefixtures("patience")
    def test_a_server_that_speaks_first(self) -> None:
        def greet() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"hello")

        with socket.create_server(("127.0.0.1", 0)) as server:
            greeting = threading.Thread(target=greet)
            greeting.start()
            check_listening("127.0.0.1", server.getsockname()[1])
            greeting.join()
