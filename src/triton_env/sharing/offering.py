"""A session that is offered to other processes: to commands of its project, and to programs that `run` starts."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from secrets import token_hex
from typing import TYPE_CHECKING

from triton_env.backup.journal import Place
from triton_env.core.forms import form_of
from triton_env.isolation.ledger import SpaceLedger
from triton_env.services import SERVICES
from triton_env.settings.variables import of_services
from triton_env.sharing.key import settings_from_data
from triton_env.sharing.listing import record_of
from triton_env.sharing.orders import taking_orders
from triton_env.state.registry import Record, Registry

if TYPE_CHECKING:
    from triton_env.environment import TritonEnvironment

VARIABLE = "TRITON_SESSION"


@contextmanager
def offered(environment: "TritonEnvironment", *, held_by: str, project: str, asked_runtime: str) -> Iterator[Record]:
    """Offer an environment that this process owns, for the length of the block.

    Args:
        held_by: what this process is; see `Record`.
        project: the root of the project in which it was started.
        asked_runtime: TRITON_RUNTIME where it was started.
    """
    startup = environment._running()
    settings, are_ours = startup.settings, startup.mode.servers_are_ours
    record = record_of(
        startup,
        # Several commands may hold the same external servers.
        startup.id if are_ours else token_hex(4),
        held_by=held_by,
        is_offered=True,
        project=project,
        asked_runtime=asked_runtime,
    )
    with ExitStack() as stack:
        if are_ours:
            # What other processes leave of namespaces and restores is gone with the servers.
            ledger = SpaceLedger(settings, startup.id, lasting=False)
            stack.callback(ledger.close, remove=True)
            stack.callback(_forget_restore, Place(settings, startup.id, lasting=False))
        listed = startup.listed
        stack.enter_context(listed.offered(record) if listed else Registry.of(settings).published(record))
        if not listed and (are_ours or startup.on_stop):
            stack.callback(taking_orders(startup, record.id))
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
