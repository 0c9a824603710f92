"""What runs, looked at again and again, and the browsers that are shown it."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from triton_env.core.threads import in_thread
from triton_env.dashboard.answers import NotThere, event, in_parts
from triton_env.errors import TritonError
from triton_env.inspection import EnvironmentEntry, Inspection, inspect
from triton_env.settings import Settings

LOOKED_AT, ALONE = 2.0, 10.0
"""Seconds between two looks, while a browser shows them and while none does."""
_BACKLOG = 500
"""Events that wait for a browser. One that lags further is cut off, connects again and gets the whole."""


class Watch:
    """The inspection that is in force, and what its watchers are sent.

    Args:
        settings: where state is kept.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._watchers: set[asyncio.Queue[bytes | None]] = set()
        self._someone_came = asyncio.Event()
        self._look: asyncio.Future[Inspection] | None = None
        self._shown: Mapping[str, Any] | None = None
        self.inspection: Inspection | None = None

    @property
    def is_looked_at(self) -> bool:
        """Whether a browser shows this."""
        return bool(self._watchers)

    async def fresh(self) -> Inspection:
        """What runs now. Those who ask at the same time get the same answer.

        Raises:
            TritonError: the state folder cannot be used.
        """
        if self._look is None or self._look.done():
            self._look = asyncio.wrap_future(in_thread(inspect, self._settings))
        # Shielded: who asked may go, and others wait for it too.
        self.inspection = await asyncio.shield(self._look)
        return self.inspection

    async def environment(self, identity: str) -> EnvironmentEntry:
        """An environment that runs.

        Raises:
            NotThere: none of that id does.
            TritonError: the state folder cannot be used.
        """
        for inspection in (self.inspection, await self.fresh()):
            for entry in inspection.environments if inspection else ():
                if entry.id == identity:
                    return entry
        raise NotThere(
            f"The environment {identity} does not run, or not any more.", hint="see what runs: python -m triton_env ps"
        )

    async def run(self) -> None:
        """Look until this is cancelled."""
        while True:
            try:
                self._show((await self.fresh()).model_dump(mode="json"))
            except TritonError as error:
                self.send("problem", in_parts(error))
            await self.pause()

    async def pause(self) -> None:
        """Wait for the next look: less long as soon as a browser comes."""
        if self.is_looked_at:
            await asyncio.sleep(LOOKED_AT)
            return
        self._someone_came.clear()
        try:
            await asyncio.wait_for(self._someone_came.wait(), ALONE)
        except TimeoutError:
            return

    def _show(self, found: Mapping[str, Any]) -> None:
        if found != self._shown:
            self._shown = found
            self.send("inspection", found)

    def send(self, name: str, content: Any) -> None:
        """Send an event to all watchers."""
        if not self._watchers:
            return
        encoded = event(name, content)
        for queue in self._watchers:
            if queue.qsize() < _BACKLOG:
                queue.put_nowait(encoded)
            else:
                queue.put_nowait(None)

    async def events(self) -> AsyncIterator[bytes]:
        """What one watcher is sent: the whole at first, then what changes."""
        with self._watching() as queue:
            if self._shown is not None:
                yield event("inspection", self._shown)
            while (found := await queue.get()) is not None:
                yield found

    @contextmanager
    def _watching(self) -> "Iterator[asyncio.Queue[bytes | None]]":
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._watchers.add(queue)
        self._someone_came.set()
        try:
            yield queue
        finally:
            self._watchers.discard(queue)
