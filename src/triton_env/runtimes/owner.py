"""Whose container, network or volume is this? Labels that tell, so that nobody removes what is not theirs."""

import os
import socket
from dataclasses import dataclass
from pathlib import Path

import psutil

LABEL = "org.triton-env"
"""On everything of ours; the other labels begin with it."""
ENVIRONMENT_LABEL = f"{LABEL}.environment"
SERVICE_LABEL = f"{LABEL}.service"


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that has to clean up.

    Attributes:
        environment: the environment's id.
        pid: the process id.
        process_started: when that process started, in seconds since the epoch: process ids are used again.
        host: the machine's name.
        project: the folder in which the process works.
    """

    environment: str
    pid: int
    process_started: float
    host: str
    project: str

    @classmethod
    def this_process(cls, environment: str) -> "Owner":
        """This process as the owner of an environment."""
        return cls(
            environment=environment,
            pid=os.getpid(),
            process_started=psutil.Process().create_time(),
            host=socket.gethostname(),
            project=str(Path.cwd()),
        )

    def labels(self, service: str = "") -> dict[str, str]:
        """The labels for something of this owner's, which belongs to a service or (network) to all."""
        labels = {
            LABEL: "true",
            ENVIRONMENT_LABEL: self.environment,
            f"{LABEL}.owner.pid": str(self.pid),
            f"{LABEL}.owner.started": f"{self.process_started:.2f}",
            f"{LABEL}.owner.host": self.host,
            f"{LABEL}.owner.project": self.project,
        }
        if service:
            labels[SERVICE_LABEL] = service
        return labels
