"""The ASGI application: which path does what, and errors as answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sized
from dataclasses import replace
from typing import Any, Final

from .accounts import Account
from .auth import credentials_of
from .body import Receive, Send
from .config import ServerConfig
from .engine import Engine
from .errors import UNKNOWN_EXCEPTION, BrokenStreamError, ClientGoneError, ServerError
from .query import QueryHandler
from .request import QueryRequest, headers_of, parse
from .respond import Responder
from .response import PLAIN_TEXT
from .sessions import SessionManager
from .shared import Shared
from .tcp.listener import Listener

log = logging.getLogger("clickhouse")

_EXPIRY_INTERVAL: Final = 1.0
_OK: Final = b"Ok.\n"
_NOT_FOUND: Final = (
    "There is no handle {path}\n\n"
    "Use / or /ping for health checks.\n"
    "Or /replicas_status for more sophisticated health checks.\n\n"
    "Send queries from your program with POST method or GET /?query=...\n"
)


class Application:
    """Serves one engine."""

    def __init__(self, config: ServerConfig, engine: Engine) -> None:
        self._shared = Shared(config, engine)
        self._sessions = SessionManager(engine)
        self._queries = QueryHandler(self._shared, self._sessions)
        self._responder = Responder(config, engine, self._shared.workers)
        self._native = Listener(self._shared)
        self.idle = True

    def count(self, connections: Sized) -> None:
        """Report those of HTTP to clients that ask."""
        self._shared.of_http = connections

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one ASGI event."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "lifespan.startup":
            pass
        try:
            await self._native.start()
        except OSError as error:
            await send({"type": "lifespan.startup.failed", "message": f"the native protocol: {error}"})
            return
        expiry = asyncio.create_task(self._expire_sessions())
        await send({"type": "lifespan.startup.complete"})
        while (await receive())["type"] != "lifespan.shutdown":
            pass
        expiry.cancel()
        await self._native.stop()
        self.idle = await asyncio.get_running_loop().run_in_executor(None, self._shared.close)
        if self.idle:
            await self._native.close()
            self._sessions.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _expire_sessions(self) -> None:
        while True:
            await asyncio.sleep(_EXPIRY_INTERVAL)
            self._sessions.expire()

    async def _http(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        method, path = scope["method"], scope["path"]
        reading = method in ("GET", "HEAD")
        if path == "/" and method in ("GET", "HEAD", "POST", "PUT"):
            if reading and not scope["query_string"]:
                await _answer(send, 200, _OK)
            else:
                await self._query(scope, receive, send)
        elif path in ("/ping", "/replicas_status") and reading:
            await _answer(send, 200, _OK)
        elif method == "OPTIONS":
            await _answer(send, 204, b"")
        else:
            await _answer(send, 404, _NOT_FOUND.format(path=path).encode("utf-8", "replace"))

    async def _authenticate(self, scope: Mapping[str, Any], request: QueryRequest) -> Account:
        credentials = credentials_of(request.headers, request.parameters)
        client = scope.get("client")
        address = client[0] if client else None
        return await self._shared.authenticated(credentials, address)

    async def _query(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        query_id, request = "", None
        try:
            request = parse(scope["method"], scope["query_string"], headers_of(scope["headers"]))
            query_id = request.query_id
            account = await self._authenticate(scope, request)
            await self._queries.answer(replace(request, account=account), receive, send)
        except ClientGoneError:
            log.info("query %s: the client closed its connection", query_id)
        except ServerError as error:
            log.info("query %s: code %d, status %d", query_id, error.code, error.status)
            await self._responder.refuse(error, query_id, send, request)
        except BrokenStreamError as error:
            log.info("query %s: %s in the middle of the response", query_id, error)
            raise  # the HTTP server cuts the connection then, so that no client takes the response for whole
        except Exception as error:
            log.exception("query %s: unexpected error", query_id)
            failure = ServerError(UNKNOWN_EXCEPTION, f"Unexpected error in the server: {type(error).__name__}")
            await self._responder.refuse(failure, query_id, send)


async def _answer(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-type", PLAIN_TEXT.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers if body else []})
    await send({"type": "http.response.body", "body": body})
