"""The persistent servers of a project without Docker, as they are at present."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from triton_env.core.ending import Ending, ending_of_stopped, times
from triton_env.core.model import Endpoint, Placement
from triton_env.persistent.embedded.orders import Noted
from triton_env.persistent.instance import Instance


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectProcess(Instance):
    """A server of the project as a process.

    Attributes:
        ended: when it has ended, in seconds since the epoch; None while it runs, and where that is not known.
        host: the address on which it listens.
        ports: its ports by their names.
        given: the names and passwords that it was given, by setting.
        order: what distinguishes how it runs.
    """

    ended: float | None
    host: str
    ports: Mapping[str, int]
    given: Mapping[str, str] = field(repr=False)
    order: str

    @property
    def where(self) -> str:
        """For error messages."""
        return f"process {self.pid}, {self.image}"

    def placement(self) -> Placement:
        """Where its service answers."""
        return Placement({name: Endpoint(self.host, port) for name, port in self.ports.items()})


def described(service: str, noted: Noted, supervisor: str) -> ProjectProcess:
    """A server as its supervisor knows it.

    Args:
        service: its name.
        noted: what the supervisor notes.
        supervisor: how that has ended, in words; empty while it lives.
    """
    runs = noted.exit_code is None
    status = "running" if runs else "restarting"
    return ProjectProcess(
        id=f"{noted.pid} {noted.run} {noted.started}",
        name=f"{service} (process {noted.pid})",
        image=noted.made_of,
        status="exited" if supervisor else status,
        reason=supervisor,
        exit_code=noted.exit_code or 0,
        restarts=noted.restarts,
        started=datetime.fromtimestamp(noted.started, UTC),
        pid=noted.pid,
        ended=noted.ended,
        host=noted.host,
        ports=noted.ports,
        given=noted.given,
        order=noted.order,
    )


def ending_of(process: ProjectProcess, project: str) -> Ending | None:
    """How a server has ended; None while it runs."""
    if process.running:
        return ending_of_stopped((process.pid or 0,), where=process.where)
    up = "python -m triton_env up, which starts it again"
    if process.reason:
        return Ending(process.where, up, reason=process.reason)
    again = f"its supervisor has restarted it {times(process.restarts)}" if process.restarts else ""
    return Ending(
        process.where,
        f"its supervisor is starting it again; what it writes: python -m triton_env logs --project {project}",
        status=process.exit_code,
        at=process.ended,
        reason=again,
        returns=True,
    )
