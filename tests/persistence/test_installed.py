"""Persistent services of an installed triton-env outlive the environment that they were started from."""

import shutil
import subprocess
from pathlib import Path

import pytest

import projects
from triton_env import TritonEnvironment
from triton_env.core import packaged_files
from triton_env.persistent.docker.stack import DockerStack

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]
REPOSITORY = Path(__file__).parents[2]
ALIASES = {"redis": "redis", "s3": "localstack"}
"""The names of services in the compose file."""


def installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have this process take a copy of the package's files for those of its installation."""
    package = folder / "site-packages" / "triton_env"
    shutil.copytree(REPOSITORY / "docker", package / "compose" / "docker")
    shutil.copy(REPOSITORY / "docker-compose.yml", package / "compose")
    monkeypatch.setattr(packaged_files, "_PACKAGE", package)


@pytest.mark.parametrize(
    "services", [("redis",), pytest.param(("redis", "s3"), marks=pytest.mark.long)], ids=["Redis", "S3 too"]
)
def test_neither_a_removed_environment_nor_a_second_one_changes_what_runs(
    services: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with projects.project(triton_state_dir=str(tmp_path / "state")) as settings:
        installed(tmp_path / "one", monkeypatch)
        with TritonEnvironment(settings, services=services, persistent=True) as env:
            env.redis.client().set("kept", "1")
            env.detach()
        shutil.rmtree(tmp_path / "one")
        installed(tmp_path / "two", monkeypatch)
        with DockerStack(settings) as stack:
            first = {name: container.id for name, container in stack.instances().items()}
        # As the engine does it when the machine starts: what it mounts has to be there.
        for container in first.values():
            subprocess.run(["docker", "restart", container], check=True, capture_output=True, timeout=120)
        with TritonEnvironment(settings, services=services, persistent=True) as env:
            assert env.redis.client().get("kept") == b"1"
            if "s3" in services:
                env.s3.client().head_bucket(Bucket=env.s3.bucket)
        with DockerStack(settings) as stack:
            # `up` replaces what differs from its file and settings.
            stack.compose.up([alias for name, alias in ALIASES.items() if name in services])
            assert {name: container.id for name, container in stack.instances().items()} == first
