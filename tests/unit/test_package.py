"""The package from outside: its names, what importing it costs, and what its wheel contains."""

import importlib
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

import triton_env

ROOT = Path(__file__).parents[2]
HEAVY = ("docker", "testcontainers", "psycopg", "clickhouse_connect", "redis", "boto3", "botocore", "requests", "chdb")


def loaded_by(statements: str) -> set[str]:
    script = f"import sys\n{statements}\nprint(*(name for name in sys.modules if '.' not in name))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "statements",
    [
        "import triton_env",
        "from triton_env import TritonEnvironment",
        "from triton_env import *",
        "from triton_env import TritonEnvironment\nTritonEnvironment()",
        "from triton_env.services import SERVICES",
    ],
)
def test_importing_loads_no_driver_and_no_docker(statements: str) -> None:
    assert loaded_by(statements).isdisjoint(HEAVY)


def test_the_bare_import_loads_not_even_the_settings() -> None:
    assert loaded_by("import triton_env").isdisjoint((*HEAVY, "pydantic", "pydantic_settings", "asyncio", "rich"))


@pytest.mark.parametrize("module", ["docker", "testcontainers"])
def test_this_test_would_see_them(module: str) -> None:
    assert module in loaded_by("import triton_env.runtimes.docker.containers")


def test_public_names_are_pinned() -> None:
    assert sorted(triton_env.__all__) == [
        "ClickHouse",
        "Namespace",
        "Persistent",
        "Phase",
        "Postgres",
        "Redis",
        "Reuse",
        "S3",
        "Settings",
        "Span",
        "Template",
        "Timeline",
        "TritonEnvironment",
        "TritonError",
        "__version__",
        "backup",
        "errors",
    ]


@pytest.mark.parametrize("name", triton_env.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    value = getattr(triton_env, name)
    assert name == "__version__" or value.__doc__
    assert name in dir(triton_env)


def test_names_are_also_where_they_were() -> None:
    from triton_env import Persistent, Reuse, run, sharing

    assert (run.Persistent, sharing.Reuse) == (Persistent, Reuse)


def test_other_names_are_not() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Mongo'"):
        triton_env.Mongo  # noqa: B018
    with pytest.raises(ImportError):
        importlib.import_module("triton_env.mongo")


class TestWhereItCannotRun:
    def test_an_older_python(self) -> None:
        script = (
            "import sys; sys.version_info = (3, 10, 4)\ntry:\n    import triton_env\nexcept ImportError as error:\n"
        )
        done = subprocess.run([sys.executable, "-c", f"{script}    print(error)"], capture_output=True, text=True)
        assert done.stdout == f"triton-env needs Python 3.11 or newer, and this is Python 3.10 ({sys.executable}).\n"

    def test_a_zip_file(self, tmp_path: Path) -> None:
        archive = tmp_path / "app.pyz"
        with zipfile.ZipFile(archive, "w") as file:
            for name in ("__init__.py", "_version.py", "__main__.py"):
                file.write(ROOT / "src" / "triton_env" / name, f"triton_env/{name}")
            file.writestr("__main__.py", "import triton_env.__main__")
        done = subprocess.run([sys.executable, str(archive)], capture_output=True, text=True)
        assert done.returncode == 1
        assert done.stderr.startswith(f"error: triton-env cannot be run out of a zip file ({archive})")


def test_it_leaves_the_versions_of_drivers_to_its_users() -> None:
    """Extras of Testcontainers are for its modules, which are not used, and bound redis to its newest versions."""
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    (testcontainers,) = (each for each in dependencies if each.startswith("testcontainers"))
    assert "[" not in testcontainers
    drivers = ("boto3", "clickhouse-connect", "psycopg", "redis")
    assert not [each for each in dependencies if each.startswith(drivers) and "<" in each]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    (built,) = WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    return Path(built)


def test_the_wheel_says_that_it_is_typed(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        assert "triton_env/py.typed" in names
        assert archive.read("triton_env/py.typed") == b""


def test_the_wheel_contains_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    sources = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src" / "triton_env").rglob("*.py")}
    assert sources <= set(names)
    assert {name.split("/")[0] for name in names} == {
        "triton_env",
        f"triton_env-{triton_env.__version__}.dist-info",
    }


def test_the_wheel_brings_the_compose_file_all_that_it_mounts_and_the_settings(wheel: Path) -> None:
    own = (ROOT / "docker-compose.yml", ROOT / ".env.example")
    files = [*own, *(path for path in (ROOT / "docker").rglob("*") if path.is_file())]
    expected = {
        f"triton_env/compose/{path.relative_to(ROOT)}": path for path in files if "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("triton_env/compose/")}
        assert packed == set(expected)
        for name, path in expected.items():
            assert archive.read(name) == path.read_bytes()
            executable = archive.getinfo(name).external_attr >> 16 & 0o111
            assert bool(executable) == bool(path.stat().st_mode & 0o111), name
