"""A file that is missing or wrong is what a command says first: it asks, starts and removes nothing before."""

import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from faces.persistent_project import PersistentProject, variables
from triton_env.cli import command_line
from triton_env.persistent.docker import stack

FOLDER, NO_FILE, NO_FOLDER, JUNK = "folder", "nothing", "nothing/here", "junk"
JUNK_AS_COMPOSE_FILE = "services: [\n# org.triton-env.project\n"


def cli(*arguments: str) -> Result:
    return CliRunner().invoke(command_line, arguments)


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with one of each kind."""
    monkeypatch.chdir(tmp_path)
    Path(FOLDER).mkdir()
    Path(JUNK).write_text("no archive\n")
    monkeypatch.setenv("TRITON_STATE_DIR", str(tmp_path / "state"))
    return tmp_path


@pytest.fixture
def no_services(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look at services, and each start, fails."""

    def fail(*arguments: object, **options: object) -> None:
        pytest.fail("services were looked at, or started")

    monkeypatch.setattr(stack, "Engine", fail)
    monkeypatch.setattr("triton_env.environment.Startup", fail)
    monkeypatch.setattr("shutil.which", lambda name, **options: None)


@pytest.mark.usefixtures("no_services")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("restore", NO_FILE), "No such file or directory"),
        (("restore", NO_FOLDER), "No such file or directory"),
        (("restore", FOLDER), "Is a directory"),
        (("restore", JUNK), "is not a backup"),
        (("backup", "--verify", NO_FILE), "No such file or directory"),
        (("backup", FOLDER), "is a folder"),
        (("backup", JUNK), "already exists"),
        (("backup", NO_FOLDER), "nothing does not exist"),
        (("backup", f"{JUNK}/x"), "junk is not a writable folder"),
        (("reset", "--backup", JUNK), "already exists"),
        (("reset", "--backup", NO_FOLDER), "nothing does not exist"),
        (("reset", "--yes", "--backup", NO_FOLDER), "nothing does not exist"),
        (("serve", "--env-file", NO_FOLDER), "the folder nothing does not exist"),
        (("serve", "--env-file", JUNK), "was not written by triton-env"),
        (("s3", "cp", NO_FILE, "s3://bucket/"), "The file nothing does not exist"),
        (("s3", "cp", FOLDER, "s3://bucket/"), "folder is a folder"),
        (("s3", "cp", "--recursive", NO_FILE, "s3://bucket/"), "The folder nothing does not exist"),
        (("s3", "cp", "--recursive", JUNK, "s3://bucket/"), "junk is a file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_it_is_the_first_thing_that_is_said(arguments: tuple[str, ...], words: str) -> None:
    result = cli(*arguments)
    assert result.exit_code in (1, 2)
    first, *_ = result.stderr.partition("hint:")
    assert first.startswith("error: ")
    assert words in " ".join(first.split())
    assert "ask" not in first


@pytest.mark.usefixtures("no_services")
def test_a_state_folder_that_is_a_file(monkeypatch: pytest.MonkeyPatch, files: Path) -> None:
    monkeypatch.setenv("TRITON_STATE_DIR", str(files / JUNK))
    result = cli("env")
    assert result.exit_code == 2
    assert f"{files / JUNK} is not a folder" in " ".join(result.stderr.split())


@pytest.mark.docker
def test_a_compose_file_that_is_not_understood(files: Path) -> None:
    project = PersistentProject(files, variables(dict(os.environ)))
    try:
        (files / "docker-compose.yml").write_text(JUNK_AS_COMPOSE_FILE)
        (files / "pyproject.toml").touch()
        done = project.run("up")
        assert done.returncode == 2
        words = " ".join(done.stderr.split())
        assert "error: The compose file cannot be used." in words
        assert f"where: {files / 'docker-compose.yml'} cause: failed to parse" in words
        # Once, and nothing is said of services that it has not come to.
        assert done.stderr.count("error:") == 1
        assert not project.containers()
    finally:
        project.remove()
