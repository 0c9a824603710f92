"""A persistent server as whatever runs it describes it."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A server of a project, which runs or has ended: a container, or a process.

    Attributes:
        id: what distinguishes it from every other one, also from that which takes its place.
        name: its name for people.
        image: what it was made from.
        status: `running`, `exited`, `restarting`, ...
        health: what Docker's health check found last; empty where it has none.
        exit_code: of its last end, negative for a signal.
        out_of_memory: whether the kernel ended it.
        restarts: how often it was started again without being asked.
        started: when it was started last; None where it never was.
        reason: why it runs no longer, where it did not end by itself; empty where it did.
        pid: of a server that is a process of this machine; None of a container.
        ours: whether triton-env made it.
    """

    id: str
    name: str
    image: str
    status: str
    health: str = ""
    exit_code: int
    out_of_memory: bool = False
    restarts: int
    started: datetime | None
    reason: str = ""
    pid: int | None = None
    ours: bool = True

    @property
    def running(self) -> bool:
        """Whether its process runs."""
        return self.status == "running"

    @property
    def has_ended(self) -> bool:
        """Whether its process has ended, also where it is about to be started again."""
        return self.status in ("exited", "dead", "restarting")
