"""Images that an engine does not have yet: pulled, with progress, a limit in time, and an end by cancellation."""

import queue
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from triton_env.core.threads import in_thread
from triton_env.errors import ImageUnavailable, StartCancelled
from triton_env.runtimes.docker.engine import Engine
from triton_env.runtimes.docker.engine_errors import explanation
from triton_env.settings import HUB_PREFIX, Settings, process_environment

_MESSAGES = 100
"""How many messages of a pull wait to be read."""
_LOOK = 0.1
"""Seconds between two looks at whether a pull was cancelled."""
_WANTS_A_LOGIN = re.compile("no basic auth credentials|unauthorized: (authentication|incorrect)")
"""How engines report that a registry wants a name and a password, or others. Docker Hub denies what it does not have
with other words."""


def ensure_image(
    engine: Engine,
    image: str,
    variable: str,
    settings: Settings,
    on_progress: Callable[[str], None],
    cancelled: threading.Event,
) -> tuple[str, ...]:
    """Pull `image` unless it is there.

    Args:
        variable: the setting that names it, for the error message.
        settings: pull policy and timeout.
        on_progress: called with words such as "12 of 80 MB".
        cancelled: ends the pull when set.

    Returns:
        The paths that the image declares as volumes.

    Raises:
        ImageUnavailable: it is not there and cannot be pulled.
    """
    with engine.translated(f"look up the image {image}", variable):
        found = engine.image(image)
        if not found:
            if settings.triton_pull == "never":
                raise _no_image(image, variable, "TRITON_PULL is never, so it was not pulled")
            _pull(engine, image, variable, settings.triton_pull_timeout, on_progress, cancelled)
            found = engine.ask(f"/images/{image}/json")
    return tuple(sorted((found.get("Config") or {}).get("Volumes") or {}))


def _pull(
    engine: Engine,
    image: str,
    variable: str,
    timeout: float,
    on_progress: Callable[[str], None],
    cancelled: threading.Event,
) -> None:
    deadline = time.monotonic() + timeout
    layers: dict[str, tuple[int, int]] = {}
    on_progress(f"pulling {image}")
    for message in _messages_of_pull(engine, image, deadline, cancelled):
        if message is None:
            raise _no_image(image, variable, f"pulling took longer than TRITON_PULL_TIMEOUT ({timeout:g} s)")
        if isinstance(message, BaseException):
            raise _no_image(image, variable, explanation(message)) from message
        if "error" in message:
            raise _no_image(image, variable, str(message["error"]))
        detail = message.get("progressDetail") or {}
        if message.get("status") == "Downloading" and detail.get("total"):
            layers[message["id"]] = (detail["current"], detail["total"])
            done, total = (sum(column) / 1e6 for column in zip(*layers.values(), strict=True))
            on_progress(f"pulled {done:.0f} of {total:.0f} MB")


def _messages_of_pull(
    engine: Engine, image: str, deadline: float, cancelled: threading.Event
) -> Iterator[Mapping[str, Any] | Exception | None]:
    """What the engine says while it pulls; last what went wrong, None for the deadline.

    A thread reads it: an engine or a registry that hangs says nothing for as long as it likes.

    Raises:
        StartCancelled: `cancelled` was set.
    """
    messages: queue.Queue[Mapping[str, Any] | Exception | None] = queue.Queue(_MESSAGES)
    over = threading.Event()

    def read() -> None:
        from docker.utils import parse_repository_tag

        repository, tag = parse_repository_tag(image)
        for message in engine.client.api.pull(repository, tag=tag or "latest", stream=True, decode=True):
            messages.put(message)
            if over.is_set():
                return

    reading = in_thread(read)
    try:
        while True:
            if cancelled.is_set():
                raise StartCancelled(f"Pulling {image} was cancelled.")
            if time.monotonic() > deadline:
                yield None
                return
            is_read = reading.done()
            try:
                yield messages.get(timeout=0 if is_read else _LOOK)
            except queue.Empty:
                if not is_read:
                    continue
                if error := reading.exception():
                    assert isinstance(error, Exception)
                    yield error
                return
    finally:
        over.set()
        with suppress(queue.Empty):
            # The thread may wait for room.
            messages.get_nowait()


def _no_image(image: str, variable: str, cause: str) -> ImageUnavailable:
    prefix = process_environment().get(HUB_PREFIX, "")
    first = f"docker login {image.partition('/')[0]}" if _WANTS_A_LOGIN.search(cause) else f"docker pull {image}"
    return ImageUnavailable(
        f"The image {image} is not on the engine and could not be pulled.",
        where=variable + (f", with {HUB_PREFIX}={prefix}" if prefix and image.startswith(prefix) else ""),
        cause=cause,
        hint=f"{first}, or set {variable} to an image that is there (docker image ls)",
    )
