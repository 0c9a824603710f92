"""What threads work on, awaited in an event loop."""

import asyncio
from concurrent.futures import Future
from typing import TypeVar

_Answer = TypeVar("_Answer")


def awaited(work: "Future[_Answer]") -> "asyncio.Future[_Answer]":
    """The work of a thread, to be awaited. Where its error comes after the last who awaited it has gone, it is dropped:
    it would be written to the terminal as it is."""
    found = asyncio.wrap_future(work)
    found.add_done_callback(lambda done: done.cancelled() or done.exception())
    return found
