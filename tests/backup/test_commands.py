"""`backup`, `restore` and the script on the command line."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import projects
from backup.test_unfinished import at_step, killed
from triton_env import Settings, TritonEnvironment
from triton_env.archive.archive import ArchiveWriter
from triton_env.archive.manifest import Manifest, SavedService
from triton_env.archive.steps import Step
from triton_env.backup import restore
from triton_env.backup.display import shown
from triton_env.cli import command_line
from triton_env.core.commands import runnable
from triton_env.core.sizes import size_words
from triton_env.services.postgres.catalog import list_elements

ROOT = Path(__file__).parents[2]


def cli(*arguments: str | Path, answer: str = "") -> Result:
    return CliRunner().invoke(command_line, tuple(map(str, arguments)), input=answer)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A backup of nothing."""
    path = tmp_path / "a.backup"
    writer = ArchiveWriter(path, force=False)
    services = {"redis": SavedService("7.4.1", ("0", "3"), ("Something is not saved.",))}
    writer.finish(Manifest("1.2.3", "2026-01-02T03:04:05+00:00", "docker", services, writer.members))
    writer.abandon()
    return path


class TestWithoutServices:
    def test_verify_says_what_a_backup_holds(self, archive: Path) -> None:
        result = cli("backup", archive, "--verify")
        assert result.exit_code == 0
        assert result.stdout == ""
        assert "Made 2026-01-02T03:04:05+00:00 on the docker runtime by triton-env 1.2.3." in result.stderr
        assert "Redis 7.4.1: 0, 3 (0 bytes)" in result.stderr
        assert "warning: Something is not saved." in result.stderr
        assert f"{archive} is whole." in result.stderr

    def test_verify_as_data(self, archive: Path) -> None:
        result = cli("backup", archive, "--verify", "--json")
        about = json.loads(result.stdout)
        assert list(about["services"]) == ["redis"]
        assert (about["file"], about["format"], about["size"]) == (str(archive), 1, 0)

    def test_verify_finds_damage(self, archive: Path) -> None:
        data = archive.read_bytes()
        archive.write_bytes(data[:50] + b"X" + data[51:])
        result = cli("backup", archive, "--verify")
        assert result.exit_code == 1
        assert "error: The backup is damaged or cut short." in result.stderr

    def test_verify_makes_nothing(self, archive: Path) -> None:
        for option in (("--force",), ("--services", "redis")):
            assert cli("backup", archive, "--verify", *option).exit_code == 2

    def test_a_file_that_is_there_is_refused_before_anything_starts(self, archive: Path) -> None:
        before = archive.read_bytes()
        result = cli("backup", archive)
        assert result.exit_code == 1
        assert "already exists" in " ".join(result.stderr.split())
        assert archive.read_bytes() == before

    def test_restore_asks_before_it_does_anything(self, archive: Path) -> None:
        result = cli("restore", archive)
        assert result.exit_code == 2
        assert "which needs a terminal" in result.stderr
        assert f"restore {archive} --yes" in " ".join(result.stderr.split())

    def test_restore_checks_the_file_before_anything_starts(self, archive: Path, tmp_path: Path) -> None:
        archive.write_bytes(archive.read_bytes()[:-5])
        assert cli("restore", archive, "--yes").exit_code == 1
        missing = cli("restore", tmp_path / "missing", "--yes")
        assert missing.exit_code == 1
        assert "No such file or directory" in missing.stderr

    def test_unknown_services_are_wrong_use(self, archive: Path) -> None:
        assert cli("backup", "other", "--services", "mongo").exit_code == 2
        assert cli("restore", archive, "--services", "mongo").exit_code == 2


class TestWords:
    @pytest.mark.parametrize(
        ("count", "words"),
        [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (20_971_520, "21.0 MB"), (10**15, "1000.0 TB")],
    )
    def test_sizes(self, count: int, words: str) -> None:
        assert size_words(count) == words

    def test_one_line_when_a_service_is_done(self, capsys: pytest.CaptureFixture[str]) -> None:
        with shown("plain") as report:
            report(Step("postgres", "database a", 10))
            report(Step("postgres", "saved: a", 2500, done=True))
        shown_words = capsys.readouterr().err
        assert shown_words.startswith("triton-env: PostgreSQL saved: a (2.5 kB in ")
        assert shown_words.count("\n") == 1

    def test_off_shows_nothing(self, capsys: pytest.CaptureFixture[str]) -> None:
        with shown("off") as report:
            report(Step("postgres", "saved: a", 2500, done=True))
        assert capsys.readouterr().err == ""

    def test_live_keeps_the_lines_of_what_is_done(self, capsys: pytest.CaptureFixture[str]) -> None:
        with shown("live") as report:
            report(Step("postgres", "database [b]a[/b]", 10))
            report(Step("postgres", "saved: [b]a[/b]", 2500, done=True))
        assert "PostgreSQL saved: [b]a[/b] (2.5 kB in " in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("value", "elements"),
        [
            ("", [""]),
            ("public", ["public"]),
            ('"$user", public', ["$user", "public"]),
            ('"a ""b"", c",d', ['a "b", c', "d"]),
        ],
    )
    def test_lists_of_names_in_settings(self, value: str, elements: list[str]) -> None:
        assert list_elements(value) == elements


SETUP = """
cd "$(dirname "${BASH_SOURCE[0]}")/.."
set -euo pipefail
say() { printf '%s\\n' "$*" >&2; }
make_venv() { :; }
"""
PYTHON = """#!/bin/sh
# Stands for `python -m triton_env backup FILE --persistent ...` and `... backup FILE --verify`.
echo "$@" >> calls
if [ "$FAILS" = "$5" ]; then exit 1; fi
[ "$5" = --verify ] || touch "$4"
"""


class TestScript:
    """What the script keeps and deletes; the command that it calls is tested above and below."""

    @pytest.fixture
    def project(self, tmp_path: Path) -> Path:
        project = tmp_path / "a project"
        (project / "scripts").mkdir(parents=True)
        (project / ".venv" / "bin").mkdir(parents=True)
        shutil.copy(ROOT / "scripts" / "backup-infrastructure.sh", project / "scripts")
        (project / "scripts" / "_setup.sh").write_text(SETUP)
        python = project / ".venv" / "bin" / "python"
        python.write_text(PYTHON)
        python.chmod(0o755)
        return project

    def run(self, project: Path, *arguments: str, fails: str = "never") -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [project / "scripts" / "backup-infrastructure.sh", *arguments],
            cwd=project.parent,
            env=os.environ | {"FAILS": fails},
            capture_output=True,
            text=True,
            timeout=200,
        )

    @pytest.fixture
    def backups(self, project: Path) -> Path:
        folder = project.parent / "my backups"
        folder.mkdir()
        for day in range(1, 6):
            (folder / f"triton-2026010{day}T000000Z.backup").touch()
        for name in ("triton-20250101T000000Z.backup.old", "triton-2025.backup", "x-20250101T000000Z.backup", "notes"):
            (folder / name).touch()
        (folder / "triton-20250101T000000Z.backup").symlink_to("notes")
        return folder

    def names(self, folder: Path) -> set[str]:
        return {path.name for path in folder.iterdir()}

    def test_it_keeps_the_newest(self, project: Path, backups: Path) -> None:
        before = self.names(backups)
        done = self.run(project, "my backups", "--keep", "3", "--services", "redis")
        assert done.returncode == 0, done.stderr
        (new,) = self.names(backups) - before
        assert before - self.names(backups) == {f"triton-2026010{day}T000000Z.backup" for day in (1, 2, 3)}
        calls = (project / "calls").read_text().splitlines()
        assert calls == [
            f"-m triton_env backup {backups / new} --persistent --services redis",
            f"-m triton_env backup {backups / new} --verify",
        ]

    @pytest.mark.parametrize("fails", ["--persistent", "--verify"])
    def test_it_deletes_nothing_when_there_is_no_new_one(self, project: Path, backups: Path, fails: str) -> None:
        before = self.names(backups)
        assert self.run(project, "my backups", "--keep=1", fails=fails).returncode == 1
        assert before <= self.names(backups)

    def test_by_default_seven_in_backups(self, project: Path) -> None:
        folder = project.parent / "backups"
        folder.mkdir()
        for day in range(10, 20):
            (folder / f"triton-202601{day}T000000Z.backup").touch()
        assert self.run(project).returncode == 0
        assert len(self.names(folder)) == 7
        assert "triton-20260114T000000Z.backup" in self.names(folder)
        assert "triton-20260113T000000Z.backup" not in self.names(folder)

    @pytest.mark.parametrize(
        "arguments", [("--keep", "0"), ("--keep", "x"), ("--keep=",), ("--keep",), ("a", "b"), ("--services",)]
    )
    def test_wrong_use_does_nothing(self, project: Path, arguments: tuple[str, ...]) -> None:
        done = self.run(project, *arguments)
        assert done.returncode == 2
        assert "usage: " in done.stderr
        assert not (project / "calls").exists()

    def test_help(self, project: Path) -> None:
        done = self.run(project, "--help")
        assert done.returncode == 0
        assert "--keep N" in done.stdout


@pytest.mark.docker
@pytest.mark.timeout(300)
class TestPersistent:
    @pytest.fixture
    def project(self) -> Iterator[str]:
        with projects.project() as settings:
            yield str(settings.triton_project)

    def test_there_and_back(self, project: str, tmp_path: Path) -> None:
        settings = Settings(triton_project=project)
        options = ("--project", project, "--services", "postgres,redis")
        file = tmp_path / "a.backup"
        with TritonEnvironment(settings, services=("postgres", "redis"), persistent=True) as env:
            with env.postgres.connect() as connection:
                connection.execute("create table t as select 1 as a")
            with env.redis.client() as redis:
                redis.set("a", 1)
            made = cli("backup", file, *options)
            assert made.exit_code == 0, made.stderr
            assert f"Saved to {file} (" in made.stderr
            assert f"restore {file} --project {project}" in made.stderr
            with env.postgres.connect() as connection:
                connection.execute("drop table t")
            with env.redis.client() as redis:
                redis.set("a", 2)
                redis.set("b", 3)
        # Nothing runs now: it is started for the restore, and stopped again.
        restored = cli("restore", file, *options, "--yes")
        assert restored.exit_code == 0, restored.stderr
        assert "Restored PostgreSQL and Redis in " in restored.stderr
        with TritonEnvironment(settings, services=("postgres", "redis"), persistent=True) as env:
            with env.postgres.connect() as connection:
                assert connection.execute("select a from t").fetchall() == [(1,)]
            with env.redis.client() as redis:
                assert redis.get("a") == b"1"
                assert redis.dbsize() == 1
                redis.set("a", 2)
            # Killed when Redis has taken over.
            killed(at_step(Step("redis", "restored")), lambda report: restore(env, file, replace=True, report=report))
            status = cli("status", "--project", project, "--json")
            assert status.exit_code == 1
            assert "is to be taken back" in json.loads(status.stdout)["restore"]
            problems = {name: each["problem"] for name, each in json.loads(status.stdout)["services"].items()}
            assert "is to be taken back" in problems["postgres"]
            assert runnable(f"do it with: python -m triton_env up --project {project}") in status.stderr
            pruned = cli("prune", "--json")
            (left,) = [each for each in json.loads(pruned.stdout)["leftovers"] if each["environment"] == project]
            assert (left["what"], left["result"]) == ("restore", "removed")
            assert json.loads(cli("status", "--project", project, "--json").stdout)["restore"] is None
            with env.redis.client() as redis:
                assert redis.get("a") == b"2"
                assert list(redis.info("keyspace")) == ["db0"]
