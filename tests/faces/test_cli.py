"""The command line on fake runtimes: what is printed where, exit statuses, signals, what is left behind."""

import json
import os
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from triton_env import TritonEnvironment, __version__
from triton_env.cli import command_line, commands, serve
from triton_env.core.commands import runnable
from triton_env.core.ending import Ending
from triton_env.errors import CleanupFailed, EngineUnreachable, ServiceExited
from triton_env.services import SERVICES, Service
from triton_env.settings import unknown_variables
from unit.fakes import FakeRuntime, FakeRuntimes, fails_with, installed, until_cancelled

TESTS = Path(__file__).parents[1]


@pytest.fixture
def runtimes() -> Iterator[FakeRuntimes]:
    with installed() as runtimes:
        yield runtimes


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which running environments are listed."""
    monkeypatch.setenv("TRITON_STATE_DIR", str(tmp_path / "state"))
    # Of which no persistent services run, whatever else does on this machine's engine.
    monkeypatch.setenv("TRITON_PROJECT", "no-such-project")
    return tmp_path / "state" / "environments"


@pytest.fixture
def holding(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set when `serve` has said all that it says."""
    event = threading.Event()

    def hold(environment: TritonEnvironment) -> None:
        event.set()
        original(environment)

    original = serve._hold
    monkeypatch.setattr(serve, "_hold", hold)
    return event


def cli(*arguments: str) -> Result:
    return CliRunner().invoke(command_line, arguments)


@pytest.mark.parametrize("command", ["mcp", "ps --watch", "status --watch"])
def test_ctrl_c_ends_what_goes_on_until_then_while_it_still_loads(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("triton_env.agents.tools.Tools.__init__", interrupted)
    monkeypatch.setattr("triton_env.inspection.Inspector.__init__", interrupted)
    monkeypatch.setattr("triton_env.cli.status.session_of", interrupted)
    assert cli(*command.split()).exit_code == 0


def test_a_page_for_which_there_is_no_browser_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from triton_env import Settings
    from triton_env.cli.dashboard import opened

    monkeypatch.setattr("webbrowser.open", lambda url: False)
    with opened(Settings(), "http://127.0.0.1:1/?token=t"):
        pass
    assert "No browser was found" in (words := capsys.readouterr().err)
    assert "http://127.0.0.1:1/?token=t" in words


@contextmanager
def once(condition: Callable[[], object], action: Callable[[], object]) -> Iterator[None]:
    """In a thread, wait until `condition` is true and then do `action`."""

    def work() -> None:
        while not condition():
            time.sleep(0.01)
        action()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    yield
    thread.join()


def signalled(number: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


def is_raw(terminal: int) -> bool:
    flags: int = termios.tcgetattr(terminal)[3]
    return not flags & termios.ISIG


def published(state: Path) -> Callable[[], list[Path]]:
    return lambda: list(state.glob("*.json"))


class TestHelp:
    HEAVY = ("docker", "testcontainers", "pydantic", "pydantic_settings", "rich", "psycopg", "boto3", "redis")

    def test_loads_nothing_heavy(self) -> None:
        script = f"""
import sys
from triton_env.cli import command_line
for arguments in (["--help"], ["--version"], *([name, "--help"] for name in {tuple(commands())!r})):
    try:
        command_line.main(arguments)
    except SystemExit as end:
        assert end.code == 0, end.code
    assert "click" in sys.modules
    assert set(sys.modules).isdisjoint({self.HEAVY!r}), arguments
"""
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    def test_names_every_command(self) -> None:
        result = cli("--help")
        assert result.exit_code == 0
        for name in commands():
            assert f"\n  {name} " in result.stdout

    def test_version(self) -> None:
        assert cli("--version").stdout == f"triton-env {__version__}\n"

    @pytest.mark.parametrize("program", [["-m", "triton_env"], [str(Path(sys.executable).with_name("triton-env"))]])
    def test_both_programs_are_there(self, program: list[str]) -> None:
        command = [sys.executable, *program] if program[0] == "-m" else program
        done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
        assert done.stdout == f"triton-env {__version__}\n"


class TestWrongUse:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["srve"], "No such command 'srve'. Did you mean 'serve'?"),
            (["frobnicate"], "No such command 'frobnicate'."),
            (["serve", "--services", "postgres,mongo"], "there is no service 'mongo'; choose from postgres, click"),
            (["serve", "--services", "postgress"], "Did you mean 'postgres'?"),
            (["serve", "--services", ","], "name at least one of"),
            (["serve", "--runtime", "dokcer"], "Did you mean 'docker'?"),
            (["run"], "Missing argument 'CMD...'"),
            (["env", "--format", "yaml"], "'yaml' is not one of"),
        ],
    )
    def test_exits_2_and_says_what_is_allowed(self, arguments: list[str], words: str, runtimes: FakeRuntimes) -> None:
        result = cli(*arguments)
        assert result.exit_code == 2
        assert result.stdout == ""
        assert words in " ".join(result.stderr.split())
        assert runtimes.opened == []

    @pytest.mark.parametrize("command", [["serve"], ["run", "--", "true"], ["env"]])
    def test_a_variable_that_cannot_be_used(
        self, command: list[str], runtimes: FakeRuntimes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TRITON_PULL", "many")
        result = cli(*command)
        assert result.exit_code == 2
        assert "TRITON_PULL" in result.stderr
        assert "Traceback" not in result.stderr


def test_a_misspelt_variable_is_reported_by_every_command(
    runtimes: FakeRuntimes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unknown_variables, "_warned", set())
    monkeypatch.setenv("TRITON_RUNTIM", "embedded")
    assert "did you mean TRITON_RUNTIME?" in cli("run", "--services", "redis", "--", "true").stderr
    monkeypatch.setattr(unknown_variables, "_warned", set())
    assert "did you mean TRITON_RUNTIME?" in cli("env").stderr


class TestFailure:
    def test_an_error_is_reported_in_its_own_words(self, runtimes: FakeRuntimes) -> None:
        error = EngineUnreachable("No engine.", where="unix:///x", cause="refused", hint="start it")
        runtimes.open_error = error
        result = cli("serve", "--services", "redis")
        assert result.exit_code == 1
        assert result.stdout == ""
        assert result.stderr == "error: No engine.\n  where: unix:///x\n  cause: refused\n\nhint: start it\n"

    def test_what_the_cleanup_adds_is_reported_too(self, runtimes: FakeRuntimes) -> None:
        runtimes.behaviours["redis"] = fails_with(ServiceExited("Redis exited."))
        runtimes.stop_error = CleanupFailed("Something is left.", hint="docker rm")
        result = cli("serve", "--services", "redis")
        assert result.exit_code == 1
        assert "error: Redis exited." in result.stderr
        assert "error: Something is left.\n\nhint: docker rm" in result.stderr

    def test_an_unexpected_exception_is_one_short_message(self, runtimes: FakeRuntimes) -> None:
        runtimes.open_error = KeyError("x" * 1000)
        result = cli("serve")
        assert result.exit_code == 1
        assert "This should not have happened: KeyError" in result.stderr
        assert "DEBUG_MODE=true" in result.stderr
        assert "Traceback" not in result.stderr
        assert max(len(line) for line in result.stderr.splitlines()) < 250

    @pytest.mark.parametrize("error", [KeyError("x"), EngineUnreachable("No engine.")])
    def test_debug_mode_shows_the_traceback(
        self,
        error: Exception,
        runtimes: FakeRuntimes,
        monkeypatch: pytest.MonkeyPatch,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setenv("DEBUG_MODE", "true")
        runtimes.open_error = error
        assert "Traceback (most recent call last)" in cli("serve").stderr


class TestServe:
    def test_prints_the_table_and_holds_until_it_is_asked_to_stop(
        self, runtimes: FakeRuntimes, state: Path, holding: threading.Event
    ) -> None:
        with once(holding.is_set, signalled(signal.SIGINT)):
            result = cli("serve")
        assert result.exit_code == 0
        password = runtimes.last.settings.postgres_password.get_secret_value()
        assert f"postgresql://triton_user:{password}@127.0.0.1:25432/triton" in result.stdout
        assert "native protocol at 127.0.0.1:29000" in result.stdout
        for service in SERVICES.values():
            assert service.title in result.stdout
        assert "on the docker runtime, since " in result.stderr
        assert "Stopping (Ctrl-C)" in result.stderr
        assert "Nothing is left." in result.stderr
        assert password not in result.stderr
        assert runtimes.last.stops == 1
        assert published(state)() == []

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
    def test_other_signals_end_it_as_well(self, number: int, runtimes: FakeRuntimes, holding: threading.Event) -> None:
        with once(holding.is_set, signalled(number)):
            assert cli("serve").exit_code == 0
        assert runtimes.last.stops == 1

    def test_a_signal_that_comes_in_a_finalizer_ends_it_as_well(
        self, runtimes: FakeRuntimes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Finalized:
            def __del__(self) -> None:
                signal.raise_signal(signal.SIGTERM)

        def hold(environment: TritonEnvironment) -> None:
            Finalized()
            original(environment)

        original = serve._hold
        monkeypatch.setattr(serve, "_hold", hold)
        result = cli("serve")
        assert result.exit_code == 0
        assert "Stopping (SIGTERM)" in result.stderr
        assert runtimes.last.stops == 1

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_a_signal_during_the_start_is_no_success(self, number: int, runtimes: FakeRuntimes, state: Path) -> None:
        runtimes.behaviours["s3"] = until_cancelled
        with once(lambda: runtimes.opened and len(runtimes.last.ready) == 3, signalled(number)):
            result = cli("serve")
        assert result.exit_code == 128 + number
        assert "Interrupted by" in result.stderr
        assert result.stdout == ""
        assert runtimes.last.stops == 1
        assert published(state)() == []

    def test_a_cleanup_that_fails_after_a_signal_is_reported(self, runtimes: FakeRuntimes) -> None:
        runtimes.behaviours["s3"] = until_cancelled
        runtimes.stop_error = CleanupFailed("Something is left.", hint="docker rm")
        with once(lambda: runtimes.opened and len(runtimes.last.ready) == 3, signalled(signal.SIGTERM)):
            result = cli("serve")
        assert result.exit_code == 143
        assert "is removed" not in result.stderr
        assert "error: Something is left.\n\nhint: docker rm" in result.stderr

    def test_a_cleanup_that_fails_at_the_end_is_an_error(
        self, runtimes: FakeRuntimes, holding: threading.Event
    ) -> None:
        runtimes.stop_error = CleanupFailed("Something is left.", hint="docker rm")
        with once(holding.is_set, signalled(signal.SIGTERM)):
            result = cli("serve")
        assert result.exit_code == 1
        assert "Nothing is left" not in result.stderr
        assert "error: Something is left." in result.stderr

    def test_impatience_does_not_break_off_the_cleanup(self, runtimes: FakeRuntimes, holding: threading.Event) -> None:
        sent = threading.Event()

        def press() -> None:
            for _ in range(3):
                signalled(signal.SIGINT)()
            sent.set()

        def stop() -> None:
            # The last of the three may not come after the end, when it would hit the tests.
            assert sent.wait(60)
            signalled(signal.SIGINT)()

        runtimes.on_stop = stop
        with once(holding.is_set, press):
            assert cli("serve").exit_code == 0
        assert runtimes.last.stops == 1

    def test_the_signal_handlers_are_put_back(self, runtimes: FakeRuntimes, holding: threading.Event) -> None:
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = [signal.getsignal(number) for number in numbers]
        with once(holding.is_set, signalled(signal.SIGTERM)):
            cli("serve")
        assert [signal.getsignal(number) for number in numbers] == before

    def test_json_is_one_line_for_programs(self, runtimes: FakeRuntimes, holding: threading.Event) -> None:
        with once(holding.is_set, signalled(signal.SIGTERM)):
            result = cli("serve", "--json", "--services", "clickhouse,s3")
        (line,) = result.stdout.splitlines()
        data = json.loads(line)
        assert data["id"] == runtimes.last.environment
        assert data["runtime"] == "docker"
        assert list(data["services"]) == ["clickhouse", "s3"]
        clickhouse = data["services"]["clickhouse"]
        assert clickhouse["host"] == "127.0.0.1"
        assert clickhouse["port"] == 28123
        assert clickhouse["ports"] == {"http": 28123, "native": 29000}
        assert clickhouse["url"].endswith("@127.0.0.1:28123/triton")
        assert clickhouse["internal_url"].endswith("@clickhouse:8123/triton")
        assert data["environ"]["AWS_ENDPOINT_URL"] == "http://127.0.0.1:24566"

    def test_the_env_file_is_there_while_it_is_true(self, runtimes: FakeRuntimes, state: Path, tmp_path: Path) -> None:
        path = tmp_path / "session.env"
        seen: list[tuple[int, str]] = []

        def look() -> None:
            seen.append((path.stat().st_mode & 0o777, path.read_text()))
            signalled(signal.SIGTERM)()

        before = os.umask(0)
        try:
            with once(path.exists, look):
                assert cli("serve", "--env-file", str(path)).exit_code == 0
        finally:
            os.umask(before)
        ((mode, text),) = seen
        assert mode == 0o600
        assert "\nREDIS_PORT=26379\n" in text
        assert list(tmp_path.iterdir()) == [state.parent]

    def test_it_says_why_it_runs_where_it_runs(self, runtimes: FakeRuntimes, holding: threading.Event) -> None:
        with once(holding.is_set, signalled(signal.SIGTERM)):
            result = cli("serve", "--services", "redis")
        assert f"on the docker runtime, since {runtimes.last.reason}." in result.stderr

    @pytest.mark.parametrize(
        ("image", "services", "warns"),
        [("postgres:14-alpine", "postgres", True), ("postgres:14", "redis", False), ("postgres:18", "postgres", False)],
    )
    def test_it_warns_of_a_postgresql_without_support(
        self,
        image: str,
        services: str,
        warns: bool,
        runtimes: FakeRuntimes,
        holding: threading.Event,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("POSTGRES_IMAGE", image)
        with once(holding.is_set, signalled(signal.SIGTERM)):
            result = cli("serve", "--services", services)
        lines = [line for line in result.stderr.splitlines() if "2026-11-12" in line]
        assert len(lines) == warns

    def test_it_says_when_a_service_stops_answering_and_when_it_is_back(
        self, runtimes: FakeRuntimes, state: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        answers = iter([True, False, False, True])
        rounds: list[bool] = []

        def answer(service: object) -> bool:
            rounds.append(next(answers, True))
            return rounds[-1]

        monkeypatch.setattr("triton_env.cli.serve._WATCH_INTERVAL", 0.01)
        monkeypatch.setattr("triton_env.cli.serve._answers", answer)
        with once(lambda: len(rounds) > 5, signalled(signal.SIGTERM)):
            result = cli("serve", "--services", "redis")
        assert result.stderr.count("Redis no longer responds at 127.0.0.1:26379") == 1
        assert "redis line 0" in result.stderr
        assert result.stderr.count("Redis responds again.") == 1

    def test_it_says_how_a_server_died_and_holds_the_others(
        self, runtimes: FakeRuntimes, state: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rounds = self.dying(runtimes, monkeypatch, "redis")
        with once(lambda: len(rounds) > 5, signalled(signal.SIGTERM)):
            result = cli("serve", "--services", "redis,postgres")
        assert result.exit_code == 0
        said = "warning: Redis died at 00:00:01 UTC: ended by signal 9 (SIGKILL). The other services keep running."
        assert " ".join(result.stderr.split()).count(said) == 1
        assert "redis line 0" in result.stderr

    def test_it_ends_when_all_have_died(
        self, runtimes: FakeRuntimes, state: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.dying(runtimes, monkeypatch, "redis", "postgres")
        result = cli("serve", "--services", "redis,postgres")
        assert result.exit_code == 1
        assert "died at 00:00:01 UTC." in result.stderr
        assert runtimes.opened[0].stops == 1

    def dying(self, runtimes: FakeRuntimes, monkeypatch: pytest.MonkeyPatch, *names: str) -> list[str]:
        """Have these servers be dead when `serve` looks; returns what it has looked at."""
        looks: list[str] = []

        def answer(service: Service) -> bool:
            looks.append(service.name)
            return service.name not in names

        ending = Ending("process 1", "begin anew", status=-9, at=1.0)
        monkeypatch.setattr(
            FakeRuntime, "ending", lambda self, service, look=True: ending if service in names else None
        )
        monkeypatch.setattr("triton_env.cli.serve._WATCH_INTERVAL", 0.01)
        monkeypatch.setattr("triton_env.cli.serve._answers", answer)
        return looks


class TestEnvFileThatIsNotOurs:
    def check(self, path: Path, runtimes: FakeRuntimes) -> str:
        result = cli("serve", "--env-file", str(path))
        assert result.exit_code == 2
        assert runtimes.opened == []
        return " ".join(result.stderr.split())

    def test_another_file_is_left_alone(self, tmp_path: Path, runtimes: FakeRuntimes) -> None:
        path = tmp_path / ".env"
        path.write_text("POSTGRES_DB=mine\n")
        assert "was not written by triton-env" in self.check(path, runtimes)
        assert path.read_text() == "POSTGRES_DB=mine\n"

    def test_a_symlink_is_not_followed(self, tmp_path: Path, runtimes: FakeRuntimes) -> None:
        path = tmp_path / "link"
        path.symlink_to(tmp_path / "target")
        assert "not an ordinary file" in self.check(path, runtimes)
        assert not (tmp_path / "target").exists()

    def test_a_missing_folder_is_said_before_the_start(self, tmp_path: Path, runtimes: FakeRuntimes) -> None:
        assert "missing does not exist" in " ".join(self.check(tmp_path / "missing" / "x.env", runtimes).split())

    def test_one_that_a_killed_serve_left_is_replaced(
        self, tmp_path: Path, runtimes: FakeRuntimes, state: Path
    ) -> None:
        path = tmp_path / "x.env"
        path.write_text("# Written by `triton-env serve`, which removes it when it ends. Environment: dead0000\nA=1\n")
        path.chmod(0o644)
        with once(lambda: "REDIS_URL" in path.read_text(), signalled(signal.SIGTERM)):
            assert cli("serve", "--env-file", str(path), "--services", "redis").exit_code == 0
        assert not path.exists()

    def test_one_that_took_its_place_meanwhile_stays(self, tmp_path: Path, runtimes: FakeRuntimes, state: Path) -> None:
        path = tmp_path / "x.env"

        def replace() -> None:
            path.write_text("MINE=1\n")
            signalled(signal.SIGTERM)()

        with once(path.exists, replace):
            assert cli("serve", "--env-file", str(path), "--services", "redis").exit_code == 0
        assert path.read_text() == "MINE=1\n"


class TestEnv:
    def test_prints_the_variables_of_what_serve_started(self, runtimes: FakeRuntimes, state: Path) -> None:
        seen: list[Result] = []

        def ask() -> None:
            arguments = [[sys.executable, "-m", "triton_env", "env", "--format", form] for form in ("dotenv", "json")]
            seen.extend(subprocess.run(each, capture_output=True, text=True, check=True) for each in arguments)  # type: ignore[misc]
            signalled(signal.SIGTERM)()

        with once(published(state), ask):
            cli("serve", "--services", "redis")
        dotenv, as_json = (each.stdout for each in seen)
        variables = json.loads(as_json)
        assert variables["REDIS_PORT"] == "26379"
        assert dotenv == "".join(f"{name}={value}\n" for name, value in variables.items())

    def test_where_nothing_runs_it_says_how_to_start_something(self) -> None:
        result = cli("env")
        assert result.exit_code == 1
        assert runnable("hint: start one with: python -m triton_env serve") in result.stderr
        assert result.stdout == ""


class TestRun:
    SHOW = "import os; print(os.environ['REDIS_URL'], os.environ['MINE'])"

    def test_gives_the_command_the_variables_and_its_output_is_the_output(
        self, runtimes: FakeRuntimes, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MINE", "yes")
        monkeypatch.setenv("REDIS_URL", "redis://elsewhere")
        result = cli("run", "--services", "redis", "--", sys.executable, "-c", self.SHOW)
        assert result.exit_code == 0
        assert result.stdout == ""
        password = runtimes.last.settings.redis_password.get_secret_value()
        assert capfd.readouterr().out == f"redis://:{password}@127.0.0.1:26379/0 yes\n"
        assert runtimes.last.stops == 1

    def test_leaves_out_what_would_lead_the_command_elsewhere(
        self, runtimes: FakeRuntimes, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PGHOSTADDR", "192.0.2.1")
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://192.0.2.1")
        script = "import os; print(*(os.environ.get(name) for name in ('PGHOSTADDR', 'AWS_ENDPOINT_URL_S3')))"
        result = cli("run", "--services", "postgres", "--", sys.executable, "-c", script)
        assert capfd.readouterr().out == "None http://192.0.2.1\n"
        assert "without PGHOSTADDR" in result.stderr

    def test_options_after_the_command_are_the_commands(
        self, runtimes: FakeRuntimes, capfd: pytest.CaptureFixture[str]
    ) -> None:
        script = "import sys; print(sys.argv[1:])"
        assert cli("run", sys.executable, "-c", script, "--services", "x", "--help").exit_code == 0
        assert capfd.readouterr().out == "['--services', 'x', '--help']\n"

    @pytest.mark.parametrize(
        ("script", "status"),
        [
            ("raise SystemExit(7)", 7),
            ("import os; os.kill(os.getpid(), 9)", 137),
            ("import os; os.kill(os.getpid(), 15)", 143),
        ],
    )
    def test_passes_the_exit_status_on(self, script: str, status: int, runtimes: FakeRuntimes) -> None:
        assert cli("run", "--", sys.executable, "-c", script).exit_code == status
        assert runtimes.last.stops == 1

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_passes_signals_on_and_lets_the_command_end_in_its_own_way(
        self, number: int, runtimes: FakeRuntimes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Where the tests themselves run in a terminal, Ctrl-C would have reached the command.
        monkeypatch.setattr("triton_env.cli.run._in_foreground", lambda: False)
        ready = tmp_path / "ready"
        script = f"""
import pathlib, signal, time
signal.signal({number}, lambda *_: exit(42))
pathlib.Path({str(ready)!r}).touch()
while True:
    time.sleep(0.05)
"""
        with once(ready.exists, signalled(number)):
            assert cli("run", "--", sys.executable, "-c", script).exit_code == 42
        assert runtimes.last.stops == 1

    def test_a_signal_during_the_start_ends_it(self, runtimes: FakeRuntimes, tmp_path: Path) -> None:
        runtimes.behaviours["s3"] = until_cancelled
        with once(lambda: runtimes.opened and len(runtimes.last.ready) == 3, signalled(signal.SIGTERM)):
            result = cli("run", "--", sys.executable, "-c", f"open({str(tmp_path / 'x')!r}, 'w')")
        assert result.exit_code == 143
        assert not (tmp_path / "x").exists()
        assert runtimes.last.stops == 1

    def test_no_such_command_is_said_before_the_start(self, runtimes: FakeRuntimes, tmp_path: Path) -> None:
        result = cli("run", "--", "no-such-command-anywhere")
        assert result.exit_code == 127
        assert "The command 'no-such-command-anywhere' cannot be run." in result.stderr
        (tmp_path / "data").write_text("")
        assert cli("run", "--", str(tmp_path / "data")).exit_code == 126
        assert cli("run", "--", str(tmp_path / "nothing")).exit_code == 127
        assert runtimes.opened == []

    def test_a_command_that_is_beside_this_python_is_given_by_its_path(
        self, runtimes: FakeRuntimes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        program = tmp_path / "only-in-this-venv"
        program.write_text("")
        program.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
        result = cli("run", "--", program.name)
        assert f"hint: this Python has it: {runnable('python -m triton_env')} run -- {program}" in " ".join(
            result.stderr.split()
        )
        assert runtimes.opened == []

    @pytest.mark.parametrize(
        ("command", "hint"),
        [
            ("no-such-command-anywhere", "hint: install it, or give its path"),
            ("cd app && pytest", "run -- sh -c 'cd app && pytest'"),
        ],
    )
    def test_a_command_that_is_not_there_says_what_helps(self, command: str, hint: str, runtimes: FakeRuntimes) -> None:
        result = cli("run", "--", command)
        assert result.exit_code == 127
        assert hint in " ".join(result.stderr.split())
        assert "comes after --" not in result.stderr
        assert runtimes.opened == []

    def test_a_command_that_the_system_refuses(self, runtimes: FakeRuntimes, tmp_path: Path) -> None:
        program = tmp_path / "program"
        program.write_text("no shebang, no binary")
        program.chmod(0o755)
        assert cli("run", "--", str(program)).exit_code == 126
        assert runtimes.last.stops == 1

    def test_ctrl_c_on_a_terminal_reaches_the_command_once(self, tmp_path: Path) -> None:
        ready, count = tmp_path / "ready", tmp_path / "count"
        command = f"""
import pathlib, signal, time
seen = []
signal.signal(signal.SIGINT, lambda *_: seen.append(1))
pathlib.Path({str(ready)!r}).touch()
while not seen:
    time.sleep(0.05)
time.sleep(0.5)
pathlib.Path({str(count)!r}).write_text(str(len(seen)))
exit(5)
"""
        program = f"""
import sys
sys.path.insert(0, {str(TESTS)!r})
from unit.fakes import installed
from triton_env.cli import command_line
with installed():
    command_line.main(["run", "--", sys.executable, "-c", {command!r}])
"""
        # In a process of its own beyond fork: this one has threads.
        launcher = f"import pty, sys; sys.exit(pty.spawn([sys.executable, '-c', {program!r}]) >> 8)"
        master, slave = os.openpty()
        process = subprocess.Popen([sys.executable, "-c", launcher], stdin=slave, stdout=subprocess.DEVNULL)
        try:
            # What is typed before the launcher has its terminal in raw mode would not get through to the other one.
            while process.poll() is None and not (ready.exists() and is_raw(slave)):
                time.sleep(0.01)
            os.write(master, b"\x03")
            assert process.wait() == 5
        finally:
            process.kill()
            os.close(master)
            os.close(slave)
        assert count.read_text() == "1"
