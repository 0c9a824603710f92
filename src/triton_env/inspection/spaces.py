"""What an environment has besides its own: namespaces, templates and snapshots."""

from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime

from triton_env.inspection.data import SpaceEntry
from triton_env.isolation.slots import slots_of
from triton_env.isolation.state import folder_of, listed
from triton_env.settings import Settings

Sizes = Mapping[str, Mapping[str, int] | Mapping[int, int]]
"""Bytes by service and, in each, by space or by slot; see `Insight.sizes`."""


def spaces_of(environment: str, settings: Settings, sizes: Sizes | None = None) -> tuple[SpaceEntry, ...]:
    """The spaces of an environment.

    Args:
        settings: where this user's state is kept.
        sizes: of the spaces; None where the servers were not asked.
    """
    of_spaces = None if sizes is None else _by_space(environment, settings, sizes)
    return tuple(
        SpaceEntry(
            kind=space.kind,
            name=space.name,
            services=space.services,
            pid=space.pid or None,
            is_kept=space.is_kept,
            is_ready=space.is_ready,
            made_by=space.made_by or None,
            changed=datetime.fromtimestamp(space.changed, UTC),
            sizes=None if of_spaces is None else of_spaces.get(space.space, {}),
        )
        for space in listed(settings, environment)
    )


def _by_space(environment: str, settings: Settings, sizes: Sizes) -> dict[str, dict[str, int]]:
    """Bytes by space and, for each, by service."""
    found: defaultdict[str, dict[str, int]] = defaultdict(dict)
    folder = folder_of(settings, environment)
    for service, of in sizes.items():
        slots = slots_of(folder, service).held()
        known = {key: size for key, size in of.items() if isinstance(key, int)}
        for slot, space in slots.items():
            # One that is left out is empty.
            found[space][service] = found[space].get(service, 0) + known.get(slot, 0)
        for key, size in of.items():
            if isinstance(key, str):
                found[key][service] = size
    return dict(found)
