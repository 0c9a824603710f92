"""Which processes use an environment that another one has."""

from contextlib import suppress
from pathlib import Path

from triton_env.settings import Settings
from triton_env.sharing.shared_registry import SharedRegistry
from triton_env.state import locks
from triton_env.state.folders import private_folder
from triton_env.state.registry import Record


def users_of(record: Record, settings: Settings) -> tuple[int, ...]:
    """The ids of the processes that use an environment besides its owner, in ascending order.

    Args:
        settings: where this user's state is kept.
    """
    leases = list(private_folder(settings, "environments").glob(f"{record.id}.*.lease"))
    if record.held_by == "reuse":
        for instance in SharedRegistry(settings).instances():
            if instance.id == record.id:
                leases += instance.folder.glob("*.lease")
    found: set[int] = set()
    for lease in leases:
        with suppress(OSError, ValueError):  # given back at this moment
            if locks.is_held(lease):
                found.add(_holder(lease))
    return tuple(sorted(found))


def _holder(lease: Path) -> int:
    """The process that holds it, by its name: [ENVIRONMENT.]PID-RANDOM.lease."""
    return int(lease.stem.rpartition(".")[2].partition("-")[0])
