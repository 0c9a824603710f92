"""Labels that say to whom a container, network or volume belongs, so that no process removes what is not its own."""

import hashlib
import hmac
import os
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from triton_env.core.boot import boot_id

LABEL = "org.triton-env"
"""On everything of ours; the other labels begin with it."""
ENVIRONMENT_LABEL = f"{LABEL}.environment"
SERVICE_LABEL = f"{LABEL}.service"
PROJECT_LABEL = f"{LABEL}.project"
"""On what belongs to a project and to no process."""

_PROC = Path("/proc")
_MACHINE_ID = Path("/etc/machine-id")


class OwnerState(Enum):
    """What can be said of an owner."""

    LIVES = "lives"
    DEAD = "dead"
    """For certain: what it left may be removed unasked."""
    PROBABLY_DEAD = "probably dead"
    """Enough where the removal was asked for."""
    UNKNOWN = "unknown"
    """Of another machine, user or process namespace: not known from here."""


@dataclass(frozen=True, slots=True)
class OwnerLiveness:
    """What became of an owner, and how that is known, for people."""

    state: OwnerState
    why: str


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that has to clean up.

    Attributes:
        environment: the environment's id.
        pid: the process id.
        process_started: when that process started, in seconds since the epoch, for people: the clock may be set.
        host: the machine's name.
        project: the folder in which the process works.
        uid: its user's id.
        ticks: when the process started, in clock ticks since the machine did (Linux), which no change of the clock
            touches: process ids are used again. Empty elsewhere.
        boot: the kernel's id of its present run. Two kernels never have the same.
        machine: distinguishes machines of the same name; made from the system's machine id, which it does not reveal.
        namespace: the process namespace that the process id belongs to: containers have their own.
    """

    environment: str
    pid: int
    process_started: float
    host: str
    project: str
    uid: int = -1
    ticks: str = ""
    boot: str = ""
    machine: str = ""
    namespace: str = ""

    @classmethod
    def this_process(cls, environment: str) -> "Owner":
        """This process as the owner of an environment."""
        import psutil

        return cls(
            environment=environment,
            pid=os.getpid(),
            process_started=psutil.Process().create_time(),
            host=socket.gethostname(),
            project=str(Path.cwd()),
            uid=os.getuid(),
            ticks=_process(os.getpid())[1],
            boot=boot_id(),
            machine=_machine(),
            namespace=_namespace(),
        )

    @classmethod
    def of_labels(cls, labels: Mapping[str, str]) -> "Owner | None":
        """The owner that labels name; None where they name none."""

        def label(name: str) -> str:
            return labels.get(f"{LABEL}.owner.{name}", "")

        try:
            return cls(
                environment=labels[ENVIRONMENT_LABEL],
                pid=int(label("pid")),
                process_started=float(label("started")),
                host=label("host"),
                project=label("project"),
                uid=int(label("uid") or -1),
                ticks=label("ticks"),
                boot=label("boot"),
                machine=label("machine"),
                namespace=label("namespace"),
            )
        except (KeyError, ValueError):
            return None

    def labels(self, service: str = "") -> dict[str, str]:
        """The labels for something of this owner's, which belongs to a service or (network) to all."""
        labels = {
            LABEL: "true",
            ENVIRONMENT_LABEL: self.environment,
            f"{LABEL}.owner.pid": str(self.pid),
            f"{LABEL}.owner.started": f"{self.process_started:.2f}",
            f"{LABEL}.owner.host": self.host,
            f"{LABEL}.owner.project": self.project,
            f"{LABEL}.owner.uid": str(self.uid),
            f"{LABEL}.owner.ticks": self.ticks,
            f"{LABEL}.owner.boot": self.boot,
            f"{LABEL}.owner.machine": self.machine,
            f"{LABEL}.owner.namespace": self.namespace,
        }
        if service:
            labels[SERVICE_LABEL] = service
        return labels

    def liveness(self, here: "Owner") -> OwnerLiveness:
        """What became of this owner, as far as a process can know.

        Several machines may use one engine, machines may have the same name, and processes in containers have ids of
        their own. So an owner counts as dead only where its process id means something to the process that looks.

        Args:
            here: the process that looks.
        """
        if self.host != here.host:
            return OwnerLiveness(OwnerState.UNKNOWN, f"owned by the machine {self.host}")
        if self.uid < 0:
            import psutil

            # Labels of versions up to 1.0, which say no more.
            if psutil.pid_exists(self.pid):
                return OwnerLiveness(
                    OwnerState.UNKNOWN, f"a process {self.pid} runs; an older version's labels do not say which"
                )
            return OwnerLiveness(
                OwnerState.PROBABLY_DEAD, f"there is no process {self.pid}, as far as an older version's labels say"
            )
        if self.uid != here.uid:
            return OwnerLiveness(OwnerState.UNKNOWN, f"owned by the user with the id {self.uid}")
        if self.boot != here.boot:
            if self.boot and here.boot and self.machine and self.machine == here.machine:
                return OwnerLiveness(OwnerState.DEAD, "this machine was restarted since")
            return OwnerLiveness(
                OwnerState.UNKNOWN, "from before this machine's start, or of another machine of that name"
            )
        if self.namespace != here.namespace:
            return OwnerLiveness(OwnerState.UNKNOWN, "its process is in another container of this machine")
        if self._runs():
            return OwnerLiveness(OwnerState.LIVES, f"process {self.pid} runs")
        return OwnerLiveness(OwnerState.DEAD if self.boot else OwnerState.PROBABLY_DEAD, f"process {self.pid} is gone")

    def _runs(self) -> bool:
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except OSError:
            return True
        if self.ticks:
            state, ticks = _process(self.pid)
            # What cannot be read may be hidden; it is there.
            return not state or (state not in "ZX" and ticks == self.ticks)
        import psutil

        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            process = psutil.Process(self.pid)
            return process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - self.process_started) < 1
        return psutil.pid_exists(self.pid)


def _process(pid: int) -> tuple[str, str]:
    """A process's state, and when it started in clock ticks since the machine did; empty where it is not known.

    https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html, fields 3 and 22.
    """
    try:
        text = (_PROC / str(pid) / "stat").read_text("ascii", errors="replace")
        fields = text.rpartition(")")[2].split()
        state, ticks = fields[0], fields[19]
        # The first thread of a process may have ended before the others.
        if state == "Z" and len(os.listdir(_PROC / str(pid) / "task")) > 1:
            state = "S"
        return state, ticks
    except (OSError, IndexError):
        return "", ""


def _machine() -> str:
    """A name that other machines do not have; empty where this system has none.

    The id itself should not be shown to others: https://man7.org/linux/man-pages/man5/machine-id.5.html
    """
    if sys.platform == "darwin":
        import ctypes

        value = ctypes.create_string_buffer(16)
        failed = ctypes.CDLL(None).gethostuuid(value, (ctypes.c_long * 2)(1, 0))
        secret = "" if failed else value.raw.hex()
    else:
        secret = _read(_MACHINE_ID)
    return hmac.new(secret.encode(), LABEL.encode(), hashlib.sha256).hexdigest()[:16] if secret else ""


def _namespace() -> str:
    with suppress(OSError):
        return os.readlink(_PROC / "self/ns/pid").partition("[")[2].rstrip("]")
    return ""


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii", errors="replace").strip()
    except OSError:
        return ""
