"""A session that other processes may find and use: those of the command line, and programs that `run` starts."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from secrets import token_hex
from typing import TYPE_CHECKING

from triton_env.backup.journal import Place
from triton_env.core.codec import to_data
from triton_env.core.forms import form_of
from triton_env.isolation.ledger import SpaceLedger
from triton_env.services import SERVICES
from triton_env.settings.variables import of_services
from triton_env.sharing.key import settings_as_data, settings_from_data
from triton_env.state.registry import Record, Registry

if TYPE_CHECKING:
    from triton_env.environment import TritonEnvironment

VARIABLE = "TRITON_SESSION"


@contextmanager
def offered(environment: "TritonEnvironment", *, held_by: str, project: str, asked_runtime: str) -> Iterator[Record]:
    """List an environment that this process owns, for the length of the block.

    Args:
        held_by: what this process is; see `Record`.
        project: the root of the project in which it was started.
        asked_runtime: TRITON_RUNTIME where it was started.
    """
    settings, are_ours = environment.settings, environment._mode.servers_are_ours
    runtime = environment._running().runtime.result()
    record = Record(
        # Several commands may hold the same external servers.
        id=environment.id if are_ours else token_hex(4),
        runtime=environment.runtime,
        reason=environment.runtime_reason,
        pid=os.getpid(),
        held_by=held_by,
        project=project,
        started=time.time(),
        services=environment.services,
        environ=environment.environ(),
        settings=settings_as_data(settings),
        asked_runtime=asked_runtime,
        placements={name: environment.service(name).placement for name in environment.services},
        access={name: to_data(runtime.access(name)) for name in environment.services} if are_ours else {},
    )
    with ExitStack() as stack:
        if are_ours:
            # What other processes leave of namespaces and restores is gone with the servers.
            ledger = SpaceLedger(settings, environment.id, lasting=False)
            stack.callback(ledger.close, remove=True)
            stack.callback(_forget_restore, Place(settings, environment.id, lasting=False))
        stack.enter_context(Registry.of(settings).published(record))
        yield record


def handed_out(record: Record, services: Sequence[str] = ()) -> Mapping[str, str]:
    """The variables that programs get: with them they reach its services, and use it instead of a new environment.

    Programs that use triton-env find external servers by the settings, as ever.

    Args:
        services: of which the variables are wanted; by default all.
    """
    variables = dict(record.environ)
    if services:
        settings = settings_from_data(record.settings, record.services)
        named = {name: SERVICES[name](settings, record.placements[name]) for name in services}
        variables = of_services(named, settings.triton_variables)
    return {**variables, VARIABLE: record.id} if form_of(record.runtime).is_started_by_us else variables


def _forget_restore(place: Place) -> None:
    if place.path.exists():
        place.remove()
