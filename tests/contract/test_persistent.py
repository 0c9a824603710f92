"""What is particular to persistent services: attached to or started, never lost, and every health check true."""

import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import docker
import psycopg
import pytest
from docker.models.containers import Container

from held_up import held_up
from lasting import amid_writes, check_acknowledged, check_written, write
from projects import belongings, compose, project, remove
from triton_env import Settings, TritonEnvironment
from triton_env.core.timeline import Phase
from triton_env.errors import InvalidSetting, PortTaken, ProjectTaken
from triton_env.inspection import inspect
from triton_env.persistent.docker.runtime import PersistentRuntime
from triton_env.services import SERVICES

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

ALIASES = {name: service.recipe(Settings.model_construct()).container.alias for name, service in SERVICES.items()}


@pytest.fixture(scope="module")
def settings() -> Iterator[Settings]:
    with project() as settings:
        yield settings


@pytest.fixture(scope="module")
def env(settings: Settings) -> Iterator[TritonEnvironment]:
    """All four, running for the whole module."""
    with TritonEnvironment(settings, persistent=True) as environment:
        yield environment


def container(engine: docker.DockerClient, settings: Settings, service: str) -> Container:
    return engine.containers.get(f"{settings.triton_project}-{ALIASES[service]}-1")


def eventually(probe: Callable[[], Any], seconds: float = 240) -> Any:
    """What `probe` returns once it raises no more: all services may have to boot on a machine that has no time."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return probe()
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def probe_of(env: TritonEnvironment, service: str) -> Callable[[], None]:
    return env.service(service).ensure_ready


class TestStart:
    def test_a_clean_start_has_no_error_in_its_logs(self, env: TritonEnvironment) -> None:
        bad = re.compile(r"\b(ERROR|FATAL|PANIC|Traceback)\b|<Error>|<Fatal>")
        assert bad.search("2026.11.24 10:00:00 [ 1 ] {} <Error> Application: broken")
        of_probes = (
            # PostgreSQL to one that comes between its first listening and its being ready.
            "FATAL:  the database system is starting up",
            # LocalStack of one whose request it could not read to its end, as on a slow machine.
            "An unknown error occurred when trying to parse the request.",
        )
        for name in env.services:
            lines = env.logs(name, 1000).splitlines()
            assert lines
            complaints = [line for line in lines if bad.search(line) and not line.endswith(of_probes)]
            if name == "postgres":
                # Its image ends a first server, which may not have seen yet that a client of the image's own has gone.
                made = next(at for at, line in enumerate(lines) if line.startswith("PostgreSQL init process complete"))
                of_image = "FATAL:  terminating connection due to administrator command"
                complaints = [line for line in complaints if line not in lines[:made] or not line.endswith(of_image)]
            assert not complaints, name

    def test_it_is_on_docker_under_the_name_of_the_project(self, env: TritonEnvironment, settings: Settings) -> None:
        assert env.runtime == "docker"
        assert env.id == settings.triton_project
        containers, networks, volumes = belongings(env.id)
        assert containers == sorted(f"{env.id}-{alias}-1" for alias in ALIASES.values())
        assert networks == [f"{env.id}-network"]
        names = ("clickhouse_data", "clickhouse_logs", "localstack_data", "postgres_data", "redis_data")
        assert volumes == [f"{env.id}_{name}" for name in names]

    def test_the_start_is_kept_for_those_who_look_later(self, env: TritonEnvironment, settings: Settings) -> None:
        (entry,) = (each for each in inspect(settings).environments if each.id == settings.triton_project)
        phases = {name: {span.phase for span in entry.timeline if span.service == name} for name in env.services}
        assert all(found >= {Phase.CREATE, Phase.BOOT, Phase.READY} for found in phases.values()), phases

    def test_ports_are_those_of_the_settings_on_loopback_alone(
        self, env: TritonEnvironment, engine: docker.DockerClient, settings: Settings
    ) -> None:
        for name in env.services:
            bindings = container(engine, settings, name).attrs["HostConfig"]["PortBindings"]
            assert all(bound["HostIp"] == "127.0.0.1" for several in bindings.values() for bound in several)
            recipe = SERVICES[name].recipe(env.settings)
            assert {port.fixed for port in recipe.ports} == {
                int(bound["HostPort"]) for several in bindings.values() for bound in several
            }
            assert env.service(name).port == recipe.ports[0].fixed

    def test_credentials_are_those_of_the_settings(self, env: TritonEnvironment, settings: Settings) -> None:
        assert env.postgres.password == settings.postgres_password.get_secret_value()
        assert env.redis.url == f"redis://{env.redis.host}:{env.redis.port}/0"

    def test_containers_are_as_small_machines_need_them(
        self, env: TritonEnvironment, engine: docker.DockerClient, settings: Settings
    ) -> None:
        for name in env.services:
            host = container(engine, settings, name).attrs["HostConfig"]
            assert host["Memory"] > 0
            assert host["Init"] is True
            assert host["SecurityOpt"] == ["no-new-privileges=true"]
            assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-file": "3", "max-size": "10m"}}
        limits = container(engine, settings, "clickhouse").attrs["HostConfig"]["Ulimits"]
        assert limits == [{"Name": "nofile", "Hard": 20000, "Soft": 20000}]

    def test_idle_services_stay_below_their_figures(
        self, env: TritonEnvironment, engine: docker.DockerClient, settings: Settings
    ) -> None:
        figures = {"postgres": 200, "clickhouse": 500, "redis": 50, "s3": 300}
        for name, megabytes in figures.items():
            # One look: a second one, for the use of the processor, would take a second.
            target = container(engine, settings, name)
            memory = engine.api.stats(target.id, stream=False, one_shot=True)["memory_stats"]
            used = memory["usage"] - memory["stats"].get("total_inactive_file", memory["stats"].get("inactive_file", 0))
            assert used < megabytes * 2**20, name


class TestAttach:
    def test_what_was_found_running_is_left_running(self, env: TritonEnvironment, settings: Settings) -> None:
        before = belongings(env.id)
        with TritonEnvironment(settings, services=("redis", "postgres"), persistent=True) as other:
            assert other.redis.url == env.redis.url
            other.redis.client().set("attached", "yes")
        assert belongings(env.id) == before
        assert env.redis.client().get("attached") == b"yes"

    def test_what_was_detached_goes_on_and_what_was_started_is_stopped_again(self) -> None:
        with project() as settings:
            detached = TritonEnvironment(settings, services=("postgres",), persistent=True).start()
            postgres = f"{settings.triton_project}-postgres-1"
            with detached.postgres.connect() as connection:
                detached.detach()
                detached.detach()
                detached.stop()
                assert connection.execute("select 1").fetchone() == (1,)
                with TritonEnvironment(settings, services=("postgres", "redis"), persistent=True) as env:
                    assert env.redis.client().ping()
                assert belongings(settings.triton_project)[0] == [postgres]
                env.start().stop()
                assert belongings(settings.triton_project)[0] == [postgres]
                assert connection.execute("select 1").fetchone() == (1,)

    def test_the_last_one_takes_the_network_along_and_leaves_the_volumes(self) -> None:
        with project() as settings:
            with TritonEnvironment(settings, services=("redis",), persistent=True) as env:
                env.redis.client().set("kept", "yes")
            assert belongings(settings.triton_project) == ([], [], [f"{settings.triton_project}_redis_data"])
            first = TritonEnvironment(settings, services=("redis",), persistent=True).start()
            assert first.redis.client().get("kept") == b"yes"
            # What another environment is attached to goes on: the first one is not the last.
            with TritonEnvironment(settings, services=("redis",), persistent=True) as second:
                first.stop()
                assert second.redis.client().ping()
            assert belongings(settings.triton_project)[0]

    def test_what_was_found_is_not_stopped_before_it_is_attached_to(self, monkeypatch: pytest.MonkeyPatch) -> None:
        start = PersistentRuntime.start

        def stopped_just_before(runtime: PersistentRuntime, *arguments: Any) -> Any:
            first.stop()
            return start(runtime, *arguments)

        with project() as settings:
            first = TritonEnvironment(settings, services=("redis",), persistent=True).start()
            monkeypatch.setattr(PersistentRuntime, "start", stopped_just_before)
            with TritonEnvironment(settings, services=("redis",), persistent=True) as second:
                assert second.redis.client().ping()

    def test_a_failed_start_leaves_no_container(self) -> None:
        with project(redis_image="triton-env/absent:1", triton_pull="never") as settings:
            with pytest.raises(Exception, match="triton-env/absent:1"):
                TritonEnvironment(settings, services=("redis",), persistent=True).start()
            assert belongings(settings.triton_project) == ([], [], [])

    def test_a_container_that_ends_is_reported_with_its_log(self) -> None:
        # An image that has no PostgreSQL.
        with project(postgres_image=Settings().redis_image) as settings:
            with pytest.raises(Exception, match="PostgreSQL exited") as caught:
                TritonEnvironment(settings, services=("postgres",), persistent=True).start()
            assert "postgres" in str(caught.value)
            assert belongings(settings.triton_project)[0] == []

    def test_running_with_another_password_is_reported(self, env: TritonEnvironment, settings: Settings) -> None:
        other = Settings(triton_project=settings.triton_project, postgres_password="another")
        with pytest.raises(InvalidSetting, match="another POSTGRES_PASSWORD") as caught:
            TritonEnvironment(other, services=("postgres",), persistent=True).start()
        assert "triton_env up" in caught.value.hint
        probe_of(env, "postgres")()

    def test_a_port_that_is_taken_is_reported_with_its_holder(self, env: TritonEnvironment) -> None:
        with project(redis_port=env.redis.port) as settings:
            with pytest.raises(PortTaken) as caught:
                TritonEnvironment(settings, services=("redis",), persistent=True).start()
            assert f"{env.id}-redis-1" in caught.value.what
            assert "REDIS_PORT" in caught.value.hint
            assert "--project" in caught.value.hint
            assert belongings(settings.triton_project) == ([], [], [])

    def test_a_name_that_another_program_uses_is_left_alone(
        self, engine: docker.DockerClient, settings: Settings
    ) -> None:
        name = f"{settings.triton_project}-foreign"
        labels = {"com.docker.compose.project": name, "com.docker.compose.service": "redis"}
        foreign = engine.containers.create(settings.redis_image, labels=labels)
        try:
            other = Settings(triton_project=name)
            with pytest.raises(ProjectTaken, match="something other than triton-env"):
                TritonEnvironment(other, services=("redis",), persistent=True).start()
            foreign.reload()
            assert foreign.status == "created"
        finally:
            remove(name)


class TestNothingIsLost:
    """Every acknowledged write survives, whichever way the server ends. `TestRecovery` restarts one after the other."""

    @pytest.mark.long
    def test_over_a_down(self, env: TritonEnvironment, settings: Settings) -> None:
        write(env, "down")
        compose(settings, "down")
        compose(settings, "up", "-d")
        for name in env.services:
            eventually(probe_of(env, name))
        check_written(env, "down")

    def test_what_was_acknowledged_to_writers_survives_a_kill_amid_their_writes(
        self, env: TritonEnvironment, settings: Settings
    ) -> None:
        write(env, "kill")
        with amid_writes(env) as acknowledged:
            # All four, S3 too.
            compose(settings, "kill", "-s", "KILL")
        compose(settings, "start")
        for name in env.services:
            eventually(probe_of(env, name))
        check_written(env, "kill")
        check_acknowledged(env, acknowledged)


class TestRecovery:
    @pytest.mark.long_on("clickhouse", "s3")
    @pytest.mark.parametrize("down", SERVICES)
    def test_the_others_serve_and_clients_recover_on_the_same_url_and_find_all_that_was_written(
        self, down: str, env: TritonEnvironment, settings: Settings
    ) -> None:
        write(env, f"restart of {down}")
        # That of Redis would try again for seconds, by itself, before it says that there is no server.
        redis_client = env.redis.client(retry=None)
        clickhouse_client, s3_client = env.clickhouse.client(), env.s3.client()
        with env.postgres.connect(autocommit=True) as connection:
            uses: dict[str, Callable[[], Any]] = {
                "postgres": lambda: connection.execute("select 1"),
                "clickhouse": lambda: clickhouse_client.query("select 1"),
                "redis": redis_client.ping,
                "s3": s3_client.list_buckets,
            }
            compose(settings, "stop", ALIASES[down])
            for name, use in uses.items():
                if name != down:
                    use()
            with pytest.raises(Exception, match=r".+"):
                uses[down]()
            compose(settings, "restart", ALIASES[down])
            if down == "postgres":
                # A connection of PostgreSQL ends with its server; a new one goes to the same URL.
                eventually(lambda: psycopg.connect(env.postgres.url).close())
            else:
                eventually(uses[down])
        check_written(env, f"restart of {down}")


class TestHealth:
    """The checks of the compose file, run as Docker runs them."""

    def check(self, container: Container, timeout: int = 60) -> int:
        (kind, command) = container.attrs["Config"]["Healthcheck"]["Test"]
        assert kind == "CMD-SHELL"
        # The engine ends a check after its timeout and takes that for a failure; so here, with more patience.
        return int(container.exec_run(["timeout", str(timeout), "sh", "-c", command]).exit_code)

    def test_intervals(self, env: TritonEnvironment, engine: docker.DockerClient, settings: Settings) -> None:
        expected = {
            "postgres": (10, 5, 5, 30),
            "clickhouse": (10, 5, 5, 40),
            "redis": (5, 3, 3, 10),
            "s3": (10, 5, 5, 20),
        }
        for name, (interval, timeout, retries, start_period) in expected.items():
            check = container(engine, settings, name).attrs["Config"]["Healthcheck"]
            seconds = {key: check[key] / 1e9 for key in ("Interval", "Timeout", "StartPeriod")}
            assert seconds == {"Interval": interval, "Timeout": timeout, "StartPeriod": start_period}
            assert check["Retries"] == retries

    def test_they_pass_while_the_services_work_and_fail_while_these_hang(
        self, env: TritonEnvironment, engine: docker.DockerClient, settings: Settings
    ) -> None:
        targets = {name: container(engine, settings, name) for name in env.services}
        # Each takes its whole timeout while its service hangs: all at once.
        with ThreadPoolExecutor(len(targets)) as pool:

            def codes(timeout: int = 60) -> dict[str, int]:
                results = pool.map(lambda target: self.check(target, timeout), targets.values())
                return dict(zip(targets, results, strict=True))

            assert set(codes().values()) == {0}
            with held_up(*targets.values()):
                failed = codes(5)
            assert all(failed.values()), failed
            for name in targets:
                eventually(probe_of(env, name))
            assert set(codes().values()) == {0}

    def test_the_one_of_s3_fails_without_the_bucket(
        self, env: TritonEnvironment, engine: docker.DockerClient, settings: Settings
    ) -> None:
        target = container(engine, settings, "s3")
        _, command = target.attrs["Config"]["Healthcheck"]["Test"]
        answer = target.exec_run(["sh", "-c", command], environment={"S3_BUCKET": "no-such-bucket"})
        assert answer.exit_code != 0

    def test_redis_with_a_password(self, engine: docker.DockerClient) -> None:
        with (
            project(redis_password='p "q" \\ $x') as settings,
            TritonEnvironment(settings, services=("redis",), persistent=True) as env,
        ):
            target = container(engine, settings, "redis")
            assert self.check(target) == 0
            assert env.redis.client().ping()
            assert b"NOAUTH" in target.exec_run(["redis-cli", "ping"]).output
            # Passwords are not to be read from the process list. The engine's own check may be in it.
            assert 'p "q"' not in " ".join(" ".join(row) for row in target.top(ps_args="-eo pid,args")["Processes"])
