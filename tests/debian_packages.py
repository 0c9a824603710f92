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

    Raises:
        RuntimeError: they cannot be had, in the words of apt-get.
    """
    cache = folder / "cache"
    (cache / "archives" / "partial").mkdir(parents=True)
    options = ("-o", f"Dir::Cache={cache}", "-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=root")
    words = ("install", "--download-only", "--yes", "--no-install-recommends", *names)
    if _apt_get(*options, *words):
        # The machine's index is missing, or names versions that are gone: one of our own, for this once.
        (cache / "lists" / "partial").mkdir(parents=True)
        options += ("-o", f"Dir::State::lists={cache / 'lists'}")
        if problem := _apt_get(*options, "update") or _apt_get(*options, *words):
            raise RuntimeError(problem)
    for package in sorted((cache / "archives").glob("*.deb")):
        subprocess.run(("dpkg", "-x", str(package), str(folder)), check=True)
    shutil.rmtree(cache)
    for place in folder.rglob("*"):
        if place.is_dir() and not place.is_symlink():
            place.chmod(0o755)
    libraries = [str(path) for place in ("usr/lib", "lib") for path in folder.glob(f"{place}/*-linux-gnu*")]
    return {"LD_LIBRARY_PATH": os.pathsep.join(filter(None, (*libraries, os.environ.get("LD_LIBRARY_PATH"))))}


def _apt_get(*words: str) -> str:
    """Run it; why it failed, and nothing where it did not."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(("apt-get", *words), capture_output=True, text=True, env=environment, check=False)
    return (done.stderr.strip()[-500:] or f"apt-get ended with {done.returncode}") if done.returncode else ""
