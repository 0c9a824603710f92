"""Debian packages that tests and stand-ins need on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading

# Seconds to wait for another apt-get, such as unattended upgrades.
APT_WAITS = "DPkg::Lock::Timeout=120"

# Images are built in several threads, and apt-get is for one at a time.
_installing = threading.Lock()


def require(program: str, *packages: str) -> str:
    """Install what brings a program, where this machine lacks it.

    Returns:
        Why it cannot be had, with a hint; an empty string where it is there now.
    """
    with _installing:
        if shutil.which(program):
            return ""
        hint = f"hint: on Debian or Ubuntu, as root: apt-get install {' '.join(packages)}"
        if shutil.which("apt-get") is None or os.geteuid() != 0:
            return f"{program} is missing.\n{hint}"
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for words in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
            command = ["apt-get", "-o", APT_WAITS, "-o", "Acquire::Retries=3", *words]
            done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if shutil.which(program):
            return ""
        return f"{program} could not be installed: {done.stderr.strip()[-500:]}\n{hint}"
