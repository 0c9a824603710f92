"""Who may ask: requests of this machine's browser to this very server, with the token that only its user has seen."""

import hmac
import re
import shlex
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_urlsafe
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from triton_env.core.private import write_new
from triton_env.dashboard import answers
from triton_env.errors import UsageError

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Of every answer."""
OURS = "X-Triton-Env"
"""A header that changes have to carry: a form of another site cannot set it."""
_READS = ("GET", "HEAD")
_LARGEST = 64 * 1024
"""Bytes of the largest body: an action with two names in it."""


def new_token() -> str:
    """A token that cannot be guessed."""
    return token_urlsafe(24)


def token_of(file: Path) -> str:
    """The token in a file of this user's, which is made where it is missing.

    Raises:
        UsageError: it cannot be used, others can read it, or its token can be guessed.
    """
    try:
        with suppress(FileExistsError):
            write_new(file, f"{new_token()}\n")
        token, mode = file.read_text().strip(), file.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        folder = file.absolute().parent
        raise UsageError(
            "The file of the token cannot be used.",
            where=str(file),
            cause=str(error) if folder.exists() else f"the folder {folder} does not exist",
            hint="" if folder.exists() else f"mkdir -p {shlex.quote(str(folder))}, and start it again",
        ) from error
    if mode & 0o077:
        raise UsageError("Others can read the token.", where=str(file), hint=f"chmod 600 {shlex.quote(str(file))}")
    if not re.fullmatch(r"[\w.~-]{22,}", token, re.ASCII):
        raise UsageError(
            "The file holds no token: 22 letters, digits, - and _ at least.",
            where=str(file),
            hint=f"rm {shlex.quote(str(file))}, and have one made",
        )
    return token


@dataclass(frozen=True, slots=True)
class Key:
    """What opens one dashboard.

    Attributes:
        port: that it listens on.
        token: what its user has to know.
    """

    port: int
    token: str = field(default_factory=new_token, repr=False)

    @property
    def hosts(self) -> frozenset[str]:
        """What browsers call it. Any other name was made by someone else to lead to this address."""
        names = ("127.0.0.1", "localhost")
        return frozenset(f"{name}:{self.port}" for name in names) | (set(names) if self.port == 80 else set())

    @property
    def cookie(self) -> str:
        """The name of its cookie: cookies are shared by all ports of a host."""
        return f"triton-env-{self.port}"

    @property
    def url(self) -> str:
        """Where the page is, with the token."""
        return f"http://127.0.0.1:{self.port}/?token={self.token}"


class Guard:
    """Lets requests through to an application, or refuses them; and adds the headers of every answer.

    Args:
        app: what is guarded.
        key: what opens it.
    """

    def __init__(self, app: ASGIApp, key: Key) -> None:
        self._app = app
        self._key = key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # the server's own; nothing here speaks WebSocket, and the server is not to either
            await self._app(scope, receive, send)
            return
        answer: ASGIApp = self._app
        if problem := self._problem(scope["method"], Headers(scope=scope), scope["query_string"]):
            words, status = problem
            answer = (
                answers.failure(UsageError(words), status)
                if scope["path"].startswith("/api/")
                else PlainTextResponse(f"{words}\n", status)
            )
        await answer(scope, receive, self._with_headers(send))

    def _problem(self, method: str, headers: Headers, query: bytes) -> tuple[str, int] | None:
        """Why a request is refused, with the status; None where it is not."""
        hosts = self._key.hosts
        if headers.getlist("host") not in [[host] for host in hosts]:
            return "This name does not lead to this dashboard: use 127.0.0.1 or localhost.", 403
        origins = {f"http://{host}" for host in hosts}
        if not origins.issuperset(headers.getlist("origin")):
            return "Other sites may not use this dashboard.", 403
        is_change = method not in _READS
        if is_change and headers.get("sec-fetch-site", "same-origin") != "same-origin":
            return "Other sites may not use this dashboard.", 403
        if not any(hmac.compare_digest(each, self._key.token.encode()) for each in self._tokens(headers, query)):
            return "The token is missing or wrong: open the URL that `python -m triton_env dashboard` prints.", 403
        if is_change and headers.get(OURS) != "1":
            return f"A change needs the header {OURS}: 1.", 403
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()) or "transfer-encoding" in headers:
            return "The length of the body has to be given.", 411
        return ("The body is too large.", 413) if int(length) > _LARGEST else None

    def _tokens(self, headers: Headers, query: bytes) -> list[bytes]:
        found = parse_qs(query.decode("latin-1")).get("token", [])
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            found.append(bearer.strip())
        # Other servers of this machine set cookies too, and not all of them are as they should be.
        cookies = cookie_parser(headers.get("cookie", ""))
        found.append(cookies.get(self._key.cookie, ""))
        return [each.encode("utf-8", "replace") for each in found]

    @staticmethod
    def _with_headers(send: Send) -> Send:
        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        return sent
