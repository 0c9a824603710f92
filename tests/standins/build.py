#!/usr/bin/env python3
"""Build the stand-in images, or only those whose official image cannot be had, and say which image to use for what.

On success standard output holds one dotenv line a service (`POSTGRES_IMAGE=...`); words go to standard error.
Needs nothing but Python, Docker and mmdebstrap, since it runs before the project's virtual environment exists.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import functools
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import engine
import images
from images import say
from recipes import FURTHER, REPOSITORY, STANDINS, TOOLS, Standin

# Making a Debian system and importing it are busy on one processor each.
PARALLEL_BUILDS = 2
PULL_TOTAL_SECONDS = 600


def main() -> int:
    """Returns the exit code: 0 good, 1 failed, 2 wrong use."""
    arguments = _arguments()
    known = _known()
    chosen = [known[name] for name in arguments.only or known]
    try:
        engine.require_engine()
        answers = _official_images(chosen, arguments.pull_timeout) if arguments.missing else {}
        wanted = [standin for standin in chosen if standin.variable not in answers]
        services = {standin.service for standin in wanted}
        wanted += [standin for standin in FURTHER if standin.service in services]
        # Not by themselves: where the official images can be had, nothing has to be built at all.
        wanted += TOOLS if wanted and not arguments.only else ()
        if wanted:
            with _only_one_at_a_time():
                _build_all(wanted)
                engine.remove_replaced()
    except engine.BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    for standin in chosen:
        print(f"{standin.variable}={answers.get(standin.variable, standin.tag)}")
    return 0


@functools.cache
def _known() -> Mapping[str, Standin]:
    """The stand-ins by their services, the longest to build first."""
    return STANDINS | {standin.service: standin for standin in _of_plugins()}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = sorted(_known())
    parser.add_argument(
        "--only", action="append", choices=names, metavar="NAME", help=f"one of {', '.join(names)} (repeatable)"
    )
    parser.add_argument("--missing", action="store_true", help="stand-ins only for official images that cannot be had")
    timeout_help = "with --missing: how long a registry may take to answer (default: %(default)g)"
    parser.add_argument("--pull-timeout", type=float, default=20.0, metavar="SECONDS", help=timeout_help)
    return parser.parse_args()


def _of_plugins() -> Iterator[Standin]:
    """Those of distributions that bring a service, each in its own folder: `examples/plugin-*/standin/recipe.py`."""
    for path in sorted(REPOSITORY.glob("examples/plugin-*/standin/recipe.py")):
        specification = spec_from_file_location(f"recipe_of_{path.parents[1].name}", path)
        assert specification
        assert specification.loader
        module = module_from_spec(specification)
        specification.loader.exec_module(module)
        yield from module.STANDINS


def _official_images(chosen: list[Standin], answer_timeout: float) -> dict[str, str]:
    """Variable to image, for each service whose configured image is here or could be pulled."""
    configured = _configured_images()

    def find(standin: Standin) -> str | None:
        image = configured.get(standin.variable)
        if image is None or image == standin.tag:
            return None
        if engine.present(image):
            say(f"{standin.service}: {image} is here")
            return image
        say(f"{standin.service}: pulling {image}")
        if engine.pull(image, answer_timeout, PULL_TOTAL_SECONDS):
            say(f"{standin.service}: {image} was pulled")
            return image
        say(f"{standin.service}: {image} can be neither found nor pulled; a stand-in takes its place")
        return None

    with ThreadPoolExecutor(len(chosen)) as pool:
        found = list(pool.map(find, chosen))
    return {standin.variable: image for standin, image in zip(chosen, found, strict=True) if image}


def _configured_images() -> dict[str, str]:
    """The image variables of the environment, over those of `.env.example`, the one place that names image tags."""
    configured: dict[str, str] = {}
    configured |= {standin.variable: standin.official for standin in _known().values() if standin.official}
    example = REPOSITORY / ".env.example"
    if not example.is_file():
        raise engine.BuildError(f"{example.name} is missing at the top of the repository: it names the official images")
    for line in example.read_text(encoding="utf-8").splitlines():
        name, equals, value = line.partition("=")
        if equals and not name.lstrip().startswith("#"):
            configured[name.strip()] = value.split(" #")[0].strip().strip("\"'")
    variables = {standin.variable for standin in _known().values()}
    configured |= {name: os.environ[name] for name in variables if os.environ.get(name)}
    return configured


def _build_all(wanted: list[Standin]) -> None:
    with ThreadPoolExecutor(PARALLEL_BUILDS) as pool:
        futures = {standin.tag: pool.submit(images.build, standin) for standin in wanted}
    problems = [f"{tag}: {future.exception()}" for tag, future in futures.items() if future.exception()]
    if problems:
        raise engine.BuildError("\n".join(problems))


@contextlib.contextmanager
def _only_one_at_a_time() -> Iterator[None]:
    """Two test runs on one engine must not build the same image twice at once."""
    with (Path(tempfile.gettempdir()) / f"triton-env-standins-{os.geteuid()}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another build of the stand-ins")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    sys.exit(main())
