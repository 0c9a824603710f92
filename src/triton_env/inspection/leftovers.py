"""What dead owners left, as `prune` finds it."""

from triton_env.core.printable import in_one_line
from triton_env.core.threads import in_thread
from triton_env.errors import TritonError
from triton_env.inspection.data import LeftoverEntry
from triton_env.prune import Leftover, look
from triton_env.settings import Settings

_TIMEOUT = 15.0
"""Seconds that an engine gets to list what it has."""


def found_leftovers(settings: Settings) -> tuple[tuple[LeftoverEntry, ...] | None, str]:
    """What was left, and why no engine was looked at. None where the engine does not answer in time, or fails."""
    try:
        return in_thread(_found, settings).result(_TIMEOUT)
    except TimeoutError:
        return None, f"no engine answers within {_TIMEOUT:g} s"
    except TritonError as error:
        return None, in_one_line(error)


def entry_of(leftover: Leftover) -> LeftoverEntry:
    """Something that was left, as data."""
    return LeftoverEntry(
        what=leftover.what,
        name=leftover.name,
        environment=leftover.environment or None,
        pid=leftover.pid,
        host=leftover.host or None,
        project=leftover.project or None,
        why=leftover.why,
        stays=leftover.stays,
    )


def _found(settings: Settings) -> tuple[tuple[LeftoverEntry, ...], str]:
    with look(settings) as findings:
        return tuple(map(entry_of, findings.leftovers)), findings.engine_problem
