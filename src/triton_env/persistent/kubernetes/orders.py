"""What the forwarder of a project is asked for, and what it notes."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from triton_env.runtimes.kubernetes.cluster import Cluster
from triton_env.settings import Settings
from triton_env.state.folders import private_folder

FOLDER = "forwarding"


@dataclass(frozen=True, slots=True)
class Order:
    """Ports of a pod that are to be forwarded.

    Attributes:
        service: the service's name.
        title: its name for people.
        pod: its pod.
        address: of this machine.
        ports: those of this machine, by their names.
        numbers: those of the pod, by their names.
    """

    service: str
    title: str
    pod: str
    address: str
    ports: Mapping[str, int]
    numbers: Mapping[str, int]

    def command(self, cluster: Cluster) -> tuple[str, ...]:
        """That of `kubectl port-forward`."""
        pairs = (f"{here}:{self.numbers[name]}" for name, here in self.ports.items())
        return cluster.command("port-forward", f"pod/{self.pod}", *pairs, "--address", self.address, timeout=None)


@dataclass(frozen=True, slots=True)
class Noted:
    """What a forwarder notes of itself.

    Attributes:
        pid: its process.
        started: when it was started, in seconds since the epoch.
        project: whose ports it forwards.
        cluster: where they are.
        services: what it forwards, by service.
    """

    pid: int
    started: float
    project: str
    cluster: Cluster
    services: Mapping[str, Order]

    FORMAT: ClassVar[int] = 1


@dataclass(frozen=True, slots=True)
class ForwarderFolder:
    """The folder of a forwarder.

    Attributes:
        path: the folder.
    """

    path: Path

    @classmethod
    def of(cls, settings: Settings, project: str, cluster: Cluster) -> "ForwarderFolder":
        """That of a project in a namespace of a cluster."""
        place = "\n".join((cluster.kubeconfig, cluster.context, cluster.namespace))
        name = f"{project}-{hashlib.sha256(place.encode()).hexdigest()[:8]}"
        return cls(private_folder(settings, FOLDER) / name)

    @property
    def lock(self) -> Path:
        """The file that a living forwarder has locked."""
        return self.path / "lock"

    @property
    def state(self) -> Path:
        """The file in which it notes what it does."""
        return self.path / "state.json"

    @property
    def control(self) -> Path:
        """The Unix socket at which it takes orders."""
        return self.path / "control"

    @property
    def log(self) -> Path:
        """What it writes."""
        return self.path / "log"
