"""What runs, looked at again and again, and the browsers that are shown it."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from triton_env.core.threads import in_thread
from triton_env.dashboard.answers import NotThere, event, in_parts
from triton_env.dashboard.futures import awaited
from triton_env.errors import TritonError, UsageError
from triton_env.inspection import EnvironmentEntry, Inspection, ServiceEntry, inspect
from triton_env.settings import Settings

LOOKED_AT, ALONE = 2.0, 10.0
"""Seconds between two looks, while a browser shows them and while none does."""
_ASKED = 30.0
"""Seconds between two times at which all servers are asked for all they know, while a browser shows it."""
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
        self._asking: asyncio.Future[Inspection] | None = None
        self._asked: Inspection | None = None
        self._asked_at = float("-inf")
        self._sent: Mapping[str, Any] | None = None
        self.inspection: Inspection | None = None

    @property
    def is_looked_at(self) -> bool:
        """Whether a browser shows this."""
        return bool(self._watchers)

    @property
    def listed(self) -> tuple[EnvironmentEntry, ...]:
        """What ran at the last look."""
        return self.inspection.environments if self.inspection else ()

    async def fresh(self) -> Inspection:
        """What runs now. Those who ask at the same time get the same answer.

        Raises:
            TritonError: the state folder cannot be used.
        """
        if self._look is None or self._look.done():
            self._look = awaited(in_thread(inspect, self._settings))
        # Shielded: who asked may go, and others wait for it too.
        self.inspection = await asyncio.shield(self._look)
        return self.inspection

    def shown(self) -> Mapping[str, Any]:
        """What ran at the last look, with what servers answered when they were asked last."""
        if self.inspection is None:
            return {}
        found = with_answers(self.inspection, self._asked)
        keyed = [entry.model_dump(mode="json") | {"key": entry.key} for entry in found.environments]
        return found.model_dump(mode="json", exclude={"environments"}) | {"environments": keyed}

    def look_soon(self) -> None:
        """Look, and ask servers, as soon as that can be: something was changed."""
        self._asked_at = float("-inf")
        self._someone_came.set()

    async def environment(self, identity: str) -> EnvironmentEntry:
        """An environment that runs.

        Args:
            identity: its key, or its id.

        Raises:
            NotThere: none of that id does.
            UsageError: several of that id do.
            TritonError: the state folder cannot be used.
        """
        if found := _named(identity, self.inspection) or _named(identity, await self.fresh()):
            return found
        raise NotThere(f"The environment {identity} is not running.", hint="see what runs: python -m triton_env ps")

    async def run(self) -> None:
        """Look until this is cancelled."""
        while True:
            try:
                await self.fresh()
                if self.is_looked_at:
                    self._ask()
                self._show()
            except TritonError as error:
                self.send("problem", in_parts(error))
                # Browsers show the problem until an inspection comes, even if that is the one before.
                self._sent = None
            await self.pause()

    async def pause(self) -> None:
        """Wait for the next look: less long while a browser shows it, and until one comes."""
        self._someone_came.clear()
        try:
            await asyncio.wait_for(self._someone_came.wait(), LOOKED_AT if self.is_looked_at else ALONE)
        except TimeoutError:
            return

    def _ask(self) -> None:
        """Begin to ask all servers, unless that was done a moment ago, or goes on."""
        is_going_on = self._asking is not None and not self._asking.done()
        if is_going_on or time.monotonic() - self._asked_at < _ASKED:
            return
        self._asked_at = time.monotonic()
        self._asking = awaited(in_thread(partial(inspect, self._settings, ask=True)))
        self._asking.add_done_callback(self._answered)

    def _answered(self, asking: "asyncio.Future[Inspection]") -> None:
        # An error is met by the next look as well, which reports it.
        if not asking.cancelled() and asking.exception() is None:
            self._asked = asking.result()
            self._show()

    def _show(self) -> None:
        found = self.shown()
        if found != self._sent:
            self._sent = found
            self.send("inspection", found)

    def send(self, name: str, content: Any) -> None:
        """Send an event to all watchers."""
        if not self._watchers:
            return
        encoded = event(name, content)
        for queue in tuple(self._watchers):
            if queue.qsize() < _BACKLOG:
                queue.put_nowait(encoded)
            else:
                self._watchers.discard(queue)
                queue.put_nowait(None)

    async def events(self) -> AsyncIterator[bytes]:
        """What one watcher is sent: the whole at first, then what changes."""
        with self._watching() as queue:
            if self._sent is not None:
                yield event("inspection", self._sent)
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


def _named(identity: str, inspection: Inspection | None) -> EnvironmentEntry | None:
    found = [each for each in inspection.environments if identity in (each.key, each.id)] if inspection else []
    if len(found) > 1:
        keys = " or ".join(each.key for each in found)
        raise UsageError(f"{identity!r} names several environments.", hint=f"name one of them: {keys}")
    return found[0] if found else None


_ANSWERS = tuple(name for name in ServiceEntry.model_fields if ServiceEntry.model_fields[name].default is None)
"""What a server reports about itself when it is asked. Without that, only the `pid` may be known."""


def with_answers(inspection: Inspection, asked: Inspection | None) -> Inspection:
    """An inspection with what servers answered at an earlier one, as far as they are the same and run."""
    if asked is None:
        return inspection
    before = {entry.key: entry for entry in asked.environments}
    environments = tuple(
        _with_answers(entry, before[entry.key]) if entry.key in before else entry for entry in inspection.environments
    )
    return inspection.model_copy(update={"environments": environments, "asked": True, "leftovers": asked.leftovers})


def _with_answers(entry: EnvironmentEntry, asked: EnvironmentEntry) -> EnvironmentEntry:
    of_services = {service.name: service for service in asked.services}
    sizes = {(space.kind, space.name): space.sizes for space in asked.spaces}
    services = tuple(
        service.model_copy(
            # What is known without asking is newer.
            update={name: getattr(answer, name) for name in (*_ANSWERS, "url") if getattr(service, name) is None}
        )
        if (answer := of_services.get(service.name)) and answer.ports == service.ports and service.state == "running"
        else service
        for service in entry.services
    )
    spaces = tuple(space.model_copy(update={"sizes": sizes.get((space.kind, space.name))}) for space in entry.spaces)
    return entry.model_copy(update={"services": services, "spaces": spaces, "problem": asked.problem})
