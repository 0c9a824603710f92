"""The display of a start: what is printed when, where, and that the terminal is left as it was."""

import io
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import pytest

from triton_env import Settings, TritonEnvironment
from triton_env.core.timeline import Event, Phase, Recorder
from triton_env.errors import EngineUnreachable, ServiceExited
from triton_env.progress.open import Display, open_display
from unit.fakes import FakeRuntimes, fails_with, until_cancelled

HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


class Terminal(io.StringIO):
    encoding = ""  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True

    @property
    def words(self) -> str:
        """What was written, without control sequences."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.getvalue())


@contextmanager
def standard_error(term: str = "xterm-256color", encoding: str = "utf-8") -> Iterator[Terminal]:
    """Standard error is a terminal. No fixture: pytest puts its own back between the setup of a test and the test."""
    terminal = Terminal()
    terminal.encoding = encoding  # type: ignore[misc]
    with patch.dict(os.environ, TERM=term, COLUMNS="100"), patch.object(sys, "stderr", terminal):
        yield terminal


def shown(display: Display, *events: Event) -> None:
    display.open()
    for event in events:
        display.show(event)
    display.close()


def start_of(service: str, *, ready: float) -> list[Event]:
    phases = (Phase.PULL, Phase.CREATE, Phase.BOOT)
    return [*(Event(service, phase, 0.1) for phase in phases), Event(service, Phase.READY, ready)]


def test_plain_says_when_a_service_is_ready_and_no_more(capsys: pytest.CaptureFixture[str]) -> None:
    shown(open_display("plain", ("postgres", "s3")), *start_of("postgres", ready=1.23), *start_of("s3", ready=3.04))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == ["triton-env: PostgreSQL ready after 1.2 s", "triton-env: S3 ready after 3.0 s"]


def test_plain_says_what_a_start_waits_for_once(capsys: pytest.CaptureFixture[str]) -> None:
    words = "no node yet: 0/3 nodes are available"
    create = [Event("redis", Phase.CREATE, at, detail) for at, detail in ((0.1, ""), (0.2, words), (9.0, words))]
    shown(open_display("plain", ("redis",)), *create, Event("redis", Phase.READY, 10.0))
    lines = [f"triton-env: Redis: {words}", "triton-env: Redis ready after 10.0 s"]
    assert capsys.readouterr().err.splitlines() == lines


def test_plain_says_how_long_a_pull_took_whatever_its_news_were(capsys: pytest.CaptureFixture[str]) -> None:
    shown(
        open_display("plain", ("redis",)),
        Event("redis", Phase.PULL, 0.5),
        Event("redis", Phase.PULL, 0.6, "pulling redis:7-alpine"),
        Event("redis", Phase.PULL, 4.0, "pulled 10 of 20 MB"),
        Event("redis", Phase.PULL, 9.0, "pulled 20 of 20 MB"),
        Event("redis", Phase.CREATE, 9.5),
        # Another try on other ports is no second pull.
        Event("redis", Phase.BOOT, 9.6),
        Event("redis", Phase.CREATE, 9.7),
        Event("redis", Phase.READY, 10.0),
    )
    assert capsys.readouterr().err.splitlines() == [
        "triton-env: image of Redis pulled in 9.0 s",
        "triton-env: Redis ready after 10.0 s",
    ]


def test_plain_names_who_failed_and_not_who_was_cancelled(capsys: pytest.CaptureFixture[str]) -> None:
    shown(
        open_display("plain", ("redis", "s3")),
        Event("redis", Phase.PULL, 0.1, "pulling redis:7"),
        Event("redis", Phase.FAILED, 2.0),
        Event("s3", Phase.FAILED, 2.1, "cancelled"),
    )
    assert capsys.readouterr().err.splitlines() == ["triton-env: Redis failed after 2.0 s"]


def test_off_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    shown(open_display("off", ("redis",)), *start_of("redis", ready=1))
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("mode", ["plain", "live"])
def test_what_comes_after_the_end_is_not_shown(mode: str) -> None:
    with standard_error() as terminal:
        display = open_display(mode, ("redis",))
        shown(display, *start_of("redis", ready=1))
        before = terminal.getvalue()
        display.show(Event("redis", Phase.FAILED, 2))
        assert terminal.getvalue() == before


@pytest.mark.parametrize("mode", ["plain", "live"])
def test_an_event_of_a_service_that_was_not_announced_is_passed_over(mode: str) -> None:
    with standard_error() as terminal:
        shown(open_display(mode, ("redis",)), *start_of("s3", ready=1))
        assert "S3" not in terminal.words


def test_a_standard_error_that_is_gone_does_not_end_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = io.StringIO()
    gone.close()
    monkeypatch.setattr(sys, "stderr", gone)
    shown(open_display("plain", ("redis",)), *start_of("redis", ready=1))


@pytest.mark.parametrize(("term", "draws"), [("xterm", True), ("dumb", False)])
def test_auto_draws_on_terminals_that_can(term: str, draws: bool) -> None:
    with standard_error(term=term) as terminal:
        shown(open_display("auto", ("redis",)), *start_of("redis", ready=1))
        assert (HIDE in terminal.getvalue()) is draws


def test_auto_prints_lines_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    shown(open_display("auto", ("redis",)), *start_of("redis", ready=1))
    assert capsys.readouterr().err == "triton-env: Redis ready after 1.0 s\n"


def test_live_shows_each_service_and_ends_as_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with standard_error() as terminal:
        display = open_display("live", ("postgres", "redis", "s3"))
        display.open()
        for event in (
            *start_of("redis", ready=0.6),
            Event("postgres", Phase.PULL, 0.1, "pulled 12 of 80 MB"),
            Event("s3", Phase.BOOT, 0.1),
        ):
            display.show(event)
        display._live.refresh()  # type: ignore[attr-defined]
        drawn = terminal.words
        assert re.search(r"PostgreSQL +pulled 12 of 80 MB +\d+\.\d s", drawn)
        assert re.search(r"✓ +Redis +ready +0\.6 s", drawn)
        assert re.search(r"S3 +booting", drawn)
        display.show(Event("postgres", Phase.READY, 1.5))
        display.show(Event("s3", Phase.READY, 2.5))
        display.close()
        assert terminal.words.splitlines()[-1] == "✓ PostgreSQL 1.5 s   ✓ Redis 0.6 s   ✓ S3 2.5 s"
        assert capsys.readouterr().out == ""


def test_the_summary_tells_who_failed_from_who_was_cancelled() -> None:
    with standard_error() as terminal:
        shown(
            open_display("live", ("postgres", "redis", "s3")),
            Event("postgres", Phase.BOOT, 0.2),
            Event("redis", Phase.FAILED, 0.3),
            Event("s3", Phase.FAILED, 0.3, "cancelled"),
        )
        last = terminal.words.splitlines()[-1]
        assert last == "- PostgreSQL cancelled   ✗ Redis failed   - S3 cancelled"


def test_live_leaves_the_cursor_visible_and_standard_error_as_it_was() -> None:
    with standard_error() as terminal:
        display = open_display("live", ("redis",))
        display.open()
        assert terminal.getvalue().rfind(HIDE) > terminal.getvalue().rfind(SHOW)
        display.close()
        display.close()
        assert terminal.getvalue().rfind(SHOW) > terminal.getvalue().rfind(HIDE)
        assert sys.stderr is terminal


def test_live_signs_can_be_written_in_ascii() -> None:
    with standard_error(encoding="ascii") as terminal:
        shown(open_display("live", ("redis", "s3")), *start_of("redis", ready=1), Event("s3", Phase.FAILED, 1))
        terminal.getvalue().encode("ascii")
        assert terminal.words.splitlines()[-1] == "+ Redis 1.0 s   x S3 failed"


def test_of_two_at_once_one_draws_and_the_other_prints_lines() -> None:
    with standard_error() as terminal:
        first, second = open_display("live", ("redis",)), open_display("live", ("s3",))
        first.open()
        second.open()
        for event in start_of("s3", ready=1):
            second.show(event)
        second.close()
        assert "triton-env: S3 ready after 1.0 s" in terminal.words
        first.close()
        # The terminal is free again.
        third = open_display("live", ("redis",))
        shown(third, *start_of("redis", ready=7))
        assert terminal.words.splitlines()[-1] == "✓ Redis 7.0 s"


def test_many_threads_may_close_and_show_at_once() -> None:
    with standard_error() as terminal:
        display = open_display("live", ("redis", "s3"))
        display.open()
        recorder = Recorder(display.show)
        together = threading.Barrier(8)
        errors: list[BaseException] = []

        def work(number: int) -> None:
            try:
                together.wait()
                for _ in range(50):
                    recorder.report("redis" if number % 2 else "s3", Phase.PULL, f"pulled {number} of 80 MB")
                display.close()
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert terminal.getvalue().rfind(SHOW) > terminal.getvalue().rfind(HIDE)


def test_an_environment_shows_its_start(runtimes: FakeRuntimes, capsys: pytest.CaptureFixture[str]) -> None:
    with TritonEnvironment(services=("redis", "s3")):
        pass
    out, err = capsys.readouterr()
    assert out == ""
    assert sorted(line.split(" after ")[0] for line in err.splitlines()) == [
        "triton-env: Redis ready",
        "triton-env: S3 ready",
    ]


def test_the_display_is_closed_before_start_returns(runtimes: FakeRuntimes) -> None:
    with standard_error() as terminal:
        for _ in range(20):
            with TritonEnvironment(services=("redis", "s3")):
                assert terminal.getvalue().rfind(SHOW) > terminal.getvalue().rfind(HIDE)
                assert sys.stderr is terminal


def test_a_failed_start_shows_who_is_to_blame(runtimes: FakeRuntimes) -> None:
    with standard_error() as terminal:
        runtimes.behaviours = {"redis": fails_with(ServiceExited("Redis exited.")), "s3": until_cancelled}
        with pytest.raises(ServiceExited), TritonEnvironment(services=("redis", "s3")):
            pass
        assert terminal.words.splitlines()[-1] == "✗ Redis failed   - S3 cancelled"


def test_where_no_service_was_begun_nothing_stays_on_the_terminal(runtimes: FakeRuntimes) -> None:
    with standard_error() as terminal:
        runtimes.open_error = EngineUnreachable("No Docker engine answers.")
        with pytest.raises(EngineUnreachable), TritonEnvironment(services=("redis", "s3")):
            pass
        assert "cancelled" not in terminal.words


def test_a_lazy_start_does_not_draw_under_the_users_own_output(runtimes: FakeRuntimes) -> None:
    with standard_error() as terminal:
        with TritonEnvironment(services=("redis",), lazy=True) as env:
            assert env.redis.port
        assert HIDE not in terminal.getvalue()
        with TritonEnvironment(Settings(triton_progress="live"), services=("redis",), lazy=True) as env:
            assert env.redis.port
        assert HIDE in terminal.getvalue()
