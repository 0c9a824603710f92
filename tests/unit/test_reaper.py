"""The reaper acts when its owner is gone, and never while that lives. What it then removes, on an engine of our own."""

import json
import os
import signal
import socketserver
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import psutil
import pytest

from patience import until
from triton_env.runtimes.docker import reaper, reaper_cleanup
from triton_env.runtimes.docker import reaper_client as line
from triton_env.runtimes.docker.reaper_client import ReaperHandle

LABEL = "org.triton-env.environment=1a2b3c4d"


def has_ended(process: psutil.Process) -> bool:
    """Also where the process that has inherited it is late to notice."""
    with suppress(psutil.NoSuchProcess):
        return process.status() == psutil.STATUS_ZOMBIE
    return True


class Owner:
    """A process with a reaper whose command makes a file, and which does what it reads."""

    SCRIPT = textwrap.dedent("""
        import os, socket, subprocess, sys, time
        ours, theirs = socket.socketpair()
        touch = [sys.executable, "-S", "-c", f"open({sys.argv[2]!r}, 'w')"]
        reaper = subprocess.Popen(
            [sys.executable, "-I", "-S", sys.argv[1], str(theirs.fileno()), str(os.getpid()), *touch],
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        print(reaper.pid, flush=True)
        for line in sys.stdin:
            exec(line)
            print("did it", flush=True)
    """)

    def __init__(self, folder: Path) -> None:
        self.marker = folder / "reaped"
        self.process = subprocess.Popen(
            [sys.executable, "-S", "-c", self.SCRIPT, reaper.__file__, str(self.marker)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.reaper = psutil.Process(int(self.read()))
        self.forks: list[int] = []

    def read(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def do(self, statement: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{statement}\n")
        self.process.stdin.flush()
        said = self.read()
        if said != "did it":
            assert self.read() == "did it"
        return said

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self.kill()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()
        for pid in self.forks:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert until(lambda: has_ended(self.reaper)), "the reaper runs on"


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Owner]:
    owner = Owner(tmp_path)
    yield owner
    owner.close()


class TestReaper:
    def test_it_acts_when_its_owner_is_killed(self, owner: Owner) -> None:
        assert not owner.marker.exists()
        owner.kill()
        assert until(owner.marker.exists), "nothing was removed"

    def test_it_ends_without_a_deed_when_everything_is_done(self, owner: Owner) -> None:
        owner.do(f"ours.sendall({reaper.DONE!r})")
        owner.do("reaper.wait()")
        owner.kill()
        assert not owner.marker.exists()

    def test_it_acts_while_its_owner_lives_when_that_has_left_something(self, owner: Owner) -> None:
        owner.do(f"ours.sendall({reaper.LEFT!r})")
        assert until(owner.marker.exists), "nothing was removed"

    def test_a_socket_that_is_closed_is_no_death(self, owner: Owner) -> None:
        owner.do("ours.close()")
        # Longer than it takes to notice and to start the command.
        assert owner.do("time.sleep(0.3); print(reaper.poll())") == "None"
        assert not owner.marker.exists()
        owner.kill()
        assert until(owner.marker.exists), "nothing was removed"

    def test_a_fork_that_keeps_the_socket_open_hides_no_death(self, owner: Owner) -> None:
        # No other process reads the file: not even the fork's end of standard output is left open.
        fork = "pid = os.fork(); pid or (os.close(0), os.close(1), time.sleep(300)); print(pid)"
        owner.forks.append(int(owner.do(fork)))
        owner.kill()
        assert until(owner.marker.exists), "nothing was removed"

    def test_signals_do_not_end_it(self, owner: Owner) -> None:
        def ignores() -> int:
            status = Path(f"/proc/{owner.reaper.pid}/status").read_text()
            return int(status.partition("SigIgn:")[2].split()[0], 16)

        wanted = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
        assert until(lambda: all(ignores() & 1 << (number - 1) for number in wanted)), "it ignores no signals"
        for number in wanted:
            owner.reaper.send_signal(number)
        owner.kill()
        assert until(owner.marker.exists), "nothing was removed"


class FakeEngine:
    """Containers, networks and volumes with labels, and the requests to list and remove them.

    Attributes:
        there: paths of what is there, by kind.
        down: how many more requests are interrupted.
        stubborn: paths that cannot be removed.
        late: what turns up after so many listings.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.there = {"containers": {"c1", "c2"}, "networks": {"n1"}, "volumes": {"v/1"}}
        self.down = 0
        self.stubborn: set[str] = set()
        self.late: dict[int, str] = {}
        self.listings = 0
        self.deleted: list[str] = []

    def get(self, kind: str, query: str) -> tuple[int, object]:
        filters = json.loads(parse_qs(query)["filters"][0])
        if kind == "containers":
            assert parse_qs(query)["all"] == ["1"]
            self.listings += 1
            if name := self.late.pop(self.listings, ""):
                self.there["containers"].add(name)
        found = sorted(self.there[kind]) if filters == {"label": [LABEL]} else []
        if kind == "volumes":
            return 200, {"Volumes": [{"Name": name} for name in found] or None}
        return 200, [{"Id": name} for name in found]

    def delete(self, kind: str, name: str, query: str) -> tuple[int, object]:
        self.deleted.append(f"{name}?{query}")
        if name in self.stubborn:
            return 409, {"message": "no"}
        self.there[kind].discard(name)
        return 204, None

    @property
    def is_empty(self) -> bool:
        return not any(self.there.values())


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[FakeEngine]:
    from urllib.parse import unquote

    engine = FakeEngine(tmp_path / "engine.sock")

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002

        def do_GET(self) -> None:
            if engine.down:
                engine.down -= 1
                self.close_connection = True
                return
            url = urlsplit(self.path)
            _, version, kind, *rest = url.path.split("/")
            assert version == "v1.41"
            if self.command == "GET":
                status, answer = engine.get(kind, url.query)
            else:
                status, answer = engine.delete(kind, unquote(rest[0]), url.query)
            body = json.dumps(answer).encode() if answer is not None else b""
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_DELETE = do_GET  # noqa: N815 - the name is http.server's

    class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
        daemon_threads = True

    with Server(str(engine.path), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield engine
        server.shutdown()
        thread.join()


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time passes in the pauses alone, and at once: how many looks there are does not depend on the machine."""

    class Pauses(threading.Event):
        passed = 0.0

        def wait(self, timeout: float | None = None) -> bool:
            assert timeout is not None
            Pauses.passed += timeout
            return self.is_set()

    monkeypatch.setattr(reaper_cleanup, "_hurried", Pauses())
    monkeypatch.setattr(reaper_cleanup, "time", SimpleNamespace(monotonic=lambda: Pauses.passed))


def remove(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, label: str = LABEL, owner: int = 0) -> None:
    """As the script does, but for the signals, which are this process's. By default the owner is dead."""
    monkeypatch.setattr(
        sys, "argv", ["reaper_cleanup.py", str(engine.path), "1.41", label, str(reaper_cleanup.QUIET), str(owner)]
    )
    monkeypatch.setattr(reaper_cleanup, "hurry_when_asked", lambda: None)
    reaper_cleanup.main()


@pytest.mark.usefixtures("quickly")
class TestRemoval:
    def test_everything_with_the_label_goes(self, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
        remove(engine, monkeypatch)
        assert engine.is_empty
        # Containers first, since they hold networks and volumes; with the volumes that only they have.
        assert sorted(engine.deleted[:2]) == ["c1?force=1&v=1", "c2?force=1&v=1"]
        assert engine.deleted[2:] == ["n1?", "v/1?force=1"]

    def test_nothing_else_goes(self, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
        remove(engine, monkeypatch, "org.triton-env.environment=another")
        assert engine.deleted == []

    def test_what_the_engine_was_still_creating_goes(self, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
        engine.late = {3: "c3", 4: "c4"}
        remove(engine, monkeypatch)
        assert engine.late == {}
        assert engine.is_empty

    def test_an_engine_that_restarts_is_waited_for(self, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
        engine.down = 7
        remove(engine, monkeypatch)
        assert engine.is_empty

    def test_an_engine_that_is_not_there_ends_its_patience(
        self, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        engine.path = engine.path.with_name("no.sock")
        remove(engine, monkeypatch)
        assert not engine.is_empty

    def test_an_engine_is_waited_for_as_long_as_an_owner_lives_that_has_given_up(
        self, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Many times its patience.
        engine.down = int(10 * reaper_cleanup.PATIENCE / reaper_cleanup._LONGEST_PAUSE)
        remove(engine, monkeypatch, owner=os.getppid())
        assert engine.is_empty

    def test_what_cannot_be_removed_is_tried_again(self, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
        engine.stubborn = {"n1"}
        remove(engine, monkeypatch)
        assert engine.there == {"containers": set(), "networks": {"n1"}, "volumes": set()}
        assert engine.deleted.count("n1?") > 1

    def test_who_is_asked_to_hurry_looks_once(self, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
        reaper_cleanup._hurried.set()
        monkeypatch.setattr(reaper_cleanup, "QUIET", 60)
        remove(engine, monkeypatch)
        assert engine.is_empty
        engine.down = 1 << 20
        remove(engine, monkeypatch)


class TestReaperHandle:
    """The owner is this process, which lives on."""

    def test_the_reaper_is_there_at_once_in_a_session_of_its_own_and_ends(
        self, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # One that did not end in time would be killed.
        monkeypatch.setattr(line, "_END_TIMEOUT", 60)
        handle = ReaperHandle(f"unix://{engine.path}", "1.41", "1a2b3c4d")
        process = handle._process
        assert process is not None
        assert os.getsid(process.pid) == process.pid
        # The kernel tells that the program was started a moment before it shows its arguments.
        assert until(lambda: LABEL in psutil.Process(process.pid).cmdline()), "it is not called with the label"
        handle.end()
        assert process.returncode == 0
        handle.end()
        assert engine.deleted == []

    def test_one_that_was_killed_is_no_error(self, engine: FakeEngine) -> None:
        handle = ReaperHandle(f"unix://{engine.path}", "1.41", "1a2b3c4d")
        assert handle._process is not None
        handle._process.kill()
        handle.end()

    def test_what_is_left_is_removed_at_once_though_the_owner_lives(self, engine: FakeEngine) -> None:
        handle = ReaperHandle(f"unix://{engine.path}", "1.41", LABEL.partition("=")[2])
        process = handle._process
        assert process is not None
        handle.leave()
        handle.leave()
        assert until(lambda: engine.is_empty), "nothing was removed"
        # It looks whether something turns up, unless it is told that all is done.
        handle.end()
        assert process.returncode == 0

    def test_one_that_removes_in_vain_ends_with_the_word_that_all_is_done(self, engine: FakeEngine) -> None:
        engine.down = 1 << 20
        handle = ReaperHandle(f"unix://{engine.path}", "1.41", LABEL.partition("=")[2])
        handle.leave()
        assert until(lambda: engine.down < 1 << 20), "it does not try"
        handle.end()

    def test_an_environment_starts_without_one(
        self, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(sys, "executable", "/nowhere/python")
        handle = ReaperHandle(f"unix://{engine.path}", "1.41", "1a2b3c4d")
        assert "No process will clean up" in caplog.text
        handle.end()
        handle.leave()

    def test_an_environment_that_is_killed_is_removed(self, engine: FakeEngine, tmp_path: Path) -> None:
        script = (
            "import sys, time; from triton_env.runtimes.docker.reaper_client import ReaperHandle; "
            f"ReaperHandle('unix://{engine.path}', '1.41', '1a2b3c4d'); print(flush=True); time.sleep(300)"
        )
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            assert not engine.is_empty
            process.kill()
        assert until(lambda: engine.is_empty), "not everything was removed"
        # It goes on looking for a while, which need not be waited for here.
        for each in psutil.process_iter(["cmdline"]):
            if str(engine.path) in (each.info["cmdline"] or ()):
                with suppress(psutil.NoSuchProcess):
                    each.terminate()
                assert until(lambda each=each: has_ended(each)), "the reaper runs on"
