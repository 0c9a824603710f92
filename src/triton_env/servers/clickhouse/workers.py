"""Threads for what blocks: the engine works outside of the interpreter lock, so they run in parallel."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class Workers:
    """A pool for queries, and a small one beside it for what must get through when that is busy."""

    def __init__(self, count: int) -> None:
        """`count` queries may run at the same time; more wait for their turn."""
        self._queries = ThreadPoolExecutor(count, thread_name_prefix="query")
        self._control = ThreadPoolExecutor(2, thread_name_prefix="control")

    async def run(self, call: Callable[[], T]) -> T:
        """Run a piece of a query in a thread."""
        try:
            future = asyncio.get_running_loop().run_in_executor(self._queries, call)
        except RuntimeError:
            raise asyncio.CancelledError("the server is shutting down") from None
        return await future

    async def finish(self, call: Callable[[], T]) -> T:
        """Run a piece of a query to its end, even if the caller is cancelled in between."""
        return await asyncio.shield(asyncio.ensure_future(self.run(call)))

    async def control(self, call: Callable[[], T]) -> T:
        """Run something short that does not wait behind queries."""
        return await asyncio.get_running_loop().run_in_executor(self._control, call)

    def close(self, timeout: float) -> bool:
        """Take no more work, and wait up to `timeout` seconds; whether everything ended. Blocks."""
        self._queries.shutdown(wait=False, cancel_futures=True)

        def wait() -> None:
            self._queries.shutdown()
            # The engine must not be closed under these either, such as one that ends a query whose client has left.
            self._control.shutdown(cancel_futures=True)

        waiting = threading.Thread(target=wait, daemon=True)
        waiting.start()
        waiting.join(timeout)
        self._control.shutdown(wait=False, cancel_futures=True)
        return not waiting.is_alive()
