"""A LocalStack container with the options of `docker-compose.yml`, on a volume that outlives it."""

import itertools
import json
import os
import random
import socket
import subprocess
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

PACKAGE = Path(__file__).resolve().parents[2] / "docker" / "localstack"
INSIDE = "/opt/triton-env/localstack"
DATA = "/var/lib/localstack"
DATABASE = f"{DATA}/s3/meta.db"
PATIENCE = 250
"""Seconds for anything that has to happen some time."""

ACCOUNTS = ("000000000000", "111111111111")
REGIONS = ("us-east-1", "eu-central-1")

ENVIRONMENT = {
    "PYTHONPATH": INSIDE,
    "PROVIDER_OVERRIDE_S3": "persisted",
    "SERVICES": "s3",
    "EAGER_SERVICE_LOADING": "1",
    "SKIP_SSL_CERT_DOWNLOAD": "1",
    "DISABLE_EVENTS": "1",
    "DNS_ADDRESS": "0",
}


def image() -> str:
    return os.environ.get("LOCALSTACK_IMAGE", "localstack/localstack:4.14.0")


def docker(*arguments: str, check: bool = True, text: str | None = None) -> str:
    """Run `docker` and return its standard output and error together."""
    done = subprocess.run(
        ["docker", *arguments],
        input=text,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    if check and done.returncode:
        pytest.fail(f"docker {' '.join(arguments)}: {done.stdout[-3000:]}")
    return done.stdout.strip()


def until(what: str, attempt: Any, seconds: float = PATIENCE) -> Any:
    """Return the first true answer of `attempt`."""
    deadline = time.monotonic() + seconds
    while not (answer := attempt()):
        if time.monotonic() > deadline:
            pytest.fail(f"{what} did not happen in {seconds:g} s")
        time.sleep(0.05)
    return answer


def _free_port() -> int:
    """A port that is still free when the container comes back.

    It lies above those that the system gives to connections, and that Docker and the runtimes pick for others; the
    pytest processes beside this one pick others too.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 8
    while True:
        port = random.SystemRandom().randrange(61_000 + worker, 65_000, 8)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Server:
    """A container that can be killed and started again: same volume, same port."""

    def __init__(self, volume: str, environment: dict[str, str], options: tuple[str, ...] = ()) -> None:
        self.name = f"tpersist-{uuid.uuid4().hex[:12]}"
        self.volume = volume
        self.port = _free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        variables = [f"--env={name}={value}" for name, value in (ENVIRONMENT | environment).items()]
        docker(
            *("create", "--init", "--name", self.name, f"--publish=127.0.0.1:{self.port}:4566"),
            *(f"--volume={volume}:{DATA}", f"--volume={PACKAGE}:{INSIDE}:ro"),
            f"--volume={PACKAGE / 'ready.d'}:/etc/localstack/init/ready.d:ro",
            f"--volume={PACKAGE / 'start.d'}:/etc/localstack/init/start.d:ro",
            *variables,
            *options,
            image(),
        )

    def start(self) -> None:
        """Start it and wait until S3 answers, and the hooks have run."""
        docker("start", self.name)
        deadline = time.monotonic() + PATIENCE
        # Asking the engine costs as much as the start has to spare, hence seldom.
        for turn in itertools.count(1):
            if self._is_ready():
                return
            if time.monotonic() > deadline or (turn % 20 == 0 and not self.is_running()):
                pytest.fail(f"LocalStack did not start: {self.logs()[-3000:]}")
            time.sleep(0.1)

    def start_in_vain(self) -> str:
        """Start it, wait for its end with exit code 1, and return its log."""
        docker("start", self.name)
        assert docker("wait", self.name) == "1", self.logs()
        return self.logs()

    def kill(self) -> None:
        docker("kill", "--signal=KILL", self.name)

    def stop(self) -> None:
        docker("stop", self.name)

    def is_running(self) -> bool:
        return docker("inspect", "--format={{.State.Running}}", self.name) == "true"

    def logs(self) -> str:
        return docker("logs", self.name)

    def run(self, *command: str) -> str:
        """Run a command inside."""
        return docker("exec", self.name, *command)

    def query(self, *statements: str) -> list[list[Any]]:
        """Run SQL on the database of the running server, from another process."""
        return query(statements, "exec", "-i", self.name)

    def s3(self, account: str = ACCOUNTS[0], region: str = REGIONS[0], **options: Any) -> Any:
        """Return a boto3 client. It does not retry: an error must be seen."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=region,
            aws_access_key_id=account,
            aws_secret_access_key="secret",
            config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}, **options),
        )

    def remove(self) -> None:
        docker("rm", "--force", "--volumes", self.name, check=False)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.endpoint}/_localstack/init/ready", timeout=5) as answer:
                return b'"completed": true' in answer.read()
        except OSError:
            return False


def query(statements: tuple[str, ...], *how: str) -> list[list[Any]]:
    """Run SQL with the image's Python, in `docker exec` or `docker run`."""
    script = (
        "import json, sqlite3, sys\n"
        f"connection = sqlite3.connect({DATABASE!r}, isolation_level=None)\n"
        "for statement in json.load(sys.stdin): rows = connection.execute(statement).fetchall()\n"
        "print(json.dumps(rows))"
    )
    answer = docker(*how, "python", "-c", script, text=json.dumps(statements))
    rows: list[list[Any]] = json.loads(answer)
    return rows


@contextmanager
def volume(*options: str) -> Iterator[str]:
    name = f"tpersist-{uuid.uuid4().hex[:12]}"
    docker("volume", "create", *options, name)
    try:
        yield name
    finally:
        docker("volume", "rm", "--force", name, check=False)


@contextmanager
def server(on: str, *options: str, **environment: str) -> Iterator[Server]:
    """A server on the volume `on`, not started yet; gone afterwards. Options are those of `docker create`."""
    made = Server(on, environment, options)
    try:
        yield made
    finally:
        made.remove()


@contextmanager
def shell(on: str) -> Iterator[str]:
    """A container that only holds the volume, and has the provider for Python; yields its name."""
    name = f"tpersist-{uuid.uuid4().hex[:12]}"
    try:
        docker(
            *("run", "--detach", "--name", name, f"--volume={on}:{DATA}", f"--volume={PACKAGE}:{INSIDE}:ro"),
            *(f"--env=PYTHONPATH={INSIDE}", "--entrypoint=sleep", image(), "600"),
        )
        yield name
    finally:
        docker("rm", "--force", "--volumes", name, check=False)
