"""Fixtures for the tests of the distributions in examples/: each is installed for these, and its images are there."""

import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from distributions import on_path, unpacked
from patience import patient_probes

BUILD = Path(__file__).parent / "standins" / "build.py"


def project_of(path: Path) -> Path:
    """The folder of the distribution that a module of tests belongs to."""
    return next(folder for folder in path.parents if (folder / "pyproject.toml").is_file())


def services_of(path: Path) -> tuple[str, ...]:
    """The names of the services that it brings."""
    project = tomllib.loads((project_of(path) / "pyproject.toml").read_text("utf-8"))["project"]
    return tuple(project["entry-points"]["triton_env.services"])


@pytest.fixture(scope="module", autouse=True)
def installed(
    request: pytest.FixtureRequest, callers_choice: object, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """The distribution, as pip would install it, on a machine that may be slow."""
    with (
        on_path(unpacked(project_of(request.path), tmp_path_factory.mktemp("installed"))),
        pytest.MonkeyPatch.context() as patch,
        patient_probes(),
    ):
        for name in services_of(request.path):
            patch.setenv(f"TRITON_{name.upper()}_TIMEOUT", "900")
        yield


@pytest.fixture(scope="module")
def images(request: pytest.FixtureRequest, installed: None) -> Iterator[None]:
    """The variables of the images, which the caller may set; where no official one can be had, stand-ins are built."""
    with pytest.MonkeyPatch.context() as patch:
        for name in services_of(request.path):
            command = [sys.executable, str(BUILD), "--missing", "--only", name]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            for line in done.stdout.splitlines():
                patch.setenv(*line.split("=", 1))
        yield
