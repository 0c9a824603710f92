"""Programs that are installed on this machine, from which servers can be run."""

import os
import re
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from triton_env.errors import InvalidSetting

WHEEL = "wheel"
"""As a setting asks for what the Python package brings, whatever this machine has."""
_ASK_TIMEOUT = 60


def can_be_run(program: Path) -> bool:
    """Whether servers can be run from it: by every user, where root starts servers, which are another user's."""
    return os.access(program, os.X_OK) and (os.geteuid() != 0 or _is_open(program.resolve()))


def answer(argv: Sequence[str | Path], pattern: re.Pattern[bytes]) -> re.Match[bytes] | None:
    """What a program prints that the pattern describes; None where it does not, or fails."""
    import subprocess  # not on top: every command reads this module, and few of them come here

    with suppress(OSError, subprocess.SubprocessError):
        asked = subprocess.run(  # noqa: S603 - a server that is to be started
            argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=_ASK_TIMEOUT, check=True
        )
        return pattern.search(asked.stdout)
    return None


def unusable(title: str, variable: str, value: str, cause: str, leads_to: str) -> InvalidSetting:
    """The error about a program that is named and cannot be used.

    Args:
        title: of the service.
        variable: the setting that names it.
        value: of that.
        cause: why it cannot be used.
        leads_to: what the setting should lead to.
    """
    return InvalidSetting(
        f"{variable} does not lead to a {title} that can be used.",
        where=value,
        cause=cause,
        hint=f"set {variable} to {leads_to}, or to {WHEEL}",
    )


def _is_open(path: Path) -> bool:
    """Whether file modes let every user run a program."""
    with suppress(OSError):
        return all(place.stat().st_mode & stat.S_IXOTH for place in (path, *path.parents))
    return False
