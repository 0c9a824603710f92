"""What other processes of the same user may order of an environment: its owner does it, which has the servers."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from triton_env.core.ending import ending_of_stopped
from triton_env.core.shortages import exhausted
from triton_env.errors import StartCancelled, TritonError
from triton_env.services.selection import title_of
from triton_env.settings import Settings
from triton_env.sharing import failure
from triton_env.state import door
from triton_env.state.registry import Record, Registry

if TYPE_CHECKING:
    from triton_env._startup import Startup

_log = logging.getLogger(__name__)

_TAKEN_TIMEOUT = 30
"""Seconds until an owner has to take an order: it has a thread for that."""
_MOST = 600
"""Seconds that an owner gets to carry it out: it gives up by itself long before."""


def taking_orders(startup: "Startup", identity: str) -> Callable[[], None]:
    """Have an environment take orders, from now until what is returned is called. It works as well without.

    Args:
        startup: its services, in their owner.
        identity: the id under which it is listed.
    """
    try:
        path = Registry.of(startup.settings).door(identity)
        opened = door.Door(path, lambda order: _done(startup, order))
    except (TritonError, OSError, RuntimeError) as error:
        _log.debug("the environment %s takes no orders: %s", identity, error)
        return lambda: None
    return opened.close


def restart(record: Record, settings: Settings, service: str) -> None:
    """Have its owner restart a service of an environment, and wait until that is ready.

    Args:
        settings: where this user's state is kept.

    Raises:
        TritonError: what the owner raised, or that it takes no orders, does not answer, or has ended.
    """
    _give(record, settings, {"do": "restart", "service": service}, f"{title_of(service)} was not restarted")


def stop(record: Record, settings: Settings) -> None:
    """Have its owner end an environment and go on without it, and wait until that is done.

    Args, Raises: as `restart`.
    """
    _give(record, settings, {"do": "stop"}, f"The environment {record.id} was not ended")


def _give(record: Record, settings: Settings, order: door.Order, what: str) -> None:

    def look() -> None:
        if stopped := ending_of_stopped((record.pid,), where=record.title):
            raise TritonError(
                f"{what}: the process that holds the environment is stopped.",
                where=record.title,
                cause=f"the process {record.pid} was stopped by a signal (SIGSTOP)",
                hint=f"{stopped.hint}, then try again",
            )

    look()
    path = Registry.of(settings).door(record.id)
    try:
        answer = door.ask(path, order, patience=_MOST, at_first=_TAKEN_TIMEOUT, look=look)
    except (OSError, ValueError) as error:
        lives = any(each.id == record.id for each in Registry.of(settings).running())
        if lives and isinstance(error, FileNotFoundError):
            became = "takes no orders"
        else:
            became = "does not answer" if lives else "has ended"
        raise TritonError(
            f"{what}: the process that holds the environment {became}.",
            where=record.title,
            cause=str(error) or type(error).__name__,
            hint="see what runs: python -m triton_env ps",
        ) from error
    if "error" in answer:
        raise failure.from_data(answer["error"])


def _done(startup: "Startup", order: door.Order) -> door.Order:
    service, what = str(order.get("service")), "The order was not carried out"
    try:
        if order.get("do") == "restart" and service in startup.names:
            what = f"{title_of(service)} was not restarted"
            startup.restart(service)
        elif order.get("do") == "stop" and startup.on_stop:
            what = "The environment was not ended"
            startup.on_stop()
        else:
            raise TritonError("The environment does not know this request.", where=startup.id)
    except StartCancelled:
        error: BaseException = TritonError(f"{what}: the environment is ending.", where=startup.id)
    except Exception as raised:  # it goes to the process that asked, and the environment goes on
        error = raised
    else:
        return {"done": True}
    if not isinstance(error, TritonError):
        error = exhausted(error, f"{what}.") or TritonError(
            f"{what}.", where=startup.id, cause=f"{type(error).__name__}: {error}"
        )
    return {"error": failure.as_data(error)}
