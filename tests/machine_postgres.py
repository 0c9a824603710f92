"""A PostgreSQL of a system's package, as machines have it: the installed one, or one that is unpacked for the tests."""

from collections.abc import Mapping
from pathlib import Path

import debian_packages
from triton_env.services.postgres import programs


def variables(folder: Path) -> Mapping[str, str]:
    """What leads environments to a PostgreSQL of this machine; empty where there is none and none can be had.

    Args:
        folder: an empty one, for the packages of a Debian or an Ubuntu that lacks it.
    """
    if installed := programs.chosen(""):
        return {programs.VARIABLE: str(installed.folder)}
    return _unpacked(folder) if debian_packages.can_be_had() else {}


def _unpacked(folder: Path) -> Mapping[str, str]:
    variables = debian_packages.unpacked(folder, "postgresql")
    (server,) = folder.glob("usr/lib/postgresql/*/bin/postgres")
    return {programs.VARIABLE: str(server.parent), **variables}
