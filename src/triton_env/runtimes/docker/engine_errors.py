"""What goes wrong with a Docker engine, in our words. The SDK is not loaded for it."""

import json
import re
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar

from triton_env.errors import EngineFailed, EngineUnreachable, TritonError
from triton_env.runtimes.docker.engine_socket import Refusal, Unanswered

QUESTION_TIMEOUT = 30
"""Seconds within which an engine has to answer a question, such as what a container does. Orders take longer."""
SILENT_TIMEOUT = 5
"""Seconds within which an engine has to answer that has just not answered in time: many requests in a row are not each
waited for as long."""

_REQUEST = re.compile(r'\w+ "(?P<address>[^"]+)": (?:.*: )?(?P<cause>[^:]+)')
_doing: ContextVar[tuple[str, str]] = ContextVar("_doing", default=("", ""))
"""What the engine is asked for at present, for errors: completes "asked to"; and where."""


@contextmanager
def asked_to(doing: str, where: str) -> Iterator[None]:
    """What is asked of the engine in the block, for the errors of its requests. Inner blocks say it better."""
    token = _doing.set((doing, where))
    try:
        yield
    finally:
        _doing.reset(token)


def asked() -> tuple[str, str]:
    """What the engine is asked to at present, and where; empty where that is not known."""
    return _doing.get()


def failure(error: BaseException, doing: str, where: str) -> TritonError:
    """What an engine or the SDK failed with, in our words. `doing` completes "The engine failed to"."""
    # The SDK wraps what it meets while it is set up.
    if any(isinstance(each, _silent()) for each in chain(error)):
        return EngineUnreachable(
            f"The Docker engine stopped answering while it was asked to {doing}.",
            where=where,
            cause=innermost(error),
            hint="docker info",
        )
    cause = explanation(error)
    return EngineFailed(f"The Docker engine failed to {doing}.", where=where, cause=cause, hint=_hint_for(cause))


def foreign(*besides: type[Exception]) -> tuple[type[Exception], ...]:
    """What is raised for an engine by others: the socket, readers of archives, and the SDK if it is loaded."""
    found: tuple[type[Exception], ...] = (OSError, Refusal, Unanswered, tarfile.TarError, *besides)
    if "docker" not in sys.modules:
        return found
    import urllib3
    from docker.errors import DockerException

    # Those of requests are of OSError.
    return (*found, DockerException, urllib3.exceptions.HTTPError)


def failures(*besides: type[Exception]) -> tuple[type[Exception], ...]:
    """What a request to the engine may end with."""
    return (EngineUnreachable, EngineFailed, *foreign(*besides))


def _silent() -> tuple[type[Exception], ...]:
    """Of these, what means that no answer came, or half of one."""
    if "docker" not in sys.modules:
        return (Unanswered,)
    import requests
    import urllib3

    cut_off = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
    return (Unanswered, *cut_off, urllib3.exceptions.HTTPError)


def explanation(error: BaseException) -> str:
    """What the engine said, without the SDK's wrapping."""
    if isinstance(error, TritonError):
        return error.cause or error.what
    if isinstance(error, Refusal):
        return str(error)
    # What the SDK raises is among those of its exceptions that are loaded.
    if isinstance(error, foreign()) and (words := getattr(error, "explanation", None)):
        text = str(words)
        with suppress(ValueError, KeyError, TypeError):
            text = str(json.loads(text)["message"])
        return text.strip()
    return innermost(error)


def without_the_way(words: str) -> str:
    """What an engine says of a request, as the address and the first cause: Go lists all that lies between."""
    if request := _REQUEST.fullmatch(words):
        return f"{request['address']}: {request['cause']}"
    return words


def innermost(error: BaseException) -> str:
    """The words of the first cause in a chain of exceptions."""
    for nested in chain(error):
        error = nested
    return str(error) or type(error).__name__


def chain(error: BaseException) -> Iterator[BaseException]:
    """An exception and what lies under it: its causes, and those that urllib3 and requests keep as arguments."""
    seen: set[int] = set()
    following: list[BaseException] = [error]
    while following:
        current = following.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        # What was being handled is of interest only where nothing was named as the cause.
        below = current.__cause__ or current.__context__
        following += [below] if below is not None else []
        following += [nested for nested in current.args if isinstance(nested, BaseException)]


def _hint_for(cause: str) -> str:
    if "address pool" in cause or "non-overlapping" in cause:
        return "the engine has no room for another network; list those in use with: docker network ls"
    if "no space left" in cause:
        return "docker system df"
    if "cannot assign requested address" in cause:
        return "set TRITON_BIND_ADDRESS to an address that the engine's machine has; 0.0.0.0 means all of them"
    return "docker info"
