"""What a notebook shows for an environment and for a start: what is on it, and that nothing else can break it."""

import re
import signal
import threading
from collections.abc import Callable, Iterator
from html.parser import HTMLParser

import psutil
import pytest

from triton_env import Settings, TritonEnvironment, page
from triton_env.core.timeline import Event, Phase
from triton_env.errors import ServiceExited
from triton_env.progress.notebook import NotebookDisplay
from triton_env.runtimes.embedded.runtime import EmbeddedRuntime
from triton_env.services import Postgres
from unit.fakes import FakeRuntime, FakeRuntimes, after, fails_with, installed


class Shown(HTMLParser):
    """What a reader of the page sees, and what only after a click."""

    def __init__(self, environment: TritonEnvironment) -> None:
        super().__init__()
        self.seen = ""
        self.folded = ""
        self._open: list[str] = []
        self.html = environment._repr_html_()
        self.feed(self.html)
        self.close()
        assert self._open == [], "every element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "details" in self._open and "summary" not in self._open:
            self.folded += f"{data}\n"
        else:
            self.seen += f"{data}\n"

    @property
    def lines(self) -> list[str]:
        return self.seen.splitlines()


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """What answers is on the page, however long that takes on a slow machine."""
    monkeypatch.setattr(page, "_LISTEN_TIMEOUT", 60)
    monkeypatch.setattr(page, "_VERSION_TIMEOUT", 60)


@pytest.fixture
def runtimes() -> Iterator[FakeRuntimes]:
    """Environments run on fake runtimes in this test."""
    with installed() as fakes:
        yield fakes


@pytest.fixture(scope="module")
def running(warm: Callable[[str], TritonEnvironment]) -> TritonEnvironment:
    return warm("embedded")


class TestRunning:
    def test_tells_state_runtime_services_and_start(self, running: TritonEnvironment) -> None:
        shown = Shown(running)
        for words in (running.id, "running", "embedded, since it was asked for"):
            assert words in shown.lines
        for name in running.services:
            service = running.service(name)
            assert {service.title, service.server_version()} <= set(shown.lines)
        assert shown.lines.count("ready") == 4
        assert len(re.findall(r"ready after \d+\.\d s", shown.seen)) == 4
        assert re.search(r'title="boot \d+\.\d s"', shown.html)

    def test_passwords_are_behind_a_click(self, running: TritonEnvironment) -> None:
        shown = Shown(running)
        for service in (running.postgres, running.clickhouse, running.redis):
            assert service.password not in shown.seen
            assert service.url in shown.folded
            assert service.url.replace(service.password, "•••") in shown.seen
            assert service.password not in repr(running)
        assert running.s3.url in shown.seen

    def test_a_version_is_asked_once(self, running: TritonEnvironment, monkeypatch: pytest.MonkeyPatch) -> None:
        assert running.postgres.server_version() in Shown(running).lines
        version = running.postgres.server_version()

        def again(service: Postgres) -> str:
            raise AssertionError("it was asked again")

        monkeypatch.setattr(Postgres, "server_version", again)
        assert version in Shown(running).lines


def test_a_server_that_is_gone_or_hangs_does_not_hold_it_up(
    embedded_packages: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with TritonEnvironment(runtime="embedded", services=("postgres", "redis", "s3")) as each:
        runtime = each._startup.runtime.result()  # type: ignore[union-attr]
        assert isinstance(runtime, EmbeddedRuntime)
        pids = {name: server.child.pid for name, server in runtime._servers.items() if server.child}
        asked = threading.Event()
        over = threading.Event()

        def hangs(service: Postgres) -> str:
            asked.set()
            over.wait(200)
            return "99.0"

        monkeypatch.setattr(Postgres, "server_version", hangs)
        # Shorter than the server hangs, which does so until the page is there.
        monkeypatch.setattr(page, "_VERSION_TIMEOUT", 1.5)
        killed = psutil.Process(pids["s3"])
        killed.send_signal(signal.SIGKILL)
        psutil.wait_procs([killed], timeout=200)
        try:
            shown = Shown(each)
            assert asked.wait(60)
            died = [line for line in shown.lines if line.endswith(" UTC: ended by signal 9 (SIGKILL)")]
            assert (shown.lines.count("ready"), len(died)) == (2, 1)
            assert "99.0" not in shown.seen
        finally:
            over.set()


def test_before_and_afterwards_it_says_so(runtimes: FakeRuntimes) -> None:
    each = TritonEnvironment(services=("redis",))
    assert "not started" in Shown(each).lines
    each.start()
    each.stop()
    shown = Shown(each)
    assert "stopped" in shown.lines
    assert re.search(r"^ready after \d+\.\d s$", shown.seen, re.MULTILINE)
    assert "redis://" not in shown.html


def test_a_start_that_goes_on_and_one_that_failed(runtimes: FakeRuntimes) -> None:
    go = threading.Event()
    runtimes.behaviours = {"redis": after(go), "postgres": fails_with(ServiceExited("PostgreSQL <exited>."))}
    each = TritonEnvironment(services=("redis", "postgres"), lazy=True).start()
    try:
        with pytest.raises(ServiceExited):
            assert each.postgres
        shown = Shown(each)
        assert shown.lines.count("starting") == 2, "the environment, and Redis"
        assert "PostgreSQL <exited>." in shown.lines
        assert "<exited>" not in shown.html
        go.set()
        assert each.redis
        assert "failed" in Shown(each).lines
    finally:
        each.stop()


def test_what_others_say_is_escaped(runtimes: FakeRuntimes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeRuntime, "reason", "<script>alert(1)</script>")
    monkeypatch.setattr(page, "_listening", set)
    monkeypatch.setattr(Postgres, "server_version", lambda service: "<b>15</b>")
    with TritonEnvironment(Settings(postgres_db="a"), services=("postgres",)) as each:
        shown = Shown(each)
    assert "docker, since <script>alert(1)</script>" in shown.lines
    assert "<b>15</b>" in shown.lines
    assert "<script" not in shown.html


def test_passwords_that_last_are_not_on_it(runtimes: FakeRuntimes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeRuntime, "name", "external")
    settings = Settings(database_url="postgresql://me:lasting-secret@127.0.0.1:1/notes")
    with TritonEnvironment(settings, services=("postgres",), runtime="external") as each:
        shown = Shown(each)
        assert each.postgres.password not in shown.html
        assert each.postgres.url.replace(each.postgres.password, "•••") in shown.seen


class TestProgress:
    def test_a_notebook_that_does_not_listen_does_not_end_the_start(self, monkeypatch: pytest.MonkeyPatch) -> None:
        tries: list[object] = []

        def gone(data: object, **options: object) -> None:
            tries.append(data)
            raise OSError("no server listens")

        monkeypatch.setattr("IPython.display.display", gone)
        display = NotebookDisplay({"redis": "Redis"})
        display.open()
        display.show(Event("redis", Phase.READY, 1.2))
        display.close()
        assert len(tries) >= 2

    def test_what_is_said_stays_above_the_summary(self, monkeypatch: pytest.MonkeyPatch) -> None:
        published: list[dict[str, str]] = []
        monkeypatch.setattr("IPython.display.display", lambda data, **options: published.append(data))
        display = NotebookDisplay({"redis": "Redis", "s3": "S3"})
        display.open()
        assert published[0]["text/plain"] == "Redis: waiting\nS3: waiting"
        display.say("it runs <embedded>")
        display.show(Event("redis", Phase.READY, 1.25))
        display.show(Event("s3", Phase.FAILED, 2, "cancelled"))
        display.show(Event("postgres", Phase.READY, 2))
        display.close()
        last = dict(published[-1])
        assert last["text/plain"] == "triton-env: it runs <embedded>\nRedis 1.2 s   S3 cancelled"
        assert "it runs &lt;embedded&gt;" in last["text/html"]
        # Nothing is published afterwards, whatever comes.
        display.say("late")
        display.show(Event("redis", Phase.FAILED, 3))
        display.close()
        assert published[-1] == last

    def test_where_no_service_was_begun_none_is_shown(self, monkeypatch: pytest.MonkeyPatch) -> None:
        published: list[dict[str, str]] = []
        monkeypatch.setattr("IPython.display.display", lambda data, **options: published.append(data))
        display = NotebookDisplay({"redis": "Redis"})
        display.open()
        display.close()
        assert published[-1] == {"text/html": "", "text/plain": ""}
