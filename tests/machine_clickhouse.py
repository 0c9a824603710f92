"""A ClickHouse of a system's package, unpacked for the tests: of 2018, in Debian 12 and in Ubuntu.

No distribution has a newer one. So it shows how a ClickHouse of this machine is run: its configuration, rights, ports,
log and end. What current versions do with what they are asked is shown by the images and by the Python package.
"""

import os
from pathlib import Path

import debian_packages

VERSION = (18, 16)
"""Older than what environments run, unless a test lets them."""
_PACKAGES = ("clickhouse-server", "clickhouse-client")
_PROGRAM = """#!/bin/bash
# The package has a program for each of its commands, and the server does not print its version.
command=$1
shift
if [ "$command $*" = "server --version" ]; then
    echo "ClickHouse server version 18.16.1."
    exit
fi
# Current versions begin with closing what they have inherited, locks included.
for place in /proc/$$/fd/*; do
    number=${{place##*/}}
    # That of this script is the highest.
    [ "$number" -gt 2 ] && [ "$number" -lt 255 ] && eval "exec $number>&-"
done
export LD_LIBRARY_PATH={libraries}
exec "$(PATH={programs} command -v "clickhouse-$command")" "$@"
"""


def program(folder: Path) -> Path | None:
    """The program `clickhouse`; None where it cannot be had.

    Args:
        folder: an empty one, for the packages.
    """
    if not debian_packages.can_be_had():
        return None
    variables = debian_packages.unpacked(folder, *_PACKAGES)
    programs = os.pathsep.join(str(folder / "usr" / name) for name in ("bin", "sbin"))
    path = folder / "clickhouse"
    path.write_text(_PROGRAM.format(libraries=variables["LD_LIBRARY_PATH"], programs=programs))
    path.chmod(0o755)
    return path
