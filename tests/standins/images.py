"""From a recipe to images on the engine, rebuilding only what changed."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from pathlib import Path

import debian
import engine
from recipes import Standin


def build(standin: Standin) -> None:
    """Bring every image of one stand-in up to date.

    Each image carries the hash of all that it is made from, the images below it included, as a label. An image whose
    label says what the recipe says is left alone.

    Raises:
        BuildError: something is missing or a step failed.
    """
    hashes = _hashes(standin)
    stale = [index for index, image in enumerate(standin.images) if engine.inputs_of(image.tag) != hashes[index]]
    if not stale:
        say(f"{standin.service}: {standin.tag} is up to date")
        return
    started = time.monotonic()
    if stale[0] == 0:
        say(f"{standin.service}: making a Debian {standin.suite} system with {', '.join(standin.packages)}")
        debian.require_mmdebstrap()
        debian.make_system(standin, hashes[0])
    for index in range(max(stale[0], 1), len(standin.images)):
        engine.derive(standin.images[index], standin.images[index - 1].tag, hashes[index])
    built = [image.tag for image in standin.images[stale[0] :]]
    say(f"{standin.service}: built {', '.join(built)} in {time.monotonic() - started:.0f} s")


def _hashes(standin: Standin) -> list[str]:
    """The content hash of each image, the images below it included."""
    scripts = [(path.name, path) for path in (standin.before_packages, standin.after_packages) if path]
    words = [debian.REVISION, standin.suite, *standin.packages, "/", *standin.left_out]
    if standin.python_packages:
        words += debian.pinned_requirements(standin.python_packages)
    below = _digest(words, scripts)
    hashes = []
    for image in standin.images:
        words = [below, image.tag, *image.environment, *image.finish, json.dumps(image.config)]
        below = _digest(words, list(image.files))
        hashes.append(below)
    return hashes


def _digest(words: list[str], files: list[tuple[str, Path]]) -> str:
    total = hashlib.sha256()
    for word in words:
        total.update(word.encode() + b"\0")
    for name, path in files:
        total.update(name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def say(words: str) -> None:
    """Progress for a person; standard output belongs to the answer."""
    print(words, file=sys.stderr, flush=True)
