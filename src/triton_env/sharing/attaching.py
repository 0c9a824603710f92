"""Using an environment that another process holds and has listed in the registry."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from triton_env.core.model import Program
from triton_env.core.settings_group import LOGIN
from triton_env.environment import TritonEnvironment
from triton_env.errors import TritonError
from triton_env.run import Run
from triton_env.services.selection import with_groups
from triton_env.settings import Settings
from triton_env.sharing.joining import Joined, join_instance
from triton_env.sharing.key import settings_from_data
from triton_env.sharing.news import Told
from triton_env.sharing.placements import placement_from_data
from triton_env.sharing.runtime import AttachedRuntime
from triton_env.state.leases import HeldFile, any_held
from triton_env.state.registry import Record, private_folder

if TYPE_CHECKING:
    from triton_env.status import ServiceStatus, UnfinishedRestore


class Attached:
    """What one process has of an environment that another one holds: a lease, and what its record says.

    Args:
        record: the environment's.
        settings: the process's own, with the environment's credentials.

    Raises:
        TritonError: it has ended.
    """

    def __init__(self, record: Record, settings: Settings) -> None:
        self.id = record.id
        self.settings = settings
        self.news = _Known(record)
        self.words: tuple[str, ...] = ()
        self._record = record
        self._folder = private_folder(settings, "environments")
        self._lease = HeldFile.new(self._folder, f"{record.id}.")
        if not (self._folder / f"{record.id}.json").exists():
            self.leave()
            raise TritonError(
                f"The session {record.id} has just ended.",
                where=record.project,
                hint="start another one: python -m triton_env serve",
            )

    def has_others(self) -> bool:
        """Whether others use it too. What `serve` holds is there for all."""
        return self._record.held_by == "serve" or any_held(self._folder, f"{self.id}.*.lease", besides=self._lease.path)

    def wait_until_listed(self) -> None:
        """It is listed."""

    def lost(self) -> TritonError:
        """The error where its holder has ended."""
        return TritonError(f"The session {self.id} has ended.")

    def hand_over(self) -> None:
        """This process becomes another program: its holder keeps the environment all the same."""
        self.leave()

    def leave(self) -> None:
        """Give the lease back. Does nothing where that was done."""
        self._lease.release(remove=True)


class _Known:
    """The news of an environment that is up: all is known."""

    def __init__(self, record: Record) -> None:
        self.told = Told(
            runtime=record.runtime,
            reason=record.reason,
            folder=Path(record.folder) if record.folder else None,
            placements={name: placement_from_data(data) for name, data in record.placements.items()},
            up=True,
        )
        self.lost = False
        self.is_over = True

    def follow(self) -> None:
        """Nothing more comes."""

    def wait_for_ending(self, service: str, seconds: float) -> bool:
        """Whether its holder lives, which alone knows how a server ended."""
        return True

    def wait_for(self, condition: Callable[[Told], bool]) -> bool:
        """Whether `condition` holds."""
        return condition(self.told)


def part_in(record: Record, settings: Settings) -> Attached | Joined:
    """A part in an environment that is listed, for as long as this process wants it.

    Args:
        record: the environment's.
        settings: the process's own.

    Raises:
        TritonError: it has ended.
    """
    if record.held_by == "reuse":
        # Its keeper would end it as soon as all others have left.
        return join_instance(settings, record.id)
    theirs = settings_from_data(record.settings, record.services)
    credentials = {field: getattr(theirs, field) for field in theirs.names_in(*LOGIN, services=record.services)}
    return Attached(record, with_groups(settings, record.services).updated(**credentials))


class AttachedEnvironment(TritonEnvironment):
    """An environment that another process holds, as it is: to be looked at, saved and used by commands.

    Args:
        record: the environment's.
        services: which of its services; all by default.
        settings: how this process shows progress and where it keeps state.
    """

    def __init__(self, record: Record, settings: Settings, services: Sequence[str] = ()) -> None:
        theirs = settings_from_data(record.settings, record.services).updated(
            triton_progress="off", triton_state_dir=settings.triton_state_dir
        )
        super().__init__(theirs, services=tuple(services) or record.services, runtime=record.runtime, isolated=True)
        self.record = record
        self._part: Attached | Joined | None = None

    def _new_run(self) -> Run:
        if self.record.runtime == "external":
            return super()._new_run()
        self._part = part_in(self.record, self._settings)
        return Run(self._settings, self._services, self.record.runtime, joined=self._part)

    def log_lines(self, service: str, tail: int | None, *, follow: bool) -> Iterator[str]:
        """The lines that a service wrote; see `AttachedRuntime.lines`. External servers have none here."""
        runtime = self._running().runtime.result()
        return runtime.lines(service, tail, follow=follow) if isinstance(runtime, AttachedRuntime) else iter(())

    def status(self) -> "tuple[ServiceStatus, ...]":
        """Look at every service, and ask it; see `look_at`. Nothing is changed."""
        from triton_env.status import look_at

        services = {name: self.service(name) for name in self.services}
        runtime = self._running().runtime.result()
        if not isinstance(runtime, AttachedRuntime) or runtime.name != "docker":
            ready = datetime.fromtimestamp(self.record.started, UTC) if runtime.name == "embedded" else None
            return look_at({}, services, lambda container: None, self.services, ready)
        from triton_env.runtimes.docker.engine import Engine
        from triton_env.runtimes.docker.usage import usage_of

        engine = Engine()
        try:
            containers = runtime.containers(engine)
            running = {name: services[name] for name, container in containers.items() if container.running}
            return look_at(containers, running, lambda container: usage_of(engine, container.id), self.services)
        finally:
            engine.close()

    def unfinished_restore(self, statuses: "Sequence[ServiceStatus]") -> "UnfinishedRestore | None":
        """The restore into these services that was broken off, or is going on. Nothing is changed.

        Args:
            statuses: of the services, which know also of one whose journal is gone.
        """
        from triton_env.backup.journal import Place
        from triton_env.status import lost_restore, unfinished_restore

        run = self._running()
        return unfinished_restore(Place(run.settings, run.id, lasting=run.lasting)) or lost_restore(statuses)

    def container_has(self, service: str, program: str) -> bool:
        """Whether a service runs in a container, and that has a program."""
        runtime = self._running().runtime.result()
        return isinstance(runtime, AttachedRuntime) and runtime.container_has(service, program)

    def packaged_program(self, service: str, program: str) -> str | None:
        """The path of a program that the package of an embedded server brings; None where it brings none."""
        if self.runtime != "embedded":
            return None
        path = self.program(service, (program,)).argv[0]
        return path if Path(path).exists() else None

    def program_in_container(
        self, service: str, argv: Sequence[str], environment: Mapping[str, str], *, terminal: bool
    ) -> Program:
        """How to run a program in the container of a service; its arguments are passed on as they are.

        This process's part in the environment goes on as long as a program that it becomes.
        """
        runtime = self._running().runtime.result()
        assert isinstance(runtime, AttachedRuntime)
        program = runtime.program(service, argv[:1], environment, terminal=terminal)
        return Program((*program.argv, *argv[1:]), program.environment)

    def hand_over(self) -> None:
        """Use the environment as long as the program that this process is about to become."""
        if self._part is not None:
            self._part.hand_over()
