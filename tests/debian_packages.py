"""Packages of a Debian or an Ubuntu that it lacks, unpacked for the tests without installing them."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path


def can_be_had() -> bool:
    """Whether this machine has packages of that kind."""
    return bool(shutil.which("apt-get") and shutil.which("dpkg"))


def unpacked(folder: Path, *names: str) -> Mapping[str, str]:
    """Download packages and what they need that is not installed, and unpack all of it; the variables for programs.

    Args:
        folder: an empty one.
    """
    cache = folder / "cache"
    (cache / "archives" / "partial").mkdir(parents=True)
    options = ("-o", f"Dir::Cache={cache}", "-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=root")
    words = ("apt-get", *options, "install", "--download-only", "--yes", "--no-install-recommends", *names)
    subprocess.run(words, check=True, capture_output=True, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
    for package in sorted((cache / "archives").glob("*.deb")):
        subprocess.run(("dpkg", "-x", str(package), str(folder)), check=True)
    shutil.rmtree(cache)
    for place in folder.rglob("*"):
        if place.is_dir() and not place.is_symlink():
            place.chmod(0o755)
    libraries = [str(path) for path in folder.glob("usr/lib/*-linux-gnu*")]
    return {"LD_LIBRARY_PATH": os.pathsep.join(filter(None, (*libraries, os.environ.get("LD_LIBRARY_PATH"))))}
