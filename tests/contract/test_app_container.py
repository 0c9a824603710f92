"""The application of `docker-compose.app.yml`, started with its services on empty volumes."""

import json
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import docker
import pytest

from projects import compose, ports, project
from triton_env import Settings

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

REPOSITORY = Path(__file__).parents[2]
PACKAGES = ("psycopg[binary]", "clickhouse-connect", "redis")


def install(folder: Path) -> None:
    """What the application's image has, for the Python of an image that is here: no registry is asked for one."""
    uv = [shutil.which("uv")] if shutil.which("uv") else [sys.executable, "-m", "uv"]
    options = ["--quiet", "--python-version", "3.13", "--only-binary", ":all:", "--target", str(folder)]
    subprocess.run([*uv, "pip", "install", *options, *PACKAGES], check=True, timeout=300)


def health(port: int) -> Any:
    """What the application says, once it listens."""
    deadline = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=200) as answer:
                return json.load(answer)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def log_of_the_start(settings: Settings, files: tuple[str, ...]) -> str:
    """What it wrote, once that has three lines: the engine may be behind with what a container writes."""
    deadline = time.monotonic() + 200
    while True:
        log = compose(settings, "logs", "--no-log-prefix", "api", files=files)
        if len(log.splitlines()) >= 3 or time.monotonic() > deadline:
            return log
        time.sleep(0.1)


@pytest.mark.long
def test_an_application_that_waits_for_healthy_services_never_sees_a_connection_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path / "packages")
    here = tmp_path / "here.yml"
    here.write_text(
        json.dumps(
            {
                "services": {
                    "api": {
                        "entrypoint": ["/usr/bin/python3", "-u", "/app/app.py"],
                        "working_dir": "/app",
                        "environment": {"PYTHONPATH": "/packages"},
                        "volumes": [
                            f"{tmp_path / 'packages'}:/packages:ro",
                            f"{REPOSITORY / 'examples' / 'api'}:/app:ro",
                        ],
                    }
                }
            }
        )
    )
    files = (str(REPOSITORY / "docker-compose.app.yml"), str(here))
    with project() as settings:
        # The last of the eight ports that the project has to itself, since it is bound only when all else is up.
        numbers = [int(number) for number in ports(settings.triton_project).values()]
        settings = settings.updated(api_port=min(numbers) + 7)
        monkeypatch.setenv("API_IMAGE", settings.localstack_image)
        compose(settings, "up", "--detach", "--no-build", "--pull", "never", files=files)
        versions = health(settings.api_port)
        log = log_of_the_start(settings, files)
        client = docker.from_env()
        try:
            container = client.containers.get(f"{settings.triton_project}-api-1")
            assert container.attrs["RestartCount"] == 0
            assert container.status == "running"
        finally:
            client.close()
    assert set(versions) == {"postgres", "clickhouse", "redis"}
    assert "connection error" not in log
    assert [line.split()[0] for line in log.splitlines()[:3]] == ["postgres", "clickhouse", "redis"]


def test_both_files_are_valid_without_any_setting() -> None:
    settings = Settings()
    written = json.loads(
        compose(settings, "config", "--format", "json", files=(str(REPOSITORY / "docker-compose.app.yml"),))
    )
    assert set(written["services"]) == {"postgres", "clickhouse", "redis", "localstack", "api"}
    needs = written["services"]["api"]["depends_on"]
    assert {name: need["condition"] for name, need in needs.items()} == dict.fromkeys(
        ("postgres", "clickhouse", "redis"), "service_healthy"
    )
