"""Labels that say whose things are, and whether that one is dead: only where it is certain."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

import forkserver
from triton_env.runtimes.owner import ENVIRONMENT_LABEL, SERVICE_LABEL, Owner, OwnerState

BEFORE_UID = ("uid", "ticks", "boot", "machine", "namespace")
"""Labels that version 0.1.0 did not have."""

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="there is no /proc")


@pytest.fixture(scope="module")
def here() -> Owner:
    return Owner.this_process("abc123")


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


def of_child(here: Owner, child: subprocess.Popen[bytes]) -> Owner:
    started = psutil.Process(child.pid).create_time()
    stat = Path(f"/proc/{child.pid}/stat")
    ticks = stat.read_text().rpartition(")")[2].split()[19] if stat.exists() else ""
    return replace(here, pid=child.pid, process_started=started, ticks=ticks)


class TestLabels:
    def test_they_tell_environment_service_and_owner(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        labels = Owner.this_process("abc123").labels("redis")
        varying = {
            name: labels.pop(f"org.triton-env.owner.{name}") for name in ("ticks", "boot", "machine", "namespace")
        }
        assert labels == {
            "org.triton-env": "true",
            "org.triton-env.environment": "abc123",
            "org.triton-env.service": "redis",
            "org.triton-env.owner.pid": str(os.getpid()),
            "org.triton-env.owner.started": f"{psutil.Process().create_time():.2f}",
            "org.triton-env.owner.host": socket.gethostname(),
            "org.triton-env.owner.project": str(tmp_path),
            "org.triton-env.owner.uid": str(os.getuid()),
        }
        if sys.platform.startswith("linux"):
            assert varying["ticks"].isdecimal()
            assert varying["boot"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
            assert varying["namespace"] in os.readlink("/proc/self/ns/pid")

    @pytest.mark.skipif(not Path("/etc/machine-id").exists(), reason="this machine has no id")
    def test_the_machine_id_itself_is_not_given_away(self, here: Owner) -> None:
        machine_id = Path("/etc/machine-id").read_text().strip()
        assert len(here.machine) == 16
        assert here.machine not in machine_id

    def test_what_belongs_to_all_services_has_no_service_label(self, here: Owner) -> None:
        assert SERVICE_LABEL not in here.labels()

    def test_the_owner_is_read_from_them(self, here: Owner) -> None:
        read = Owner.of_labels(here.labels("redis"))
        assert read is not None
        assert replace(read, process_started=here.process_started) == here

    @pytest.mark.parametrize(
        "labels", [{}, {ENVIRONMENT_LABEL: "abc123"}, {ENVIRONMENT_LABEL: "a", "org.triton-env.owner.pid": "many"}]
    )
    def test_labels_of_somebody_else_name_no_owner(self, labels: dict[str, str]) -> None:
        assert Owner.of_labels(labels) is None


class TestFate:
    def test_who_runs_lives(self, here: Owner, child: subprocess.Popen[bytes]) -> None:
        assert here.liveness(here).state is OwnerState.LIVES
        assert of_child(here, child).liveness(here).state is OwnerState.LIVES

    def test_who_was_killed_is_dead_also_before_its_parent_has_noticed(
        self, here: Owner, child: subprocess.Popen[bytes]
    ) -> None:
        owner = of_child(here, child)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert psutil.pid_exists(child.pid)
        assert owner.liveness(here).state is OwnerState.DEAD
        child.wait()
        liveness = owner.liveness(here)
        assert liveness.state is OwnerState.DEAD
        assert liveness.why == f"process {child.pid} is gone"

    @linux
    def test_another_process_of_that_id_is_somebody_else(self, here: Owner) -> None:
        assert replace(here, ticks=str(int(here.ticks) - 1)).liveness(here).state is OwnerState.DEAD

    @linux
    def test_setting_the_clock_kills_nobody(self, here: Owner) -> None:
        assert replace(here, process_started=here.process_started - 3600).liveness(here).state is OwnerState.LIVES

    def test_without_ticks_the_time_tells(self, here: Owner) -> None:
        assert replace(here, ticks="").liveness(here).state is OwnerState.LIVES
        assert (
            replace(here, ticks="", process_started=here.process_started - 3600).liveness(here).state is OwnerState.DEAD
        )

    @linux
    def test_a_process_whose_first_thread_has_ended_lives(self, here: Owner) -> None:
        script = (
            "import ctypes, sys, threading, time\n"
            "threading.Thread(target=lambda: time.sleep(60)).start()\n"
            "print(flush=True)\n"
            "ctypes.CDLL(None).pthread_exit(None)\n"
        )
        with forkserver.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
                assert process.poll() is None
            assert of_child(here, process).liveness(here).state is OwnerState.LIVES
            process.kill()

    def test_after_a_restart_of_the_machine_nobody_is_left(self, here: Owner) -> None:
        mine = replace(here, machine="0123")
        liveness = replace(mine, boot="another").liveness(mine)
        assert liveness.state is OwnerState.DEAD
        assert "restarted since" in liveness.why

    @pytest.mark.parametrize(
        "other",
        [
            {"host": "elsewhere"},
            {"uid": 4_000_000_000},
            {"namespace": "1"},
            {"boot": "another", "machine": "another"},
            {"boot": "another", "machine": ""},
            {"boot": ""},
        ],
        ids=str,
    )
    def test_who_cannot_be_seen_from_here_is_not_called_dead(self, here: Owner, other: dict[str, object]) -> None:
        gone = replace(here, pid=1 << 22, machine="0123")
        assert gone.liveness(replace(here, machine="0123")).state is OwnerState.DEAD
        assert replace(gone, **other).liveness(replace(here, machine="0123")).state is OwnerState.UNKNOWN  # type: ignore[arg-type]

    def test_without_machine_ids_a_restart_is_not_certain(self, here: Owner) -> None:
        mine = replace(here, machine="")
        assert replace(mine, boot="another").liveness(mine).state is OwnerState.UNKNOWN

    def test_of_an_older_version_only_one_without_process_is_probably_dead(
        self, here: Owner, child: subprocess.Popen[bytes]
    ) -> None:
        labels = of_child(here, child).labels()
        for name in BEFORE_UID:
            del labels[f"org.triton-env.owner.{name}"]
        owner = Owner.of_labels(labels)
        assert owner is not None
        assert owner.liveness(here).state is OwnerState.UNKNOWN
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert owner.liveness(here).state is OwnerState.PROBABLY_DEAD
