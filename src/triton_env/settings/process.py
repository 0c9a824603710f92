"""The environment of this process: read, copied for others, and parts of it hidden for a moment."""

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

HUB_PREFIX = "TESTCONTAINERS_HUB_IMAGE_NAME_PREFIX"
"""The registry that has the images of Docker Hub: https://java.testcontainers.org/features/image_name_substitution/"""


def from_hub(image: str) -> str:
    """An image's name with Testcontainers' prefix for those of Docker Hub: one name for all that use it."""
    prefix = os.environ.get(HUB_PREFIX, "")
    registry, slash, _ = image.partition("/")
    elsewhere = slash and registry != "docker.io" and (set(registry) & set(".:") or registry == "localhost")
    if not prefix or elsewhere or image.startswith(prefix):
        return image
    return prefix + image.removeprefix("docker.io/")


def process_environment() -> dict[str, str]:
    """A copy of this process's environment variables, for child processes."""
    return dict(os.environ)


def current_test() -> str:
    """The test that runs in this process, as pytest notes it there; empty outside of tests."""
    test, _, _ = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")
    return test


def docker_host() -> str:
    """The value of DOCKER_HOST, or an empty string."""
    return os.environ.get("DOCKER_HOST", "")


_hidden_lock = threading.Lock()
_hidden: dict[str, tuple[int, str]] = {}
"""Variables that are out of the process environment: how often that was asked for, and their values."""


@contextmanager
def without_variables(names: Iterable[str]) -> Iterator[None]:
    """Have variables out of the process environment until the block ends.

    For libraries that obey a variable in any case. Other threads miss it as well, so the block is short, and
    nothing is changed where the variable is not set.
    """
    taken: list[str] = []
    with _hidden_lock:
        for name in names:
            if name in _hidden:
                _hidden[name] = (_hidden[name][0] + 1, _hidden[name][1])
            elif name in os.environ:
                _hidden[name] = (1, os.environ.pop(name))
            else:
                continue
            taken.append(name)
    try:
        yield
    finally:
        with _hidden_lock:
            for name in taken:
                count, value = _hidden.pop(name)
                if count > 1:
                    _hidden[name] = (count - 1, value)
                else:
                    # Unless the program has set another one by now.
                    os.environ.setdefault(name, value)
