"""Does an image's name stand for another image by now? Then newcomers get an environment of the new one."""

import time
from collections.abc import Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import TYPE_CHECKING, Self

from triton_env.core.threads import in_thread
from triton_env.runtimes.docker.access import ContainerAccess
from triton_env.services import SERVICES

if TYPE_CHECKING:
    from triton_env.environment import TritonEnvironment
    from triton_env.runtimes.docker.engine import Engine

_INTERVAL = 3.0
"""Seconds between two looks at the engine's images."""


class ImageWatch:
    """Looks at the engine's images now and then, in a thread: an engine that hangs delays nothing.

    Args:
        images: by image reference, the container that was made of it. Empty: there is nothing to look at.
    """

    def __init__(self, images: Mapping[str, str]) -> None:
        self._images = images
        self._next = time.monotonic() + _INTERVAL
        self._look: Future[bool] | None = None

    @classmethod
    def of(cls, environment: "TritonEnvironment") -> Self:
        """Watch the images of an environment that runs."""
        runtime, images = environment._running().runtime.result(), dict[str, str]()
        for name in environment.services:
            if isinstance(access := runtime.access(name), ContainerAccess):
                images[SERVICES[name].recipe(environment.settings).container.image] = access.container
        return cls(images)

    def changed(self) -> bool:
        """Whether one was found to have changed, once. Takes no time."""
        if self._look is not None and self._look.done():
            look, self._look = self._look, None
            self._next = time.monotonic() + _INTERVAL
            # What could not be asked is not known to have changed.
            if look.exception() is None and look.result():
                self._images = {}
                return True
        if self._look is None and self._images and time.monotonic() >= self._next:
            self._look = in_thread(_changed, dict(self._images))
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._images = {}


def _changed(images: Mapping[str, str]) -> bool:
    from triton_env.runtimes.docker.engine import Engine

    engine = Engine()
    try:
        return any(_is_other(engine, image, container) for image, container in images.items())
    finally:
        engine.close()


def _is_other(engine: "Engine", image: str, container: str) -> bool:
    from docker.errors import DockerException

    try:
        made_of = engine.client.containers.get(container).attrs["Image"]
        return bool(engine.client.images.get(image).id != made_of)
    except DockerException:  # an image or container that is gone says nothing
        return False
