"""A PostgreSQL of a system's package, as machines have it: the installed one, or one that is unpacked for the tests."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from triton_env.services.postgres import programs


def variables(folder: Path) -> Mapping[str, str]:
    """What leads environments to a PostgreSQL of this machine; empty where there is none and none can be had.

    Args:
        folder: an empty one, for the packages of a Debian or an Ubuntu that lacks it.
    """
    if installed := programs.chosen(""):
        return {programs.VARIABLE: str(installed.folder)}
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        return {}
    return _unpacked(folder)


def _unpacked(folder: Path) -> Mapping[str, str]:
    """Download the package and what it needs that is not installed, and unpack all of it, without installing it."""
    cache = folder / "cache"
    (cache / "archives" / "partial").mkdir(parents=True)
    options = ("-o", f"Dir::Cache={cache}", "-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=root")
    words = ("apt-get", *options, "install", "--download-only", "--yes", "--no-install-recommends", "postgresql")
    subprocess.run(words, check=True, capture_output=True, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
    for package in sorted((cache / "archives").glob("*.deb")):
        subprocess.run(("dpkg", "-x", str(package), str(folder)), check=True)
    shutil.rmtree(cache)
    for place in folder.rglob("*"):
        if place.is_dir() and not place.is_symlink():
            place.chmod(0o755)
    (server,) = folder.glob("usr/lib/postgresql/*/bin/postgres")
    libraries = [str(path) for path in folder.glob("usr/lib/*-linux-gnu*")]
    return {
        programs.VARIABLE: str(server.parent),
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, (*libraries, os.environ.get("LD_LIBRARY_PATH")))),
    }
