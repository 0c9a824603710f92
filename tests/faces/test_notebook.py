"""In a real kernel: progress, the environment's page, a running event loop, SQL, and the ways in which kernels end."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import psycopg
import pytest

from faces.notebooks import TIMEOUT, Kernel, kernel
from patience import WAIT, until
from triton_env import Settings
from triton_env.state.registry import Registry

pytestmark = [pytest.mark.usefixtures("embedded_packages"), pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def started() -> Iterator[Kernel]:
    """A kernel with `env`, of all four services."""
    with kernel() as running:
        running.run("from triton_env import Settings, TritonEnvironment\n%load_ext triton_env")
        cell = running.run("env = TritonEnvironment(runtime='embedded').start()")
        assert cell.error == ""
        yield running
        assert running.run("env.stop()").error == ""


class TestProgress:
    def test_is_one_output_below_the_cell_updated_in_place(self, started: Kernel) -> None:
        cell = started.run(
            "with TritonEnvironment(runtime='embedded', services=('redis', 'postgres')): print('in the block')"
        )
        assert cell.error == ""
        assert cell.printed == "in the block\n"
        assert len(cell.shown) == 1
        assert cell.updates >= 1
        assert re.fullmatch(r"PostgreSQL \d+\.\d s   Redis \d+\.\d s", cell.text)
        html = cell.shown[0]["text/html"]
        assert re.search(r"✓.*PostgreSQL.*\d s.*✓.*Redis.*\d s", html)
        assert "<script" not in html

    def test_of_a_lazy_start_goes_on_below_its_cell(self, started: Kernel) -> None:
        cell = started.run("lazy = TritonEnvironment(runtime='embedded', services=('redis',), lazy=True).start()")
        started.begin("lazy.redis.client().ping()")
        # The last word of the progress comes while that cell runs, or just after it.
        later = started.follow(lambda now: bool(now.shown or now.error) and ":" not in cell.text)
        assert (later.error, later.text) == ("", "True")
        assert re.fullmatch(r"Redis \d+\.\d s", cell.text)
        started.run("lazy.stop()")

    def test_of_a_failed_start_tells_who_is_to_blame(self, started: Kernel) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            settings = f"Settings(triton_ports='fixed', redis_port={taken.getsockname()[1]})"
            cell = started.run(f"TritonEnvironment({settings}, runtime='embedded', services=('redis',)).start()")
        assert cell.text == "Redis failed"
        assert "✗" in cell.shown[0]["text/html"]
        assert "PortTaken" in cell.error

    @pytest.mark.parametrize(("mode", "lines"), [("plain", 1), ("off", 0)])
    def test_may_be_lines_or_nothing(self, started: Kernel, mode: str, lines: int) -> None:
        settings = f"Settings(triton_progress='{mode}')"
        cell = started.run(f"with TritonEnvironment({settings}, runtime='embedded', services=('redis',)): pass")
        assert (cell.shown, cell.error) == ([], "")
        assert cell.printed.count("triton-env: Redis ready after") == lines == len(cell.printed.splitlines())


def test_in_ipython_on_a_terminal_it_is_that_of_a_terminal(tmp_path: Path) -> None:
    code = "from triton_env.core.kernel import in_kernel; print('in a kernel:', in_kernel())"
    done = subprocess.run(
        [sys.executable, "-m", "IPython", "--no-banner", "--colors=NoColor", "-c", code],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=True,
        env=os.environ | {"IPYTHONDIR": str(tmp_path)},
    )
    assert "in a kernel: False" in done.stdout


def test_the_environment_is_shown_as_a_page(started: Kernel) -> None:
    cell = started.run("env")
    assert re.fullmatch(r"<TritonEnvironment [0-9a-f]{8} running: postgres, clickhouse, redis, s3>", cell.text)
    assert "<details>" in cell.shown[0]["text/html"]


def test_the_timeline_is_shown_as_a_table(started: Kernel) -> None:
    cell = started.run("env.timeline")
    assert re.fullmatch(r"<Timeline \d+\.\d\d s: (\w+ \d+\.\d\d s(, )?){4}>", cell.text)
    assert cell.shown[0]["text/html"].count("<tr>") == 5


class TestErrors:
    def test_show_their_message_and_the_place_in_the_cell(self, started: Kernel) -> None:
        cell = started.run("x = 1\nenv.restore('none')")
        first, at, *_ = cell.error.splitlines()
        assert first.startswith("UsageError: ")
        assert at == "  at: line 2 of the cell: env.restore('none')"
        assert "site-packages" not in cell.error
        assert "isolat" not in cell.error
        assert len(cell.error.splitlines()) < 8

    def test_name_the_line_of_a_module_of_the_user(self, started: Kernel, tmp_path: Path) -> None:
        (tmp_path / "loading.py").write_text("def load(env):\n    env.service('mongo')\n")
        cell = started.run(f"import sys; sys.path.insert(0, {str(tmp_path)!r})\nimport loading\nloading.load(env)")
        assert "  at: line 2 of loading.py: env.service('mongo')" in cell.error.splitlines()

    def test_of_a_magic_show_no_line_of_python(self, started: Kernel) -> None:
        cell = started.run("%%sql postgres --env nothing\nselect 1")
        assert cell.error.startswith("UsageError: The variable 'nothing' is not defined.")
        assert "get_ipython" not in cell.error

    def test_of_others_are_shown_in_full(self, started: Kernel) -> None:
        assert "Traceback" in started.run("env.postgres.connect().execute('selct')").error


def test_an_interrupted_start_leaves_nothing(started: Kernel) -> None:
    started.run(
        "from triton_env.services import Redis\n"
        "ready, Redis.ensure_ready = Redis.ensure_ready, lambda self: (print('asked', flush=True), 1 / 0)\n"
        "interrupted = TritonEnvironment(runtime='embedded', services=('redis',))"
    )
    before = servers_of(started)
    started.begin("interrupted.start()")
    started.wait_for_print()
    assert len(servers_of(started)) == len(before) + 1
    started.manager.interrupt_kernel()
    assert until(lambda: servers_of(started) == before)
    assert started.run("Redis.ensure_ready = ready").error == ""
    assert "stopped" in started.run("interrupted").text


def servers_of(running: Kernel) -> list[int]:
    """The Redis servers that run for a kernel."""
    processes = psutil.Process(running.pid).children(recursive=True)
    return sorted(pid for pid, name in names(processes).items() if name == "valkey-server")


def names(processes: Iterable[psutil.Process]) -> dict[int, str]:
    """The names of processes by id. One that has ended since it was listed, such as PostgreSQL's for a connection that
    was closed a moment ago, is left out.
    """
    found: dict[int, str] = {}
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            found[process.pid] = process.name()
    return found


class TestRunningLoop:
    def test_a_start_in_a_cell_is_one_in_a_running_loop(self, started: Kernel) -> None:
        cell = started.run(
            "import asyncio\n"
            "asyncio.get_running_loop()\n"
            "with TritonEnvironment(runtime='embedded', services=('redis',)) as e: print(e.redis.client().ping())"
        )
        assert (cell.error, cell.printed) == ("", "True\n")

    def test_asynchronous_clients(self, started: Kernel) -> None:
        cell = started.run(
            "async with await env.postgres.aconnect() as c:\n"
            "    print(await (await c.execute('select 1')).fetchone())\n"
            "client = await env.clickhouse.aclient()\n"
            "print((await client.query('select 2')).result_rows)\n"
            "await client.close()\n"
            "async with env.redis.aclient() as c: print(await c.ping())\n"
            "print((await env.s3.aclient().list_buckets())['Buckets'][0]['Name'])"
        )
        assert (cell.error, cell.printed) == ("", "(1,)\n[(2,)]\nTrue\ntriton-documents\n")

    def test_async_with(self, started: Kernel) -> None:
        cell = started.run(
            "async with TritonEnvironment(runtime='embedded', services=('redis',)) as e:\n"
            "    async with e.redis.aclient() as c: print(await c.ping())\n"
            "print(e)"
        )
        assert (cell.error, cell.printed) == ("", "True\n<TritonEnvironment stopped: redis>\n")


class TestSql:
    def test_a_cell_shows_a_frame(self, started: Kernel) -> None:
        cell = started.run("%%sql postgres\nselect 6 * 7 as answer;")
        assert cell.text == "   answer\n0      42"
        assert "<table" in cell.shown[0]["text/html"]
        assert started.run("%%sql clickhouse\nselect 43 as answer").text == "   answer\n0      43"

    def test_a_line_is_an_expression(self, started: Kernel) -> None:
        cell = started.run("limit = 3\nframe = %sql clickhouse select number from numbers({limit:UInt8})\nlen(frame)")
        assert cell.text == "3"

    def test_an_error_is_a_few_lines(self, started: Kernel) -> None:
        cell = started.run("%%sql postgres\n\nselect *\nfrom nothing")
        assert cell.error.splitlines() == [
            "QueryFailed: PostgreSQL refused the statement.",
            "  where: line 4 of the cell, column 6",
            '  cause: SQLSTATE 42P01: relation "nothing" does not exist',
            "         from nothing",
            "              ^",
        ]

    def test_an_interrupt_ends_the_query_too(self, started: Kernel) -> None:
        url = started.run("print(env.postgres.url)").printed.strip()
        started.begin("%%sql postgres\nselect pg_sleep(600)")
        assert waits_until_asleep(url, 1) == 1
        started.manager.interrupt_kernel()
        assert waits_until_asleep(url, 0) == 0

    def test_it_explains_itself(self, started: Kernel) -> None:
        client = started.client.inspect("%sql", reply=True, timeout=TIMEOUT)
        assert "--out NAME" in client["content"]["data"]["text/plain"]


def waits_until_asleep(url: str, wanted: int) -> int:
    """How many sessions sleep in a query, in the end or as soon as it is so many."""
    deadline = time.monotonic() + WAIT
    asking = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'"
    with psycopg.connect(url, autocommit=True) as connection:
        while True:
            (asleep,) = connection.execute(asking).fetchone() or (-1,)
            if asleep == wanted or time.monotonic() > deadline:
                return int(asleep)
            time.sleep(0.05)


def end_by_signal(number: int) -> Callable[[Kernel], None]:
    return lambda running: os.kill(running.pid, number)


def end_in_a_cell(running: Kernel) -> None:
    running.begin("print('begun', flush=True)\nimport time\ntime.sleep(3600)")
    running.wait_for_print()
    os.kill(running.pid, signal.SIGTERM)


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(end_by_signal(signal.SIGKILL), id="killed"),
        pytest.param(
            lambda running: running.manager.shutdown_kernel(now=True),
            id="killed with its group",
            marks=pytest.mark.long,
        ),
        pytest.param(end_by_signal(signal.SIGTERM), id="terminated"),
        pytest.param(end_in_a_cell, id="terminated in a cell", marks=pytest.mark.long),
        pytest.param(lambda running: running.manager.shutdown_kernel(), id="shut down"),
        pytest.param(Kernel.restart, id="restarted", marks=pytest.mark.long),
    ],
)
def test_a_kernel_that_ends_leaves_nothing(end: Callable[[Kernel], None]) -> None:
    with kernel() as running:
        cell = running.run(
            "from triton_env import TritonEnvironment\n"
            "env = TritonEnvironment(runtime='embedded', services=('postgres', 'redis')).start()\n"
            "print(env.id)"
        )
        assert cell.error == ""
        directories = [Path(base, f"triton-env-{cell.printed.strip()}") for base in (tempfile.gettempdir(), "/dev/shm")]
        begun = psutil.Process(running.pid).children(recursive=True)
        assert directories[0].is_dir()
        assert {"postgres", "valkey-server"} <= set(names(begun).values())
        end(running)
        assert until(lambda: not left(begun, directories)), left(begun, directories)


def test_a_restarted_kernel_finds_the_environment_that_it_shares(tmp_path: Path) -> None:
    start = (
        "from triton_env import Settings, TritonEnvironment\n"
        f"settings = Settings(triton_state_dir={str(tmp_path)!r}, triton_linger=250)\n"
        "env = TritonEnvironment(settings, runtime='embedded', services=('redis',), reuse=True).start()\n"
        "print(env.id)"
    )
    with kernel() as running:
        first = running.run(start)
        assert first.error == ""
        assert running.run("env.redis.client().set('kept', 'yes')").text == "True"
        running.restart()
        second = running.run(start)
        assert (second.printed, second.error) == (first.printed, "")
        # Its progress is shown as that of any other.
        assert re.fullmatch(r"Redis \d+\.\d s", second.text)
        assert running.run("env.redis.client().get('kept')").text == "b'yes'"
        assert "shared" in running.run("env").shown[0]["text/html"]
    # They do not come back: it need not wait for them.
    (record,) = Registry.of(Settings(triton_state_dir=str(tmp_path))).running()
    os.kill(record.pid, signal.SIGTERM)
    directory = Path(tempfile.gettempdir(), f"triton-env-{first.printed.strip()}")
    assert until(lambda: not directory.exists())


def left(processes: list[psutil.Process], directories: list[Path]) -> list[object]:
    """What there still is of these. Where no process waits for orphans, dead ones stay in the list of processes."""
    here: list[object] = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):  # it ends in between the two questions
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                here.append(process)
    return [*here, *(path for path in directories if path.exists())]
