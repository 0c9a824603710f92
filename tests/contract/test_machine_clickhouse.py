"""A ClickHouse of this machine in the place of the Python package's server: how it is run, and how it ends.

What runs is Debian's, of 2018; see `machine_clickhouse`.
"""

import os
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

import machine_clickhouse
import scratch
from conftest import in_ci
from patience import TO_BOOT, patient_probes, until
from projects import project_without_docker
from triton_env import Settings, TritonEnvironment
from triton_env.core.setting_types import SecretStr
from triton_env.errors import RuntimeUnavailable, VolumeMismatch
from triton_env.persistent.embedded.orders import Noteds
from triton_env.persistent.embedded.stack import EmbeddedStack
from triton_env.runtimes.embedded import runtime
from triton_env.services import ClickHouse
from triton_env.services.clickhouse import programs
from triton_env.services.clickhouse.requests import ask
from triton_env.state import store

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("embedded_packages"), pytest.mark.timeout(400)]

# A server of that time logs no queries by itself.
OPTIONS = "profiles.default.max_threads=3,macros.mine=yes,profiles.default.log_queries=1"


@pytest.fixture(scope="module")
def program() -> Iterator[Path]:
    folder = scratch.folder()
    folder.chmod(0o755)
    found = machine_clickhouse.program(folder)
    if found is None and in_ci():
        pytest.fail("CI has to run this on a ClickHouse of a package, and apt-get cannot bring one", pytrace=False)
    if found is None:
        pytest.skip("this machine has no apt-get that could bring a ClickHouse")
    with pytest.MonkeyPatch.context() as monkeypatch, patient_probes():
        monkeypatch.setattr(programs, "OLDEST", machine_clickhouse.VERSION)
        # Where the version of a program is kept.
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield found


@pytest.fixture(scope="module")
def settings(program: Path) -> Settings:
    return Settings(triton_clickhouse_bin=str(program), triton_clickhouse_options=OPTIONS, **TO_BOOT)


@pytest.fixture(scope="module")
def env(settings: Settings) -> Iterator[TritonEnvironment]:
    with TritonEnvironment(settings, services=("clickhouse",), runtime="embedded") as environment:
        yield environment


def process_at(port: int) -> psutil.Process:
    """The process that listens there."""
    return next(
        process
        for process in psutil.process_iter()
        if process.name().startswith("clickhouse")
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr[1] == port
    )


def asked(service: ClickHouse, query: str) -> str:
    return ask(service, {service.database: query})


def asked_over_tcp(program: Path, service: ClickHouse, query: str) -> str:
    words = ("--host", service.host, "--port", str(service.native_port), "--user", service.user)
    client = (str(program), "client", *words, "--password", service.password, "--query", query)
    done = subprocess.run(client, capture_output=True, text=True, check=False)
    return done.stdout.strip() or done.stderr


class TestSession:
    def test_both_protocols_answer_with_the_password_alone(self, env: TritonEnvironment, program: Path) -> None:
        assert env.clickhouse.server_version() == "18.16.1"
        assert asked(env.clickhouse, "select currentDatabase()") == env.clickhouse.database
        assert asked_over_tcp(program, env.clickhouse, "select 1 + 1") == "2"
        for password in ("", "wrong"):
            other = env.clickhouse.with_settings(clickhouse_password=SecretStr(password))
            with pytest.raises(ConnectionError, match="assword"):
                ask(other, {"system": "select 1"})
            assert "assword" in asked_over_tcp(program, other, "select 1")

    def test_it_listens_at_two_ports_of_loopback_alone(self, env: TritonEnvironment) -> None:
        process = process_at(env.clickhouse.http_port)
        listening = {each.laddr for each in process.net_connections() if each.status == psutil.CONN_LISTEN}
        assert listening == {("127.0.0.1", env.clickhouse.http_port), ("127.0.0.1", env.clickhouse.native_port)}

    def test_it_is_one_process_without_rights(self, env: TritonEnvironment) -> None:
        process = process_at(env.clickhouse.http_port)
        assert process.children() == []
        assert not [each for each in process.open_files() if each.path.endswith("/lock")]
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        status = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
        assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}
        assert status["NoNewPrivs"] == "1"
        if os.geteuid() == 0:
            assert int(status["CapBnd"], 16) == 0
            assert 0 not in process.uids() + process.gids()

    def test_the_password_is_nowhere(self, env: TritonEnvironment) -> None:
        process = process_at(env.clickhouse.http_port)
        config = next(word for word in process.cmdline() if word.startswith("--config-file="))
        folder = Path(config.partition("=")[2]).parent
        texts = [str(process.cmdline()), str(process.environ()), env.logs("clickhouse")]
        for file in folder.rglob("*.xml"):
            assert not stat.S_IMODE(file.stat().st_mode) & stat.S_IRWXO
            texts.append(file.read_text())
        assert not [each for each in texts if env.clickhouse.password in each]

    def test_it_has_what_the_image_has(self, env: TritonEnvironment) -> None:
        query = "select cluster, is_local from system.clusters"
        assert asked(env.clickhouse, query).split() == ["default", "1"]
        assert asked(env.clickhouse, "select count() from cluster('default', system.one)") == "1"
        macros = asked(env.clickhouse, "select substitution from system.macros where macro in ('cluster', 'shard')")
        assert macros.split() == ["default", "01"]
        asked(env.clickhouse, "system flush logs")
        logged = "select count() > 0 from system.query_log where query like '%system.macros%'"
        assert asked(env.clickhouse, logged) == "1"

    def test_options_are_those_of_the_setting(self, env: TritonEnvironment) -> None:
        assert asked(env.clickhouse, "select value from system.settings where name = 'max_threads'") == "3"
        assert asked(env.clickhouse, "select substitution from system.macros where macro = 'mine'") == "yes"

    def test_ports_stay_open_when_it_reads_its_configuration_again(self, env: TritonEnvironment, program: Path) -> None:
        asked(env.clickhouse, "system reload config")
        assert asked(env.clickhouse, "select port from system.clusters") == str(env.clickhouse.native_port)
        assert asked_over_tcp(program, env.clickhouse, "select 1") == "1"

    def test_its_log_is_that_of_the_service(self, env: TritonEnvironment) -> None:
        with pytest.raises(ConnectionError):
            asked(env.clickhouse, "select of_nothing")
        assert until(lambda: "of_nothing" in env.logs("clickhouse"))

    def test_a_restart_keeps_ports_and_data(self, env: TritonEnvironment) -> None:
        asked(env.clickhouse, "create table kept (a UInt8) engine MergeTree order by a")
        asked(env.clickhouse, "insert into kept values (7)")
        before = process_at(env.clickhouse.http_port)
        env.restart("clickhouse")
        assert asked(env.clickhouse, "select a from kept") == "7"
        assert process_at(env.clickhouse.http_port).pid != before.pid

    def test_a_port_that_was_taken_meanwhile_is_replaced(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        picked = runtime.free_port
        with closing(socket.create_server(("127.0.0.1", 0))) as taken:
            ports = iter([taken.getsockname()[1]])
            monkeypatch.setattr(runtime, "free_port", lambda address: next(ports, None) or picked(address))
            with TritonEnvironment(settings, services=("clickhouse",), runtime="embedded") as env:
                assert env.clickhouse.http_port != taken.getsockname()[1]
                assert "already in use" in env.logs("clickhouse", 10_000).lower()
                process = process_at(env.clickhouse.http_port)
        assert not process.is_running()

    @pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user's servers are that user")
    def test_one_that_the_servers_cannot_reach(self, settings: Settings, program: Path) -> None:
        closed = scratch.folder()
        (closed / "clickhouse").write_text(program.read_text())
        (closed / "clickhouse").chmod(0o755)
        with (
            pytest.raises(RuntimeUnavailable, match="closed to other users") as caught,
            TritonEnvironment(
                settings.updated(triton_clickhouse_bin=str(closed)), services=("clickhouse",), runtime="embedded"
            ),
        ):
            pass
        assert "TRITON_CLICKHOUSE_BIN" in caught.value.hint


class TestPersistent:
    def test_data_stays_over_kills_and_is_not_taken_over_by_the_other(self, program: Path) -> None:
        with project_without_docker() as project:
            settings = project.updated(triton_clickhouse_bin=str(program), **TO_BOOT)
            services = ("clickhouse",)
            with TritonEnvironment(settings, services=services, persistent=True) as env:
                asked(env.clickhouse, "create table kept (a UInt8) engine MergeTree order by a")
                asked(env.clickhouse, "insert into kept values (7)")
                before = store.read(EmbeddedStack(settings).folder.state, Noteds).services["clickhouse"]
                assert before.made_of.startswith("ClickHouse 18.16.1 in ")
                os.kill(before.pid, signal.SIGKILL)
                assert until(lambda: _answer(env.clickhouse) == "7")
                killed = process_at(env.clickhouse.http_port)
                guard = killed.parent()
                assert guard is not None
                guard.kill()
                assert until(lambda: not killed.is_running() and _answer(env.clickhouse) == "7")
            stack = EmbeddedStack(settings)
            assert stack.instances() == {}
            log = (stack.folder.logs / "clickhouse.log").read_text()
            assert "shutting down" in log.splitlines()[-2] + log.splitlines()[-1]
            with (
                pytest.raises(VolumeMismatch, match=r"written by ClickHouse 18\.16\.1 in "),
                TritonEnvironment(settings.updated(triton_clickhouse_bin="wheel"), services=services, persistent=True),
            ):
                pass
            # The user's password is not in the data: it may change, and be empty.
            empty = settings.updated(clickhouse_password=SecretStr(""))
            with TritonEnvironment(empty, services=services, persistent=True) as env:
                assert asked(env.clickhouse, "select a from kept") == "7"


def _answer(service: ClickHouse) -> str:
    try:
        return asked(service, "select a from kept")
    except OSError:
        return ""
