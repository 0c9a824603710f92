"""What an environment has besides its own: namespaces, templates and snapshots."""

from collections.abc import Mapping
from datetime import UTC, datetime

from triton_env.inspection.data import SpaceEntry
from triton_env.isolation.state import listed
from triton_env.settings import Settings

Sizes = Mapping[str, Mapping[str, int]]
"""Bytes by service and, in each, by space."""


def spaces_of(environment: str, settings: Settings, sizes: Sizes | None = None) -> tuple[SpaceEntry, ...]:
    """The spaces of an environment.

    Args:
        settings: where this user's state is kept.
        sizes: of the spaces; None where the servers were not asked.
    """
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
            sizes=None if sizes is None else {name: of[space.space] for name, of in sizes.items() if space.space in of},
        )
        for space in listed(settings, environment)
    )
