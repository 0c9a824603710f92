"""Which ClickHouse of a machine is taken, and what it is run with."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from pydantic import SecretStr

import scratch
from triton_env import Settings, TritonEnvironment
from triton_env.cli.checks import _embedded_here
from triton_env.core.model import STAMP_FILE, ProcessRecipe, ServiceRecipe
from triton_env.errors import InvalidSetting, RuntimeUnavailable, ServiceExited, VolumeMismatch
from triton_env.persistent.embedded.data import check
from triton_env.persistent.embedded.folder import ProjectFolder
from triton_env.persistent.stamps import Stamp
from triton_env.runtimes.embedded import packages
from triton_env.services import SERVICES
from triton_env.services.clickhouse import programs

Found = tuple[str, Path]


def installed(folder: Path, version: str, after: str = "exit 3") -> Path:
    """A program of that version, as far as it is looked at, which notes when it is asked."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "clickhouse"
    program.write_text(
        f"""#!/bin/sh
if [ "$*" = "server --version" ]; then
    echo asked >>{folder}/asked
    echo "ClickHouse server version {version} (official build)."
    exit
fi
{after}
"""
    )
    program.chmod(0o755)
    return program


def times_asked(program: Path) -> int:
    return len((program.parent / "asked").read_text().splitlines())


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without ClickHouse: the folder in which it has `home` and `path`."""
    folder = scratch.folder().resolve()
    folder.chmod(0o755)
    (folder / "path").mkdir()
    # Without this machine's own ClickHouse, wherever that is on PATH.
    for name in ("sh", "cat", "tar"):
        (folder / "path" / name).symlink_to(shutil.which(name) or "")
    monkeypatch.setenv("HOME", str(folder / "home"))
    monkeypatch.setenv("PATH", str(folder / "path"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    programs._version_of.cache_clear()
    return folder


@pytest.fixture
def versions(machine: Path) -> Path:
    """The folder in which clickhousectl has them."""
    folder = machine / "home" / ".clickhouse" / "versions"
    folder.mkdir(parents=True)
    return folder


def found(value: str = "") -> Found | None:
    installation = programs.chosen(value)
    return (installation.version, installation.program) if installation else None


def recipe(value: str = "", **settings: object) -> ServiceRecipe:
    return SERVICES["clickhouse"].recipe(Settings(triton_clickhouse_bin=value, **settings))


class TestOneIsFound:
    def test_on_path_through_a_link(self, machine: Path) -> None:
        program = installed(machine / "opt", "25.8.2.29")
        (machine / "path" / "clickhouse").symlink_to(program)
        assert found() == ("25.8.2.29", program)
        assert str(programs.chosen("")) == f"ClickHouse 25.8.2.29 in {machine}/opt (on PATH)"

    def test_the_newest_of_clickhousectl_by_number_and_not_by_name(self, versions: Path) -> None:
        for version in ("25.10.1.1", "25.9.30.5", "24.1.1.1"):
            installed(versions / version, version)
        assert found() == ("25.10.1.1", versions / "25.10.1.1" / "clickhouse")
        # It has said so in the name of its folder.
        assert not list(versions.rglob("asked"))

    def test_the_default_of_clickhousectl_before_a_newer_one(self, versions: Path) -> None:
        for version in ("25.8.1.1", "26.3.1.1"):
            installed(versions / version, version)
        (versions.parent / "default").write_text("25.8.1.1\n")
        assert found() == ("25.8.1.1", versions / "25.8.1.1" / "clickhouse")
        assert "(clickhousectl's default)" in str(programs.chosen(""))

    def test_path_before_clickhousectl(self, machine: Path, versions: Path) -> None:
        installed(versions / "26.3.1.1", "26.3.1.1")
        program = installed(machine / "path", "25.8.1.1")
        assert found() == ("25.8.1.1", program)

    def test_none(self, machine: Path) -> None:
        assert found() is None
        assert recipe().process.of_machine == ""
        assert "chdb-core" in recipe().process.requires

    def test_none_by_a_user_without_a_name_and_a_home(self, machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("HOME")
        monkeypatch.setattr(os, "getuid", lambda: 61_234_567)
        with pytest.raises(RuntimeError):
            Path.home()
        assert found() is None
        program = installed(machine / "path", "25.8.1.1")
        assert found() == ("25.8.1.1", program)

    def test_one_that_is_too_old_is_passed_over(self, machine: Path, versions: Path) -> None:
        installed(machine / "path", "24.2.9.9")
        assert found() is None
        installed(versions / "24.3.1.1", "24.3.1.1")
        assert found() == ("24.3.1.1", versions / "24.3.1.1" / "clickhouse")

    def test_something_else_of_that_name_is_passed_over(self, machine: Path, versions: Path) -> None:
        program = installed(machine / "path", "25.8.1.1")
        program.write_text("#!/bin/sh\necho a house that clicks\n")
        (versions / ".master-builds.json").write_text("{}")
        (versions / "25.8.1.1").mkdir()
        (versions.parent / "default").write_bytes(b"\xff/../..")
        assert found() is None

    @pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user's servers are that user")
    def test_one_that_the_servers_cannot_reach_is_passed_over(self, machine: Path, versions: Path) -> None:
        installed(versions / "25.8.1.1", "25.8.1.1")
        (machine / "home").chmod(0o700)
        assert found() is None

    def test_it_is_asked_once_for_all_commands(self, machine: Path) -> None:
        program = installed(machine / "path", "25.8.1.1")
        for _ in range(2):
            programs._version_of.cache_clear()  # as in another process
            assert found() == ("25.8.1.1", program)
        assert times_asked(program) == 1
        installed(machine / "path", "26.3.11.1")
        assert found() == ("26.3.11.1", program)
        assert times_asked(program) == 2

    def test_a_cache_that_cannot_be_used_is_not_in_the_way(self, machine: Path) -> None:
        (machine / "cache").write_text("")
        program = installed(machine / "path", "25.8.1.1")
        assert found() == ("25.8.1.1", program)


class TestOneThatIsNamed:
    def test_by_its_folder_or_its_path(self, machine: Path) -> None:
        program = installed(machine / "mine", "25.8.1.1")
        installed(machine / "path", "26.3.1.1")
        for value in (program, program.parent):
            assert found(str(value)) == ("25.8.1.1", program)
            assert str(programs.chosen(str(value))).endswith("(named by TRITON_CLICKHOUSE_BIN)")

    def test_by_another_name_of_its_file(self, machine: Path) -> None:
        program = installed(machine / "mine", "25.8.1.1").rename(machine / "clickhouse-25.8")
        assert found(str(program)) == ("25.8.1.1", program)

    def test_the_package(self, machine: Path) -> None:
        installed(machine / "path", "26.3.1.1")
        assert found("wheel") is None

    @pytest.mark.parametrize(
        ("value", "cause"),
        [
            ("mine", "it is not an absolute path"),
            ("{}/absent", "it does not exist"),
            ("{}/empty", "it has no clickhouse"),
            ("{}/closed/clickhouse", "it cannot be run"),
            ("{}/old", "it is ClickHouse 18.16.1, which is older than 24.3"),
            ("{}/other", "it does not answer clickhouse server --version with a version"),
        ],
    )
    def test_one_that_cannot_be_used_is_an_error(self, machine: Path, value: str, cause: str) -> None:
        (machine / "empty").mkdir()
        installed(machine / "old", "18.16.1")
        installed(machine / "other", "25.8.1.1").write_text("#!/bin/sh\n")
        installed(machine / "closed", "25.8.1.1").chmod(0o644)
        value = value.format(machine)
        with pytest.raises(InvalidSetting) as caught:
            programs.chosen(value)
        assert (caught.value.cause, caught.value.where) == (cause, value)
        # Where it is not asked for, it is not in the way.
        unusable = recipe(value)
        assert cause in str(unusable.process.unusable)
        with pytest.raises(InvalidSetting):
            packages.check([unusable])
        assert "TRITON_CLICKHOUSE_BIN" in packages.problem_of([unusable])


def test_without_the_package_one_of_the_machine_will_do(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "version", lambda name: "")
    with pytest.raises(RuntimeUnavailable, match="chdb-core"):
        packages.check([recipe()])
    installed(machine / "path", "25.8.1.1")
    packages.check([recipe()])


def test_doctor_names_it(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = installed(machine / "path", "25.8.1.1")
    monkeypatch.setenv("TRITON_CLICKHOUSE_BIN", str(program))
    monkeypatch.setattr(packages, "version", lambda name: "1.0")
    words = _embedded_here(Settings(), needed=True).words
    assert f"ClickHouse 25.8.1.1 in {machine}/path (named by TRITON_CLICKHOUSE_BIN)" in words
    assert "chdb" not in words


def test_one_that_does_not_work_is_named_in_the_error(machine: Path) -> None:
    program = installed(machine / "mine", "25.8.1.1", "echo 'cannot open shared object' >&2; exit 3")
    with pytest.raises(ServiceExited) as caught:
        TritonEnvironment(
            Settings(triton_clickhouse_bin=str(program)), services=("clickhouse",), runtime="embedded"
        ).start()
    assert "cannot open shared object" in caught.value.log_tail
    assert f"set TRITON_CLICKHOUSE_BIN to another one than ClickHouse 25.8.1.1 in {machine}/mine" in caught.value.hint


@pytest.fixture
def configured(machine: Path) -> Callable[..., ProcessRecipe]:
    """The recipe of the process of a ClickHouse of this machine, by settings."""
    program = installed(machine / "mine", "25.8.1.1")
    return lambda **settings: recipe(str(program), **settings).process


def element(process: ProcessRecipe, file: str, path: str) -> ElementTree.Element | None:
    return ElementTree.fromstring(process.files[file]).find(path)


def text(process: ProcessRecipe, file: str, path: str) -> str | None:
    return ElementTree.fromstring(process.files[file]).findtext(path)


class TestConfiguration:
    def test_no_secret_is_where_others_can_read_it(self, configured: Callable[..., ProcessRecipe]) -> None:
        process = configured(clickhouse_user="me", clickhouse_password=SecretStr("geheim"))
        assert "geheim" not in f"{process.argv} {process.environment} {process.files}"
        hashed = hashlib.sha256(b"geheim").hexdigest()
        assert hashed not in f"{process.argv} {process.environment}"
        assert text(process, "users.xml", "users/me/password_sha256_hex") == hashed

    def test_the_user_is_the_only_one_and_may_manage_access(self, configured: Callable[..., ProcessRecipe]) -> None:
        process = configured(clickhouse_user="me")
        users = element(process, "users.xml", "users")
        assert users is not None
        assert [user.tag for user in users] == ["me"]
        for name, value in (("access_management", "1"), ("profile", "default"), ("networks/ip", "::/0")):
            assert users.findtext(f"me/{name}") == value

    def test_ports_and_address_come_by_variables(self, configured: Callable[..., ProcessRecipe]) -> None:
        process = configured()
        for path, value in (
            ("listen_host", "{host}"),
            ("http_port", "{port:http}"),
            ("tcp_port", "{port:native}"),
            ("remote_servers/default/shard/replica/port", "{port:native}"),
        ):
            found = element(process, "config.xml", path)
            assert found is not None
            assert process.environment[found.attrib["from_env"]] == value
        assert process.has_port("http")
        assert process.has_port("native")

    def test_nothing_else_listens_and_nothing_is_reported(self, configured: Callable[..., ProcessRecipe]) -> None:
        root = ElementTree.fromstring(configured().files["config.xml"])
        assert [each.tag for each in root if each.tag.endswith("_port")] == ["http_port", "tcp_port"]
        assert root.findtext("send_crash_reports/enabled") == "false"

    def test_options_win_each_in_its_file(self, configured: Callable[..., ProcessRecipe]) -> None:
        process = configured(
            triton_clickhouse_options="mark_cache_size=7,merge_tree.max_suspicious_broken_parts=5,macros.shard=<&>,"
            "profiles.default.max_threads=3,users.default.quota=mine"
        )
        for path, value in (
            ("mark_cache_size", "7"),
            ("merge_tree/max_suspicious_broken_parts", "5"),
            ("macros/shard", "<&>"),
        ):
            assert text(process, "config.xml", path) == value
        assert text(process, "users.xml", "profiles/default/max_threads") == "3"
        assert text(process, "users.xml", "users/default/quota") == "mine"

    def test_data_that_stays_is_kept_from_web_pages_and_ended_in_good_order(
        self, configured: Callable[..., ProcessRecipe]
    ) -> None:
        process = configured()
        assert process.lasting is not None
        assert element(process, "config.xml", "http_handlers") is None
        rules = element(process.lasting, "config.xml", "http_handlers")
        assert rules is not None
        assert [each.tag for each in rules] == ["rule", "rule", "defaults"]
        assert (process.stop_signal, process.lasting.stop_signal) == ("SIGKILL", "SIGTERM")


class TestDataOfTheOther:
    @pytest.fixture
    def folder(self, machine: Path) -> ProjectFolder:
        folder = ProjectFolder(machine / "project")
        folder.data("clickhouse").mkdir(parents=True)
        return folder

    @staticmethod
    def stamp(folder: ProjectFolder, made_of: str) -> None:
        stamp = Stamp("clickhouse", made_of, made_of, "", "")
        (folder.data("clickhouse") / STAMP_FILE).write_bytes(stamp.to_json())

    @staticmethod
    def refusal(folder: ProjectFolder, value: str) -> VolumeMismatch:
        with pytest.raises(VolumeMismatch) as caught:
            check(folder, recipe(value))
        return caught.value

    def test_of_the_package_is_not_taken_over(self, machine: Path, folder: ProjectFolder) -> None:
        program = installed(machine / "mine", "26.9.1.1")
        self.stamp(folder, "chdb-core 26.9.0")
        refused = self.refusal(folder, str(program))
        assert refused.what.startswith("ClickHouse's data was written by chdb-core 26.9.0, and ClickHouse 26.9.1.1 in ")
        assert "set TRITON_CLICKHOUSE_BIN to wheel. " in refused.hint

    def test_of_a_clickhouse_is_not_taken_over_by_the_package(self, machine: Path, folder: ProjectFolder) -> None:
        self.stamp(folder, "ClickHouse 25.8.2.29 in /usr/bin (on PATH)")
        refused = self.refusal(folder, "wheel")
        assert "cannot take it over" in refused.what
        assert "set TRITON_CLICKHOUSE_BIN to a ClickHouse 25.8.2.29. " in refused.hint

    def test_of_a_newer_clickhouse_is_refused(self, machine: Path, folder: ProjectFolder) -> None:
        program = installed(machine / "mine", "25.3.1.1")
        self.stamp(folder, "ClickHouse 25.8.2.29 in /usr/bin (on PATH)")
        refused = self.refusal(folder, str(program))
        assert refused.what.startswith(
            "ClickHouse's data is of version 25.8; the program here (ClickHouse 25.3.1.1 in "
        )
        assert refused.hint.startswith("set TRITON_CLICKHOUSE_BIN to a ClickHouse 25.8. ")

    @pytest.mark.parametrize("wrote", ["ClickHouse 25.8.2.29 in /usr/bin (on PATH)", "ClickHouse 24.8.1.1 in /old (x)"])
    def test_of_an_older_one_is_read_wherever_it_was(self, machine: Path, folder: ProjectFolder, wrote: str) -> None:
        program = installed(machine / "mine", "25.8.3.1")
        self.stamp(folder, wrote)
        assert check(folder, recipe(str(program)))
        assert json.loads((folder.data("clickhouse") / STAMP_FILE).read_text())["image"] == wrote

    def test_of_a_newer_package_is_refused_without_a_clickhouse_that_would_not_help(
        self, machine: Path, folder: ProjectFolder
    ) -> None:
        self.stamp(folder, "chdb-core 99.1.0")
        refused = self.refusal(folder, "wheel")
        assert refused.hint.startswith("install that version again: pip install 'chdb-core==99.1.*'. ")
