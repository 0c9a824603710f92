"""A stranger's application runs its own tests on the plugin, with two lines of configuration."""

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest

APPLICATION = Path(__file__).parents[2] / "examples" / "app"


def test_two_lines_are_all_it_knows_of_us() -> None:
    configuration = tomllib.loads((APPLICATION / "pyproject.toml").read_text("utf-8"))
    ours = [name for name in configuration["tool"]["pytest"]["ini_options"] if name.startswith("triton")]
    assert sorted(ours) == ["triton_export_env", "triton_template"]
    sources = [path.read_text("utf-8") for path in APPLICATION.rglob("*.py")]
    assert len(sources) > 5
    assert not any("triton_env" in source or "TritonEnvironment" in source for source in sources)


# What the plugin does on Docker and in workers is in `test_pytest_plugin_runs`.
@pytest.mark.timeout(600)
@pytest.mark.long_on("4", "docker")
@pytest.mark.parametrize("workers", ["0", "4"])
@pytest.mark.parametrize("runtime", [pytest.param("docker", marks=pytest.mark.docker), "embedded"])
def test_its_tests_pass(
    runtime: str, workers: str, callers_choice: Mapping[str, str], embedded_packages: None, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", workers, "-p", "no:cacheprovider", "-p", "no:asyncio"],
        cwd=APPLICATION,
        env=dict(os.environ) | callers_choice | {"TRITON_RUNTIME": runtime, "TRITON_STATE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\b13 passed\b", done.stdout), done.stdout
    assert "skipped" not in done.stdout


def test_without_its_variables_it_would_not_import() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import claims_desk.main"],
        cwd=APPLICATION,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode != 0
    assert "database_url" in done.stderr
