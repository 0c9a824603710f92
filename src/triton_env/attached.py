"""Environments for faces: one that another process holds, and the services of a project."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from triton_env.core.forms import Form, form_of
from triton_env.environment import TritonEnvironment
from triton_env.errors import TritonError
from triton_env.modes.base import Mode
from triton_env.modes.persistent import Persistent, PersistentServices, RunningProject
from triton_env.modes.shared import Shared
from triton_env.services import SERVICES
from triton_env.settings import Settings
from triton_env.sharing.attaching import Attached, Purpose, part_in
from triton_env.sharing.joining import Joined
from triton_env.sharing.key import settings_from_data
from triton_env.sharing.runtime import AttachedRuntime
from triton_env.state.registry import Record

if TYPE_CHECKING:
    from triton_env.persistent.looking import RunningServices
    from triton_env.persistent.stack import Stack
    from triton_env.runtimes.access import ImageAccess
    from triton_env.status import ServiceStatus, UnfinishedRestore


class ProjectEnvironment(TritonEnvironment):
    """The persistent services of a project, looked at already. Those that differ from the settings are replaced.

    Args:
        stack: the services. The end of the environment closes it.
        settings: as they were read.
        services: which of them.
    """

    def __init__(self, stack: "Stack", settings: Settings, services: Sequence[str]) -> None:
        super().__init__(settings, services=services, persistent=Persistent.APPLY)
        self._in_modes(lambda: PersistentServices(self._arguments, stack))


class AttachedProject(TritonEnvironment):
    """The persistent services of a project that run, as they are: to be looked at and saved. None is started.

    Args:
        stack: the services. The end of the environment closes it.

    Raises:
        TritonError: none of them runs.
    """

    def __init__(self, stack: "Stack") -> None:
        self._stack = stack
        instances = stack.instances()
        running = stack.running()
        if not running:
            raise TritonError(
                f"No persistent service of the project {stack.project} runs.",
                hint=f"python -m triton_env up --project {stack.project}",
            )
        settings = stack.settings_of(*(instances[name] for name in running if name in instances))
        settings = settings.updated(triton_progress="off")
        super().__init__(settings, services=tuple(running), isolated=True)
        self._in_modes(lambda: RunningProject(stack, running, settings))

    def log_lines(self, service: str, tail: int | None, *, follow: bool) -> Iterator[str]:
        """The lines that a service wrote, without secrets; see `Access.lines`."""
        return cast("RunningServices", self._running().runtime.result()).lines(service, tail, follow=follow)

    def status(self) -> "tuple[ServiceStatus, ...]":
        """Look at every service, and ask it; see `look_at`. Nothing is changed."""
        return tuple(status for status in self._stack.status() if status.name in self.services)


class AttachedEnvironment(TritonEnvironment):
    """An environment that another process holds, as it is: to be looked at, saved and used by commands.

    Args:
        services: which of its services; by default all that are installed here.
        settings: how this process shows progress and where it keeps state.
        purpose: what for.
    """

    def __init__(
        self, record: Record, settings: Settings, services: Sequence[str] = (), purpose: Purpose = Purpose.USE
    ) -> None:
        # External servers are known by the addresses of all, also of those that are not used.
        known = record.services if form_of(record.runtime).is_started_by_us else SERVICES.usable()
        theirs = settings_from_data(record.settings, known).updated(
            triton_progress="off", triton_state_dir=settings.triton_state_dir
        )
        # Where another distribution brings it, that may be installed for the holder alone.
        installed = tuple(name for name in record.services if name in SERVICES)
        super().__init__(theirs, services=tuple(services) or installed, runtime=record.runtime, isolated=True)
        self.record = record
        self._purpose = purpose
        self._part: Attached | Joined | None = None
        if form_of(record.runtime).is_started_by_us:
            self._in_modes(self._attach)

    def log_lines(self, service: str, tail: int | None, *, follow: bool) -> Iterator[str]:
        """The lines that a service wrote; see `AttachedRuntime.lines`. External servers have none here."""
        runtime = self._running().runtime.result()
        return runtime.lines(service, tail, follow=follow) if isinstance(runtime, AttachedRuntime) else iter(())

    def status(self) -> "tuple[ServiceStatus, ...]":
        """Look at every service, and ask it; see `look_at_session`."""
        from triton_env.inspection.sessions import look_at_session

        services = {name: self.service(name) for name in self.services}
        runtime = self._running().runtime.result()
        ways = {name: runtime.access(name) for name in services} if self._mode.servers_are_ours else {}
        return look_at_session(self.record, services, ways, self._settings)

    def unfinished_restore(self, statuses: "Sequence[ServiceStatus]") -> "UnfinishedRestore | None":
        """The restore into these services that was interrupted, or is going on. Nothing is changed.

        Args:
            statuses: of the services, which know also of one whose journal is gone.
        """
        from triton_env.backup.journal import Place
        from triton_env.status import lost_restore, unfinished_restore

        mode = self._mode
        place = Place(mode.settings, mode.id, lasting=mode.data_is_yours)
        return unfinished_restore(place) or lost_restore(statuses)

    def container(self, service: str) -> "ImageAccess | None":
        """The container of a service, which may be in a pod; None where it runs in none.

        This process's part in the environment goes on as long as a program that it becomes: see `hand_over`.
        """
        if not form_of(self.runtime).has_image:
            return None
        return cast("ImageAccess", self._running().runtime.result().access(service))

    def packaged_program(self, service: str, program: str) -> str | None:
        """The path of a program that the package of an embedded server brings; None where it brings none."""
        if form_of(self.runtime) is not Form.PROCESS:
            return None
        path = self.program(service, (program,)).argv[0]
        return path if Path(path).exists() else None

    def hand_over(self) -> None:
        """Use the environment as long as the program that this process is about to become."""
        if self._part is not None:
            self._part.hand_over()

    def _attach(self) -> Mode:
        self._part = part_in(self.record, self._settings, self._purpose)
        return Shared(self._part, self._settings, only_looks=self._purpose is Purpose.LOOK)
