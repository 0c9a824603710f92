"""Namespaces made in advance and removed later, by one thread in the background."""

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

from triton_env.core.interrupts import wait_unless_hurried
from triton_env.isolation.namespace import Namespace

_log = logging.getLogger(__name__)

Key = tuple[object, ...]
"""What distinguishes kinds of namespaces: template and services."""

_KINDS = 8
"""Kinds of which namespaces are kept ready; of others before them none is."""
_BACKLOG = 8
"""Closed namespaces that may wait for their removal; beyond that, closing one removes some."""
_REST = 0.06
"""Seconds that a closed namespace is left alone: who closes one often takes another at once, and waits for that."""
_SWEEP_INTERVAL = 15
"""Seconds between two looks for what dead processes left."""
_END_TIMEOUT = 10
"""Seconds to wait for what is being made or removed. After that the folder of the environment may go at any moment."""
_DRAIN_TIMEOUT = 30


class Pool:
    """Ready namespaces, at most `size` of each kind.

    Args:
        size: how many; 0 for none, which leaves removing and sweeping to it.
        remove: removes a namespace from the servers.
        sweep: removes what dead processes left; called now and then, and soon after the first use.
    """

    def __init__(self, size: int, remove: Callable[[Namespace], None], sweep: Callable[[], None]) -> None:
        self._size = size
        self._remove = remove
        self._sweep = sweep
        self._changed = threading.Condition()
        self._ready: OrderedDict[Key, deque[Namespace]] = OrderedDict()
        self._make: dict[Key, Callable[[], Namespace]] = {}
        self._closed: deque[Namespace] = deque()
        self._last_closed = 0.0
        self._thread: threading.Thread | None = None
        self._is_working = False
        self._pauses = 0
        self._is_ending = False
        self._drains = False

    def take(self, key: Key, make: Callable[[], Namespace]) -> Namespace:
        """A namespace of that kind: a ready one, or one that is made now. Others are made ready from then on."""
        with self._changed:
            self._start()
            if self._size:
                # Also where it failed before: perhaps it was only then.
                self._make[key] = make
                ready = self._ready.setdefault(key, deque())
                self._ready.move_to_end(key)
                self._forget_old_kinds()
                self._changed.notify_all()
                if ready:
                    return ready.popleft()
        return make()

    def put_away(self, namespace: Namespace) -> None:
        """Remove a namespace, soon."""
        with self._changed:
            if not self._is_ending and len(self._closed) < _BACKLOG:
                self._start()
                self._closed.append(namespace)
                self._last_closed = time.monotonic()
                self._changed.notify_all()
                return
        self._remove(namespace)

    @contextmanager
    def paused(self) -> Iterator[list[Namespace]]:
        """While a block lasts, nothing is made or removed in the background.

        Its value are the namespaces that no client uses: those that are ready, or closed and not yet removed.
        """
        with self._changed:
            self._pauses += 1
            # What is being made or removed looks like one that a client uses. It is not waited for without an end,
            # since a server may hang.
            self._changed.wait_for(lambda: not self._is_working, _END_TIMEOUT)
        try:
            yield self._unused()
        finally:
            with self._changed:
                self._pauses -= 1
                self._changed.notify_all()

    def _unused(self) -> list[Namespace]:
        with self._changed:
            return [*self._closed, *(namespace for ready in self._ready.values() for namespace in ready)]

    def counts(self) -> dict[Key, int]:
        """How many are ready, of each kind."""
        with self._changed:
            return {key: len(ready) for key, ready in self._ready.items()}

    def end(self, *, drain: bool) -> list[Namespace]:
        """Make no more, and have the thread end.

        Args:
            drain: remove first whatever is ready or closed. Otherwise that is left to the end of the servers.

        Returns:
            The namespaces that were not removed.
        """
        with self._changed:
            self._is_ending, self._drains = True, drain
            self._make.clear()
            for ready in self._ready.values():
                self._closed.extend(ready)
            self._ready.clear()
            thread = self._thread
            self._changed.notify_all()
        if thread is not None and thread is not threading.current_thread():
            wait_unless_hurried(lambda: not thread.is_alive(), _DRAIN_TIMEOUT if drain else _END_TIMEOUT)
        with self._changed:
            left = list(self._closed)
            self._closed.clear()
        return left

    def _start(self) -> None:
        if self._thread is None and not self._is_ending:
            thread = threading.Thread(target=self._work, name="triton-namespaces", daemon=True)
            with suppress(RuntimeError):  # no thread is available: what needs something then does it itself
                thread.start()
                self._thread = thread

    def _forget_old_kinds(self) -> None:
        while len(self._ready) > _KINDS:
            key, ready = self._ready.popitem(last=False)
            self._make.pop(key, None)
            self._closed.extend(ready)

    def _work(self) -> None:
        next_sweep = 0.0
        while True:
            with self._changed:
                now = time.monotonic()
                job: Callable[[], None] | None
                if self._pauses and not self._is_ending:
                    self._changed.wait()
                    continue
                if now >= next_sweep and not self._is_ending:
                    job, next_sweep = self._sweep, now + _SWEEP_INTERVAL
                else:
                    job = self._next_job()
                if job is None:
                    if self._is_ending:
                        return
                    wake = min(next_sweep, self._last_closed + _REST) if self._closed else next_sweep
                    self._changed.wait(max(0.0, wake - now))
                    continue
                self._is_working = True
            self._attempt(job)
            with self._changed:
                self._is_working = False
                self._changed.notify_all()

    def _next_job(self) -> Callable[[], None] | None:
        """What to do: make what is lacking, unless there is much to remove."""
        if self._is_ending and not self._drains:
            return None
        lacking = next((key for key in reversed(self._make) if len(self._ready.get(key, ())) < self._size), None)
        is_urgent = self._is_ending or len(self._closed) >= _BACKLOG // 2
        has_rested = time.monotonic() >= self._last_closed + _REST
        if self._closed and (is_urgent or (lacking is None and has_rested)):
            return partial(self._remove, self._closed.popleft())
        return None if lacking is None else partial(self._refill, lacking, self._make[lacking])

    def _refill(self, key: Key, make: Callable[[], Namespace]) -> None:
        try:
            namespace = make()
        except BaseException:
            # The next request makes one, and sees why that fails. Once one has succeeded, this is tried again.
            with self._changed:
                if self._make.get(key) is make:
                    del self._make[key]
            raise
        # It may wait for long, and a test may wipe the servers by then.
        namespace._verify_before_use()
        with self._changed:
            if key in self._make:
                self._ready[key].append(namespace)
            elif self._drains or not self._is_ending:
                self._closed.append(namespace)
            else:
                namespace.held.release()  # nothing waits for it any longer, and the servers end

    def _attempt(self, job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:
            if not self._is_ending:
                _log.debug("in the background: %s", error, exc_info=True)
