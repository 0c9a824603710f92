"""Responses at the pace of their readers, for LocalStack's gateway on Twisted.

Twisted takes whatever the application hands it, so without this a client that reads slowly has its whole object in the
server's memory. And Twisted reads a form (PostObject) into memory by itself, although LocalStack parses it again.
GATEWAY_SERVER=hypercorn would do the first too, and takes a third longer for small requests.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from weakref import WeakSet

from rolo.serving import twisted as gateway
from twisted.internet.interfaces import IPushProducer
from twisted.internet.threads import blockingCallFromThread
from zope.interface import implementer

Application = Callable[..., Iterable[bytes]]


@implementer(IPushProducer)
class Pace:
    """Whether a connection takes more at present. Twisted says so in its own thread, the response waits in another."""

    def __init__(self) -> None:
        self._go = threading.Event()
        self._go.set()

    def wait(self) -> None:
        """Return when the connection takes more, or is gone, or the server stops."""
        self._go.wait()

    def pauseProducing(self) -> None:  # noqa: N802 - the names are Twisted's
        if not _stopping.is_set():
            self._go.clear()

    def resumeProducing(self) -> None:  # noqa: N802
        self._go.set()

    stopProducing = resumeProducing  # noqa: N815


_paces: "WeakSet[Pace]" = WeakSet()
_stopping = threading.Event()


class PacedResponse(gateway.HeaderPreservingWSGIResponse):
    """A response that hands Twisted its next part once the connection takes it."""

    def __init__(self, reactor: Any, threadpool: Any, application: Application, request: Any) -> None:
        super().__init__(reactor, threadpool, self._paced(application), request)

    def _paced(self, application: Application) -> Application:
        def paced(environ: Any, start_response: Any) -> Iterator[bytes]:
            parts = application(environ, start_response)
            pace = None
            try:
                for count, part in enumerate(parts):
                    # Most responses are of one part, and are spared the way to Twisted's thread and back.
                    if count == 1:
                        pace = Pace()
                        _paces.add(pace)
                        blockingCallFromThread(self.reactor, self._register, pace)
                    yield part
                    if pace is not None:
                        pace.wait()
                        if _stopping.is_set():
                            break
            finally:
                if pace is not None:
                    blockingCallFromThread(self.reactor, self._unregister)
                if (close := getattr(parts, "close", None)) is not None:
                    close()

        return paced

    def _register(self, pace: Pace) -> None:
        # Without a channel the connection is gone, and `run` is about to notice.
        if getattr(self.request, "channel", None) is not None:
            self.request.registerProducer(pace, True)

    def _unregister(self) -> None:
        if getattr(self.request, "channel", None) is not None:
            self.request.unregisterProducer()


def install() -> None:
    """Have the gateway use it. To be called before the gateway serves."""
    gateway.HeaderPreservingWSGIResponse = PacedResponse
    # Twisted's constructor sets it; nothing else reads it.
    gateway.TwistedRequestAdapter._parsePOSTFormSubmission = property(
        lambda request: False, lambda request, value: None
    )


def stop() -> None:
    """Break off the responses that are not finished: the end of the server would wait for their readers."""
    _stopping.set()
    for pace in tuple(_paces):
        pace.resumeProducing()
