"""What the troubleshooting page quotes is what people see: each situation is made, and the texts are compared.

The quotes are those of the document, so neither can change without the other. Situations that take long are in the long
lane; that the code still has our words for them is looked at always.
"""

import ast
import functools
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar, cast

import clickhouse_connect
import psycopg
import pytest
import redis
from botocore.config import Config
from botocore.exceptions import ClientError

import forkserver
from faces.documents import ROOT, tokens
from faces.persistent_project import checkout
from faces.situations import (
    composed,
    connected,
    container,
    in_volume,
    listener,
    refused,
    run,
    service,
    sibling,
    triton,
    until,
    up,
)
from projects import compose, project, remove
from triton_env import Settings, TritonEnvironment, TritonError, backup
from triton_env.core.setting_types import SecretStr
from triton_env.persistent.docker.compose import PROJECT_LABEL
from triton_env.persistent.docker.volume_stamps import FILE
from triton_env.persistent.settings import persistent_settings

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

PAGE = ROOT / "docs" / "phase-1" / "INFRASTRUCTURE_TROUBLESHOOTING.md"
PROVOKED: set[str] = set()
"""The quotes that the tests below look for."""

_Test = TypeVar("_Test", bound=Callable[..., Any])


def quotes() -> list[str]:
    """What the page quotes: the code in its headings of level 3, and in the line "Also: ..." below such a heading."""
    found: list[str] = []
    all_tokens = tokens(PAGE)
    for number, token in enumerate(all_tokens):
        if token.type == "heading_open" and token.tag == "h3":
            lines = [all_tokens[number + 1]]
            if all_tokens[number + 4].content.startswith("Also:"):
                lines.append(all_tokens[number + 4])
            found += [each.content for line in lines for each in line.children or () if each.type == "code_inline"]
    return found


def shows(*expected: str) -> Callable[[_Test], _Test]:
    """The test returns what people see; these quotes of the page have to be in it."""
    PROVOKED.update(expected)

    def decorate(provoke: _Test) -> _Test:
        @functools.wraps(provoke)
        def test(*arguments: Any, **options: Any) -> None:
            seen = " ".join(provoke(*arguments, **options).split())
            for quote in expected:
                assert quote in quotes(), f"the page does not have: {quote}"
                assert re.search(".*?".join(map(re.escape, quote.split("…"))), seen), f"{quote}\nis not in\n{seen}"

        return cast("_Test", test)

    return decorate


def test_every_quote_is_provoked() -> None:
    assert len(quotes()) == len(set(quotes()))
    assert set(quotes()) == PROVOKED


THEIRS = {
    "Cannot connect to the Docker daemon at …",
    "Connection refused",
    "Localstack returning with exit code 55.",
    "NOAUTH Authentication required.",
    "Permission denied",
    "Restarting (…)",
    "command not allowed when used memory > 'maxmemory'",
    "database files are incompatible with server",
    "database is locked",
    "dependency failed to start: container … is unhealthy",
    "error setting rlimit",
    "invalid username-password pair or user is disabled",
    "memory limit exceeded",
    "password authentication failed for user …",
    "sorry, too many clients already",
}
"""Quotes of the servers, Docker and clients. All others are in our code, some by chance."""


def test_all_other_quotes_are_in_the_code() -> None:
    written = "\n".join(" ".join(text.split()) for text in literals())
    missing = {quote for quote in quotes() if not re.search(with_gaps(quote), written)}
    assert missing == THEIRS


def literals() -> Iterator[str]:
    """The strings of our code, with a gap in place of each value."""
    for folder in ("src", "docker"):
        for file in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value
                elif isinstance(node, ast.JoinedStr):
                    yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)


def with_gaps(quote: str) -> str:
    """A pattern for the quote in which services, variables, exit codes and other values may be anything."""
    parts = re.split(r"\(exit code …\)|…|\b(?:PostgreSQL|LocalStack|S3)\b|\b[A-Z]+_[A-Z]+\b(?:=…)?", quote)
    return ".*".join(map(re.escape, parts)).removeprefix(".*")


@pytest.fixture
def fresh() -> Iterator[Settings]:
    with project() as settings:
        yield settings


# --- The machine -----------------------------------------------------------------------------------------------------


@shows("No Docker engine answers.", "Cannot connect to the Docker daemon at …")
def test_no_engine(tmp_path: Path) -> str:
    url = f"unix://{tmp_path}/none.sock"
    return triton(Settings(), "up", DOCKER_HOST=url) + run("--host", url, "ps")


AS_SOMEBODY = """
import os
from triton_env.cli import command_line
import triton_env.runtimes.docker.engine, triton_env.cli.status, triton_env.persistent.docker.stack

if os.geteuid() == 0:  # whom no permission stops
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
os.chdir("/")
command_line(["status"])
"""


@shows("The Docker engine runs, but this user may not use it.")
def test_no_permission(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("s")
    for part in (folder, folder.parent, folder.parent.parent):
        part.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as engine:
        engine.bind(f"{folder}/e")
        engine.listen()
        (folder / "e").chmod(0)
        environment = dict(os.environ) | {"DOCKER_HOST": f"unix://{folder}/e"}
        command = [sys.executable, "-c", AS_SOMEBODY]
        done = forkserver.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)
    return done.stderr


@shows("Persistent services need Docker Compose … or newer.")
def test_compose_of_version_1(fresh: Settings, tmp_path: Path) -> str:
    old = tmp_path / "docker-compose"
    old.write_text("#!/bin/sh\necho 1.29.2\n")
    old.chmod(0o755)
    # Hides the package that carries a newer one.
    (tmp_path / "compose").mkdir()
    (tmp_path / "compose" / "__init__.py").touch()
    seen = triton(fresh, "up", PATH=str(tmp_path), PYTHONPATH=str(tmp_path))
    assert "1.29.2" in seen
    return seen


@shows("The image … is not on the engine and could not be pulled.")
def test_no_image(fresh: Settings) -> str:
    return refused(fresh.updated(redis_image="redis:absent", triton_pull="never"), "redis")


@pytest.mark.long
@shows("error setting rlimit", "Docker Compose failed to …")
def test_more_open_files_than_the_engine_grants(fresh: Settings) -> str:
    # More than any kernel has.
    settings = fresh.updated(clickhouse_nofile=2**31 - 1)
    seen = composed(settings, "up", "--detach", "clickhouse")
    assert "error setting rlimit" in seen
    return seen + refused(settings, "clickhouse")


# --- Ports and names -------------------------------------------------------------------------------------------------


@shows("Port … of … is taken by …", "address already in use")
def test_a_port_of_a_process(fresh: Settings) -> str:
    with listener(persistent_settings(fresh).redis_port):
        seen = refused(fresh, "redis")
        assert f"process {os.getpid()}" in seen
        return seen + composed(fresh, "up", "--detach", "redis")


@shows("port is already allocated")
def test_a_port_of_another_project(redis_runs: Settings) -> str:
    with project(redis_port=persistent_settings(redis_runs).redis_port) as other:
        assert f"the container {container(redis_runs, 'redis')}" in refused(other, "redis")
        return composed(other, "up", "--detach", "redis")


@shows(
    "The persistent services … belong to another checkout.",
    "The project name … is in use by something other than triton-env.",
)
def test_the_name_is_taken(fresh: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    compose(fresh, "create", "redis")
    shutil.copy(ROOT / "docker-compose.yml", tmp_path)
    shutil.copytree(ROOT / "docker", tmp_path / "docker")
    monkeypatch.chdir(tmp_path)
    seen = refused(fresh, "redis")
    remove(fresh.triton_project)
    label = f"{PROJECT_LABEL}={fresh.triton_project}"
    run("create", "--label", label, "--name", f"{fresh.triton_project}-web", fresh.redis_image)
    return seen + refused(fresh, "redis")


@shows("… and … say the same thing twice and disagree: …")
def test_a_url_and_its_parts(fresh: Settings) -> str:
    settings = Settings(database_url="postgresql://localhost/claims", postgres_db="triton")
    with pytest.raises(TritonError) as caught:
        TritonEnvironment(settings, persistent=True).start()
    return str(caught.value)


@shows("… points to …, but persistent services run on this machine.")
def test_a_url_to_another_machine() -> str:
    with pytest.raises(TritonError) as caught:
        TritonEnvironment(Settings(database_url="postgresql://db.example/claims"), persistent=True).start()
    return str(caught.value)


# --- PostgreSQL's data -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def postgres_project(callers_choice: Any) -> Iterator[Settings]:
    with project() as settings:
        up(settings, "postgres")
        yield settings


@pytest.fixture
def postgres_data(postgres_project: Settings) -> Settings:
    """One volume, which a server made and left."""
    compose(postgres_project, "down")
    return postgres_project


@pytest.mark.long
class TestPostgresData:
    @shows("PostgreSQL refuses POSTGRES_PASSWORD: its data was initialised with ….")
    def test_password(self, postgres_data: Settings) -> str:
        return refused(postgres_data.updated(postgres_password=SecretStr("another")), "postgres")

    @shows("PostgreSQL refuses POSTGRES_DB=…: its data was initialised with ….")
    def test_database(self, postgres_data: Settings) -> str:
        return refused(postgres_data.updated(postgres_db="claims"), "postgres")

    @shows(
        "password authentication failed for user …",
        "database … does not exist",
        "dependency failed to start: container … is unhealthy",
        "unhealthy: …",
    )
    def test_plain_compose_starts_all_the_same(self, postgres_data: Settings, tmp_path: Path) -> str:
        quick = {"interval": "1s", "retries": 1, "start_period": "0s"}
        waits = {"image": postgres_data.redis_image, "depends_on": {"postgres": {"condition": "service_healthy"}}}
        file = tmp_path / "waits.yml"
        file.write_text(json.dumps({"services": {"postgres": {"healthcheck": quick}, "waits": waits}}))
        changed = postgres_data.updated(postgres_password=SecretStr("another"), postgres_db="claims")
        seen = composed(changed, "up", "--detach", "waits", files=[str(file)])
        seen += connected(changed) + connected(postgres_data, dbname="claims")
        # Not of this compose file.
        composed(changed, "rm", "--force", "--volumes", "waits", files=[str(file)])
        seen += triton(changed, "status")
        compose(postgres_data, "down")
        return seen

    @shows(
        "PostgreSQL's data is of version …; the image … is …",
        "database files are incompatible with server",
        "Restarting (…)",
        "it ends again and again (exit code …)",
    )
    def test_major_version(self, postgres_data: Settings) -> str:
        tag = "17" if "standin" in postgres_data.postgres_image else "17-alpine"
        newer = postgres_data.updated(postgres_image=sibling(postgres_data.postgres_image, tag))
        seen = refused(newer, "postgres")
        compose(newer, "up", "--detach", "postgres")
        seen += until("Restarting (", lambda: compose(newer, "ps", "--all"))
        seen += until("again and again", lambda: triton(newer, "status"))
        seen += composed(newer, "logs")
        compose(newer, "down")
        return seen

    @shows("PostgreSQL … data is at … in the volume, not in its root, where it is looked for.")
    def test_another_path(self, postgres_data: Settings) -> str:
        move = "mkdir -p /tmp/d && mv * /tmp/d && mkdir -p 18/docker && mv /tmp/d/* 18/docker"
        in_volume(postgres_data, "postgres_data", postgres_data.postgres_image, "sh", "-c", move)
        seen = refused(postgres_data, "postgres")
        (back,) = re.findall(r"'(mv 18/docker/\* .*?)'", " ".join(seen.split()))
        in_volume(postgres_data, "postgres_data", postgres_data.postgres_image, "sh", "-c", back)
        up(postgres_data, "postgres")
        return seen

    @shows("sorry, too many clients already")
    def test_connections(self, postgres_data: Settings) -> str:
        up(postgres_data, "postgres")
        url = service(postgres_data, "postgres").url
        with ExitStack() as stack:
            try:
                for _ in range(110):
                    stack.enter_context(psycopg.connect(url))
            except psycopg.OperationalError as error:
                return str(error)
        pytest.fail("more than 100 connections were made")


@pytest.fixture(scope="module")
def clickhouse_project(callers_choice: Any) -> Iterator[Settings]:
    with project() as settings:
        yield settings


@shows("… was not ready after … s.")
def test_slow(fresh: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    # One that never gets ready, whatever arguments the file gives it: a server might be quicker than the test.
    monkeypatch.chdir(checkout(tmp_path / "checkout", clickhouse=["sh", "-c", "sleep 600"]))
    return refused(fresh.updated(triton_clickhouse_timeout=0.1), "clickhouse")


# --- S3 --------------------------------------------------------------------------------------------------------------


@shows("The image … does not start without LOCALSTACK_AUTH_TOKEN.", "Localstack returning with exit code 55.")
def test_a_localstack_that_wants_a_token(fresh: Settings) -> str:
    settings = fresh.updated(
        localstack_image=sibling(fresh.localstack_image, "latest"), localstack_auth_token=SecretStr("")
    )
    seen = refused(settings, "s3")
    compose(settings, "up", "--detach", "localstack")
    return seen + until("55", lambda: composed(settings, "logs", "--no-log-prefix", "localstack"))


CHANGE_VERSION = f"""
import json, sqlite3
with sqlite3.connect("s3/meta.db") as database:
    database.execute("update manifest set value = '4.13.0' where name = 'localstack'")
with open("{FILE}", "r+") as file:
    stamp = json.load(file) | {{"version": "LocalStack 4.13.0", "image_id": "another"}}
    file.seek(0)
    file.truncate()
    json.dump(stamp, file)
"""
HOLD_LOCK = """
import sqlite3, sys
held = sqlite3.connect("/var/lib/localstack/s3/meta.db", isolation_level=None)
held.execute("begin immediate")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def s3_data(fresh: Settings) -> Settings:
    up(fresh, "s3")
    return fresh


@pytest.mark.long
class TestS3Data:
    @shows("is locked: another LocalStack uses this volume", "database is locked")
    def test_two_servers_and_a_program_that_holds_the_database(self, s3_data: Settings, tmp_path: Path) -> str:
        s3 = service(s3_data, "s3")
        # The second server comes while the first one waits for its database, which takes it 10 s.
        with ThreadPoolExecutor() as pool, self.held_database(s3_data):
            answer = pool.submit(self.written, s3)
            second = self.second_server(s3_data, tmp_path / "second.yml")
            return second + answer.result()

    @staticmethod
    def second_server(settings: Settings, file: Path) -> str:
        second = {"extends": {"service": "localstack", "file": str(ROOT / "docker-compose.yml")}, "restart": "no"}
        file.write_text(json.dumps({"services": {"second": second | {"ports": []}}}))
        # The ports of the first are published already.
        text = file.read_text().replace('"ports": []', '"ports": !reset []')
        file.write_text(text)
        compose(settings, "up", "--detach", "second", files=[str(file)])
        seen = until("locked", lambda: composed(settings, "logs", "second", files=[str(file)]))
        composed(settings, "rm", "--stop", "--force", "--volumes", "second", files=[str(file)])
        return seen

    @staticmethod
    @contextmanager
    def held_database(settings: Settings) -> Iterator[None]:
        holder = subprocess.Popen(
            ["docker", "exec", "-i", container(settings, "localstack"), "python3", "-c", HOLD_LOCK],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert holder.stdout is not None
        # At the end its standard input is closed, and so it ends.
        with holder:
            assert holder.stdout.readline() == b"held\n"
            yield

    @staticmethod
    def written(s3: Any) -> str:
        client = s3.client(config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}))
        with pytest.raises(ClientError) as caught:
            client.put_object(Bucket=s3.bucket, Key="key", Body=b"")
        return str(caught.value)

    @shows("S3's data is of version …; the image … is …", "was written with LocalStack …, and this is LocalStack …")
    def test_another_version(self, s3_data: Settings) -> str:
        compose(s3_data, "down")
        in_volume(s3_data, "localstack_data", s3_data.localstack_image, "python3", "-c", CHANGE_VERSION)
        seen = refused(s3_data, "s3")
        compose(s3_data, "up", "--detach", "localstack")
        return seen + until("was written", lambda: composed(s3_data, "logs", "localstack"))


@pytest.mark.long
@shows("No space left on device", "The disk of the S3 volume is full.")
def test_a_full_disk(fresh: Settings) -> str:
    volumes = {f"{fresh.triton_project}_postgres_data": "70m", f"{fresh.triton_project}_localstack_data": "8m"}
    options = ("--opt", "type=tmpfs", "--opt", "device=tmpfs", "--opt")
    label = ("--label", f"{PROJECT_LABEL}={fresh.triton_project}")
    for volume, size in volumes.items():
        run("volume", "create", *label, *options, f"o=size={size}", volume)
    up(fresh, "postgres", "s3")
    s3 = cast("Any", service(fresh, "s3"))
    with pytest.raises(ClientError) as full:
        s3.client().put_object(Bucket=s3.bucket, Key="large", Body=bytes(20_000_000))
    with psycopg.connect(service(fresh, "postgres").url, autocommit=True) as connection:
        with pytest.raises(psycopg.OperationalError) as no_space:
            connection.execute("create table t as select repeat(md5(i::text), 30) from generate_series(1, 200000) i")
        with suppress(psycopg.Error):
            connection.close()
    return f"{no_space.value} {full.value}"


# --- Redis -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def redis_project(callers_choice: Any) -> Iterator[Settings]:
    with project(redis_password="secret") as settings:
        yield settings


@pytest.fixture
def redis_runs(redis_project: Settings) -> Settings:
    """One project, in which Redis runs whatever an earlier test has done to it."""
    if run("inspect", "--format={{.State.Running}}", container(redis_project, "redis")).strip() != "true":
        up(redis_project, "redis")
    return redis_project


class TestRedis:
    @shows("NOAUTH Authentication required.", "invalid username-password pair or user is disabled")
    def test_password(self, redis_runs: Settings) -> str:
        seen = run("exec", container(redis_runs, "redis"), "redis-cli", "get", "key")
        with pytest.raises(redis.AuthenticationError) as caught:
            redis.Redis(port=service(redis_runs, "redis").port, password="wrong", retry=None).ping()
        return seen + str(caught.value)

    @shows("… runs with another … than the settings have.")
    def test_attached_with_other_settings(self, redis_runs: Settings) -> str:
        with pytest.raises(TritonError) as caught:
            TritonEnvironment(
                redis_runs.updated(redis_password=SecretStr("other")), services=("redis",), persistent=True
            ).start()
        return str(caught.value)

    @pytest.mark.long
    @shows("command not allowed when used memory > 'maxmemory'")
    def test_full(self, redis_runs: Settings) -> str:
        with redis.Redis.from_url(service(redis_runs, "redis").url) as client:
            try:
                for number in range(300):
                    client.set(str(number), bytes(1_000_000))
            except redis.OutOfMemoryError as error:
                return str(error)
            finally:
                client.flushall()
        pytest.fail("300 MB were taken")

    @shows("The backup is damaged or cut short.")
    def test_a_broken_backup(self, redis_runs: Settings, tmp_path: Path) -> str:
        with TritonEnvironment(redis_runs, services=("redis",), persistent=True) as environment:
            backup.create(environment, tmp_path / "backup")
        whole = (tmp_path / "backup").read_bytes()
        (tmp_path / "cut").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(TritonError) as caught:
            backup.verify(tmp_path / "cut")
        return str(caught.value)

    @shows("Connection refused", "it ended (exit code …)", "… does not run.")
    def test_stopped(self, redis_runs: Settings) -> str:
        url = service(redis_runs, "redis").url
        compose(redis_runs, "stop", "redis")
        with pytest.raises(redis.ConnectionError) as caught:
            redis.Redis.from_url(url).ping()
        return str(caught.value) + triton(redis_runs, "status") + triton(redis_runs, "redis-cli", "ping")

    @pytest.mark.long
    @shows("Permission denied")
    def test_a_user_who_may_not(self, redis_runs: Settings, tmp_path: Path) -> str:
        file = tmp_path / "user.yml"
        file.write_text(json.dumps({"services": {"redis": {"user": "1234"}}}))
        compose(redis_runs, "up", "--detach", "redis", files=[str(file)])
        seen = until("denied", lambda: composed(redis_runs, "logs", "redis"))
        compose(redis_runs, "down")
        return seen

    @pytest.mark.long
    @shows("… exited while it started.")
    def test_damaged_data(self, redis_runs: Settings) -> str:
        compose(redis_runs, "down")
        break_it = "for file in appendonlydir/*.incr.aof; do echo broken > $file; done"
        in_volume(redis_runs, "redis_data", redis_runs.redis_image, "sh", "-c", break_it)
        seen = refused(redis_runs, "redis")
        assert "Bad file format" in seen
        compose(redis_runs, "down", "--volumes")
        return seen

    @shows("Removed …")
    def test_reset(self, redis_runs: Settings) -> str:
        return triton(redis_runs, "reset", "--yes")


# --- ClickHouse ------------------------------------------------------------------------------------------------------


@pytest.mark.long
@shows("memory limit exceeded", "Authentication failed: password is incorrect, or there is no user with such name")
def test_clickhouse(clickhouse_project: Settings) -> str:
    up(clickhouse_project, "clickhouse")
    clickhouse = cast("Any", service(clickhouse_project, "clickhouse"))
    query = "select length(groupArray(repeat('x', 1000))) from numbers(300000) settings max_memory_usage = 50000000"
    with clickhouse.client() as client, pytest.raises(clickhouse_connect.driver.exceptions.DatabaseError) as memory:
        client.command(query)
    with pytest.raises(clickhouse_connect.driver.exceptions.DatabaseError) as password:
        clickhouse.client(password="wrong")
    return f"{memory.value} {password.value}"
