"""How a service is saved and restored: by the parts that it names, which are loaded when they are used."""

from collections.abc import Iterable, Mapping
from typing import Any, cast

from triton_env.core.model import TakesOver
from triton_env.errors import NotOffered
from triton_env.services import Service
from triton_env.services.base_backup import Note, RestorerOf, Saver, Takeover, TakeoverOf


def offers_saving(service: Service) -> bool:
    """Whether a service can be saved."""
    return bool(service.parts.saver)


def saver_of(service: Service) -> Saver:
    """What saves a service.

    Raises:
        NotOffered: it cannot be saved.
    """
    return cast("Saver", _part(service, "saver", "be saved"))


def check_restorable(services: Iterable[Service]) -> None:
    """See that all of these can be restored together.

    Raises:
        NotOffered: they cannot.
    """
    deciding = []
    for service in services:
        restorer_of(service)
        _part(service, "takeover", "be restored")
        if service.takes_over is TakesOver.FOR_GOOD:
            deciding.append(service.title)
    if len(deciding) > 1:
        raise NotOffered(
            f"{' and '.join(deciding)} cannot be restored together: each of them takes over for good.",
            hint="restore one after another: name its service",
        )


def restorer_of(service: Service) -> RestorerOf:
    """What makes the restorer of a service.

    Raises:
        NotOffered: it cannot be restored.
    """
    return cast("RestorerOf", _part(service, "restorer", "be restored"))


def takeover_of(service: Service, plan: Mapping[str, Any], note: Note) -> Takeover:
    """What finishes the restore of a service or takes it back.

    Args:
        plan: of the journal.
        note: writes the plan to the journal as it is by then.

    Raises:
        NotOffered: it cannot be restored.
        ValueError: its plan has another form.
    """
    make = cast("TakeoverOf", _part(service, "takeover", "be restored"))
    return make(service, plan, note)


def _part(service: Service, part: str, what: str) -> Any:
    found = service.parts.load(part)
    if found is None:
        raise NotOffered(
            f"{service.title} offers no backup, so it cannot {what}.",
            hint=f"name the others: services= without {service.name!r}",
        )
    return found
