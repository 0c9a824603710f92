"""`prune`: shows and removes what dead owners left, on the engine and on this machine, and nothing else."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import pytest
from click.testing import CliRunner, Result

import forkserver
from belongings import are_there, belonging_to, gone_owner, machine_of_its_own, of_version_0_1
from patience import until
from triton_env import Settings, TritonEnvironment
from triton_env.cli import command_line
from triton_env.core.commands import runnable
from triton_env.runtimes.embedded import bases, directory
from triton_env.runtimes.owner import LABEL, Owner
from triton_env.state.samples import Samples


def prune(*arguments: str) -> Result:
    return CliRunner().invoke(command_line, ["prune", *arguments])


def as_data(*arguments: str) -> dict[str, Any]:
    result = prune("--json", *arguments)
    assert result.exit_code == 0, result.stderr
    data: dict[str, Any] = json.loads(result.stdout)
    return data


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders of its own for all that environments keep outside of an engine."""
    for folder in ("tmp", "shm", "state"):
        (tmp_path / folder).mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr(bases, "_SHARED_MEMORY", tmp_path / "shm")
    monkeypatch.setattr(bases, "_OTHERS", ())
    monkeypatch.setenv("TRITON_STATE_DIR", str(tmp_path / "state"))
    return tmp_path


@pytest.fixture
def machine(folders: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders of its own, and no engine."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{folders}/no.sock")
    return folders


def dead_directory(base: Path, environment: str) -> Path:
    path = base / f"triton-env-{environment}"
    (path / "data").mkdir(parents=True)
    (path / "lock").touch()
    (path / "data" / "file").touch()
    return path


class TestThisMachine:
    def test_without_anything_and_without_an_engine(self, machine: Path) -> None:
        result = prune()
        assert result.exit_code == 0
        assert result.stdout == ""
        assert "the Docker engine was not checked: no engine answers at " in result.stderr
        assert "Nothing to remove." in result.stderr

    def test_directories(self, machine: Path) -> None:
        dead = [dead_directory(machine / "tmp", "0123abcd"), dead_directory(machine / "shm", "0123abcd")]
        living = directory.PrivateDirectory("4567cdef", None, machine / "tmp")
        others = machine / "tmp" / "triton-env-notes"
        others.mkdir()
        shown = as_data("--dry-run")
        assert shown["dry_run"] is True
        assert {row["name"]: row["result"] for row in shown["leftovers"]} == {str(path): "would go" for path in dead}
        assert all(path.exists() for path in dead)
        removed = as_data()
        assert [(row["what"], row["environment"], row["result"]) for row in removed["leftovers"]] == [
            ("directory", "0123abcd", "removed")
        ] * 2
        assert not any(path.exists() for path in dead)
        assert living.path.exists()
        assert others.exists()
        living.remove()

    def test_a_failure_is_reported_and_the_rest_goes(self, machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        bad, good = dead_directory(machine / "tmp", "0123abcd"), dead_directory(machine / "shm", "0123abcd")
        removed_if_abandoned = directory.removed_if_abandoned

        def remove(path: Path) -> bool:
            if path == bad:
                raise PermissionError(13, "Permission denied", str(path / "data"))
            return removed_if_abandoned(path)

        monkeypatch.setattr(directory, "removed_if_abandoned", remove)
        result = prune()
        assert result.exit_code == 1
        assert "Permission denied" in result.stdout
        assert "Removed 1. 1 could not be removed." in result.stderr
        assert bad.exists()
        assert not good.exists()

    def test_records(self, machine: Path) -> None:
        script = (
            "import os, signal; from unit.records import record\n"
            "from triton_env.state.registry import Registry\n"
            "from triton_env.settings import Settings\n"
            "with Registry.of(Settings()).published(record('0123abcd', '/somewhere')):\n"
            "    os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        tests = str(Path(__file__).parents[1])
        process = forkserver.Popen([sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": tests})
        assert process.wait() == -signal.SIGKILL
        folder = machine / "state" / "environments"
        (row,) = as_data("--dry-run")["leftovers"]
        assert (row["what"], row["environment"], row["project"]) == ("record", "0123abcd", "/somewhere")
        assert row["pid"] == process.pid
        assert (folder / "0123abcd.json").exists()
        assert [row["result"] for row in as_data()["leftovers"]] == ["removed"]
        assert list(folder.glob("0123abcd.*")) == []

    def test_namespaces_that_were_kept_stay_until_they_are_asked_for(self, machine: Path) -> None:
        folder = machine / "state" / "spaces" / "0123abcd"
        folder.mkdir(parents=True)
        (folder / "lock").write_text(json.dumps({"format": 1, "lasting": False}))
        (folder / "triton_ns_1.kept").write_text(json.dumps({"format": 1, "services": ["redis"], "pid": 1}))
        rows = as_data()["leftovers"]
        assert {row["result"] for row in rows} == {"stays"}
        assert "triton_ns_1" in [row["name"] for row in rows]
        assert all("--kept" in row["why"] for row in rows)
        assert {row["result"] for row in as_data("--kept", "--dry-run")["leftovers"]} == {"would go"}
        assert folder.exists()
        assert {row["result"] for row in as_data("--kept")["leftovers"]} == {"removed"}
        assert not folder.exists()
        assert as_data("--kept")["leftovers"] == []

    def test_the_words_are_true_of_what_goes_and_what_stays(self, machine: Path) -> None:
        folder = machine / "state" / "spaces" / "0123abcd"
        folder.mkdir(parents=True)
        (folder / "lock").write_text(json.dumps({"format": 1, "lasting": False}))
        (folder / "triton_ns_1.kept").write_text(json.dumps({"format": 1, "services": ["redis"], "pid": 1}))

        def words(*arguments: str) -> str:
            result = prune(*arguments)
            assert result.exit_code == 0
            # The first line says that there is no engine.
            return " ".join(result.stderr.splitlines()[1:])

        rows = len(as_data("--dry-run")["leftovers"])
        stays = f"{rows} stay, for the reason shown."
        assert words("--dry-run") == f"Nothing to remove. {stays}"
        assert words() == f"Nothing to remove. {stays}"
        dead_directory(machine / "tmp", "4567cdef")
        assert words("--dry-run") == runnable(
            f"Would remove 1; nothing was changed. {stays} Remove it with: python -m triton_env prune"
        )
        assert words() == f"Removed 1. {stays}"
        assert words("--dry-run", "--kept") == runnable(
            f"Would remove {rows}; nothing was changed. Remove them with: python -m triton_env prune --kept"
        )
        assert words("--kept") == f"Removed {rows}."
        assert words("--dry-run") == "Nothing to remove."

    def test_folders_of_dead_sessions_go_and_those_of_lasting_servers_stay(self, machine: Path) -> None:
        for name, lasting in (("0123abcd", False), ("triton", True)):
            (machine / "state" / "spaces" / name).mkdir(parents=True)
            (machine / "state" / "spaces" / name / "lock").write_text(json.dumps({"format": 1, "lasting": lasting}))
        assert [row["environment"] for row in as_data()["leftovers"]] == ["0123abcd"]
        assert [path.name for path in (machine / "state" / "spaces").iterdir()] == ["triton"]


@pytest.fixture
def engine() -> Iterator[docker.DockerClient]:
    client = docker.from_env()
    yield client
    client.close()


@pytest.mark.docker
class TestEngine:
    @pytest.fixture(autouse=True)
    def apart(self) -> Iterator[None]:
        """Other tests may not remove what is looked at here, nor these what others look at."""
        with machine_of_its_own():
            yield

    def test_what_dead_owners_left_goes_and_the_rest_stays(self, engine: docker.DockerClient, folders: Path) -> None:
        gone = gone_owner("0123abcd")
        with (
            belonging_to(engine, gone.labels()) as of_the_dead,
            belonging_to(engine, of_version_0_1(gone)) as of_an_older_version,
            belonging_to(engine, of_version_0_1(Owner.this_process("0123abcd"))) as of_an_older_version_that_lives,
            belonging_to(engine, replace(gone, host="elsewhere").labels()) as of_another_host,
            belonging_to(engine, replace(gone, uid=gone.uid + 1).labels()) as of_another_user,
            belonging_to(engine, Owner.this_process("0123abcd").labels()) as of_the_living,
            belonging_to(engine, {f"{LABEL}.project": "triton"}) as persistent,
            TritonEnvironment(services=("redis",)) as env,
        ):
            go = (of_the_dead, of_an_older_version)
            stay = (of_an_older_version_that_lives, of_another_host, of_another_user)
            hidden = (of_the_living, persistent)
            # What the environment removes in its first moments is certain; an older version's is left to this command.
            assert until(lambda: not any(are_there(of_the_dead)))
            assert all(are_there(of_an_older_version))
            with belonging_to(engine, gone.labels()) as of_the_dead:
                go = (of_the_dead, of_an_older_version)
                shown = {row["name"]: row for row in as_data("--dry-run")["leftovers"]}
                for expected, sets in (("would go", go), ("stays", stay)):
                    for created in sets:
                        row = shown[created[0].name]
                        assert row["result"] == expected
                        assert row["environment"] == "0123abcd"
                        assert row["pid"] in (gone.pid, os.getpid())
                        assert row["why"]
                assert not {created[0].name for created in hidden} & set(shown)
                assert not [row for row in shown.values() if row["environment"] == env.id]
                assert all(all(are_there(created)) for created in (*go, *stay, *hidden))
                result = prune()
                assert result.exit_code == 0, result.stdout
                assert f"process {gone.pid} is gone" in result.stdout
                assert not any(any(are_there(created)) for created in go)
                assert all(all(are_there(created)) for created in (*stay, *hidden))
                assert env.redis.client().ping()


def test_a_dry_run_shows_the_samples_that_would_go_and_writes_nothing(machine: Path) -> None:
    samples = Samples(Settings(), "0ddba115", "redis", ["used"])
    samples.add(1000.0, {"used": 1.0})
    samples.close()
    before = sorted(machine.rglob("*"))
    (found,) = as_data("--dry-run")["leftovers"]
    assert (found["what"], found["environment"], found["result"]) == ("samples", "0ddba115", "would go")
    assert sorted(machine.rglob("*")) == before
    (found,) = as_data()["leftovers"]
    assert found["result"] == "removed"
