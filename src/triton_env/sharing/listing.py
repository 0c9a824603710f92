"""A session on the list of running environments, which other processes of its user look at."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from triton_env.core.codec import to_data
from triton_env.settings import variables
from triton_env.settings.project_folders import project_root
from triton_env.sharing.key import settings_as_data
from triton_env.sharing.orders import taking_orders
from triton_env.state.registry import Record, Registry

if TYPE_CHECKING:
    from triton_env._startup import Startup


class Listed:
    """A session of this process on the list. Commands that do not name it do not use it.

    Args:
        startup: its services, which are ready.

    Raises:
        InvalidSetting, OSError: the list cannot be kept.
        UsageError: the current folder cannot be used.
    """

    def __init__(self, startup: "Startup") -> None:
        self._record = record_of(
            startup,
            startup.id,
            held_by=startup.held_by,
            is_offered=False,
            project=str(project_root(Path.cwd())),
            asked_runtime=startup.settings.triton_runtime,
        )
        registry = Registry.of(startup.settings)
        # What was killed could not do so itself.
        registry.sweep()
        self._listing = registry.add(self._record)
        self._close_door = taking_orders(startup, startup.id)

    @contextmanager
    def offered(self, record: Record) -> Iterator[None]:
        """In its block, the session is listed as this record has it."""
        self._listing.replace(record)
        try:
            yield
        finally:
            self._listing.replace(self._record)

    def end(self) -> None:
        """Take it off the list. Does nothing in a forked child."""
        self._close_door()
        self._listing.end()


def record_of(
    startup: "Startup", identity: str, *, held_by: str, is_offered: bool, project: str, asked_runtime: str
) -> Record:
    """What others get to know of services that are ready. The arguments are those of `Record`."""
    runtime = startup.runtime.result()
    services = {name: startup.services[name].result() for name in startup.names}
    return Record(
        id=identity,
        runtime=runtime.name,
        reason=runtime.reason,
        pid=os.getpid(),
        held_by=held_by,
        is_offered=is_offered,
        project=project,
        started=time.time(),
        services=startup.names,
        environ=variables.of_services(services, startup.settings.triton_variables),
        settings=settings_as_data(startup.settings),
        asked_runtime=asked_runtime,
        placements={name: service.placement for name, service in services.items()},
        access={name: to_data(runtime.access(name)) for name in services} if startup.mode.servers_are_ours else {},
        timeline=startup.recorder.timeline(),
    )
