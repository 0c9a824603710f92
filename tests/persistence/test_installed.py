"""Persistent services of an installed triton-env outlive the environment that they were started from."""

import shutil
import subprocess
from pathlib import Path

import pytest

import projects
from triton_env import TritonEnvironment
from triton_env.core import packaged_files
from triton_env.persistent.stack import Stack

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]
REPOSITORY = Path(__file__).parents[2]


def installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have this process take a copy of the package's files for those of its installation."""
    package = folder / "site-packages" / "triton_env"
    shutil.copytree(REPOSITORY / "docker", package / "compose" / "docker")
    shutil.copy(REPOSITORY / "docker-compose.yml", package / "compose")
    monkeypatch.setattr(packaged_files, "_PACKAGE", package)


def test_neither_a_removed_environment_nor_a_second_one_changes_what_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with projects.project(triton_state_dir=str(tmp_path / "state")) as settings:
        installed(tmp_path / "one", monkeypatch)
        with TritonEnvironment(settings, services=("redis", "s3"), persistent=True) as env:
            env.redis.client().set("kept", "1")
            env.detach()
        shutil.rmtree(tmp_path / "one")
        installed(tmp_path / "two", monkeypatch)
        with Stack(settings) as services:
            first = {name: container.id for name, container in services.containers().items()}
        # As the engine does it when the machine starts: what it mounts has to be there.
        for container in first.values():
            subprocess.run(["docker", "restart", container], check=True, capture_output=True, timeout=120)
        with TritonEnvironment(settings, services=("redis", "s3"), persistent=True) as env:
            assert env.redis.client().get("kept") == b"1"
            env.s3.client().head_bucket(Bucket=env.s3.bucket)
        with Stack(settings) as services:
            # `up` replaces what differs from its file and settings.
            services._compose.up(["redis", "localstack"])
            assert {name: container.id for name, container in services.containers().items()} == first
