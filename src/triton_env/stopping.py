"""The end of an environment's starts: tried again until it succeeds, and in a coroutine waited for without blocking."""

import os
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING

from triton_env._startup import Startup
from triton_env.core import interrupts
from triton_env.core.threads import in_thread
from triton_env.errors import CleanupFailed

if TYPE_CHECKING:
    import asyncio

Action = Callable[[Callable[[], None]], Awaitable[None]]
"""How something is done that may take long: here and now, or in a thread that a coroutine waits for."""


class Stopping:
    """Ends what was started, and remembers what could not be ended."""

    def __init__(self) -> None:
        self._left: list[Startup] = []

    @property
    def is_complete(self) -> bool:
        """Whether nothing of what was ended may be left behind."""
        return not self._left

    def end(self, startup: Startup | None) -> None:
        """End this one, and those that could not be ended before.

        Raises:
            CleanupFailed: something may be left behind. It is tried again the next time.
        """
        startups = [*self._left, *([startup] if startup else ())]
        failed: CleanupFailed | None = None
        for each in startups:
            # Otherwise a forked child ends, and its parent still uses the services.
            if each.process != os.getpid():
                continue
            try:
                each.end()
            except CleanupFailed as error:
                failed = error
                if each not in self._left:
                    self._left.append(each)
            else:
                self._left = [other for other in self._left if other is not each]
        if failed is not None:
            raise failed


async def at_once(action: Callable[[], None]) -> None:
    """Do it here and now."""
    action()


def run_at_once(steps: Coroutine[None, None, None]) -> None:
    """Run a coroutine outside of an event loop, all of whose actions are done `at_once`."""
    try:
        steps.send(None)
    except StopIteration:
        return
    raise AssertionError("it waits for something")


async def ended(action: Callable[[], None]) -> None:
    """Do it in a thread to its end, also where this is cancelled before that: then it has to hurry."""
    import asyncio

    future = _future(action)
    try:
        await asyncio.shield(future)
    except asyncio.CancelledError as cancelled:
        with interrupts.hurrying():
            await asyncio.wait({future})
        if error := future.exception():
            cancelled.add_note(str(error))
        raise


async def awaited(action: Callable[[], None]) -> None:
    """Wait for it in a daemon thread, which a cancellation leaves alone: it may hang."""
    import asyncio

    await asyncio.shield(_future(action))


def _future(action: Callable[[], None]) -> "asyncio.Future[None]":
    import asyncio

    future = asyncio.wrap_future(in_thread(action))
    # Looked at here: of one whose waiter has left, asyncio would print the error.
    future.add_done_callback(lambda done: done.cancelled() or done.exception())
    return future
