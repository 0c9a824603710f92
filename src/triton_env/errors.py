"""Every error that triton-env raises on purpose.

TritonError
├── UsageError                  wrong use: correct the call or the configuration
│   ├── InvalidSetting          a variable or argument has a value that cannot be used
│   ├── LocalStackTokenRequired a LocalStack image that refuses to start without a token
│   ├── UnknownService          a service name that does not exist
│   ├── UnknownRuntime          a runtime name that does not exist
│   ├── ServiceNotSelected      this environment was started without that service
│   ├── NoSharedNetwork         addresses for other containers, on a runtime that has none
│   ├── NotOffered              a service does not offer what was asked of it, such as a backup
│   └── NotStarted              the environment is not running
├── RuntimeUnavailable          the runtime that was asked for cannot run here
│   ├── EngineUnreachable       no Docker engine answers
│   ├── EnginePermissionDenied  the engine's socket may not be used by this user
│   ├── EngineTooOld            the engine lacks what is needed
│   ├── ClusterUnreachable      no Kubernetes cluster answers, or it does not know this user
│   └── ComposeUnavailable      persistent services need Docker Compose, which is not here or too old
├── ExtraMissing                packages of an extra are not installed, such as those of the dashboard
├── ImageUnavailable            an image is neither on the engine nor to be pulled
├── VolumeMismatch              data of an earlier start was made with other settings or another version
├── PortTaken                   a port that was asked for is in use
├── ProjectTaken                persistent services of that name belong to another checkout or program
├── EngineFailed                the engine refused a request or failed during it
├── ClusterFailed               the Kubernetes cluster refused a request or failed during it
├── ComposeFailed               Docker Compose could not do what it was asked to
├── StartFailed                 a service did not come up
│   ├── ServiceExited           its container or process ended during the start
│   ├── ServiceNotReady         it never answered a client within its timeout, or refused it
│   ├── ServiceUnusable         an external server does not answer, or refused the client
│   ├── StartCancelled          the start was cancelled (Ctrl-C, stop(), another service failed)
│   └── KeeperEnded             the process that keeps a shared environment ended while it started
├── ServiceDied                 a server that was ready has ended, or was ended, or is paused
├── ResourceExhausted           files, threads, memory, disk space or ports ran out; the message says which and where
├── IsolationFailed             a namespace could not be made, reset or removed
│   ├── SnapshotFailed          a snapshot was not taken or not restored
│   └── TemplateFailed          a template could not be built; nothing of it is left
├── BackupFailed                a backup was not made; nothing of it is left
├── RestoreFailed               a backup cannot be used, or was not restored; the message says what was changed
│   └── RestoreUnfinished       an earlier restore was interrupted, and could not be finished or taken back yet
├── QueryFailed                 a server did not do what a cell of a notebook or a panel asked of it
└── CleanupFailed               something of ours may be left behind

A message says what went wrong, where, the last cause and the last log lines, then a hint with a command
to run. Exceptions of libraries are kept as `__cause__` and never have to be caught by users.
"""

import re
import sys
import sysconfig
import textwrap
import traceback
from collections.abc import Sequence
from pathlib import Path

from triton_env.core.commands import runnable, wrapped
from triton_env.core.printable import printable

_RED, _PLAIN = "\x1b[31m", "\x1b[39m"
_WIDTH = 110
_LONGEST = 500
"""What is longer without a space is neither a path nor a command, and would take up the screen."""
_HEIGHT = 24
_LOG_LINES = 12
_COLOURS = re.compile(r"\x1b\[[0-9;]*m|\r")
"""Of servers that think they write to a terminal."""


def _readable(line: str) -> str:
    return printable(_COLOURS.sub("", line))


def _tail(text: str, lines: int) -> list[str]:
    """The last `lines` non-empty lines of `text`, each cut to the width of a screen."""
    readable = (_readable(line).expandtabs(4).rstrip() for line in text.splitlines())
    kept = [line for line in readable if line][-lines:]
    return [line if len(line) <= _WIDTH else line[: _WIDTH - 1] + "…" for line in kept]


def _head(text: str, lines: int, width: int) -> list[str]:
    """The first `lines` lines of `text`, folded to the width of a screen; paths and commands stay whole."""
    # What servers say may be long, and not all of it is looked at. The end is far behind what is shown: no path is cut.
    started = [_readable(line[: _LONGEST * (lines + 1)]) for line in text.splitlines()[: lines + 1]]
    shown = [part for line in started for part in (_broken if _is_huge(line) else wrapped)(line, width) if part]
    return shown if len(shown) <= lines else [*shown[: lines - 1], "…"]


def _is_huge(line: str) -> bool:
    return any(len(word) > _LONGEST for word in line.split())


def _broken(line: str, width: int) -> list[str]:
    return textwrap.wrap(line, width, break_on_hyphens=False)


class TritonError(Exception):
    """Base of all errors of triton-env.

    Args:
        what: what went wrong, in one sentence.
        where: the service, container, file or address that is concerned.
        cause: the underlying error message; its last three lines are shown.
        log_tail: the last lines that the service wrote; twelve are shown, or as many as a screen of 24 lines leaves.
        hint: what to do next, best with a command.
    """

    exit_code = 1
    """Exit status of the command line for this error."""

    def __init__(
        self,
        what: str,
        *,
        where: str = "",
        cause: str = "",
        log_tail: str = "",
        hint: str = "",
    ) -> None:
        self.what = what
        self.where = where
        self.cause = cause
        self.log_tail = log_tail
        self.hint = hint
        super().__init__(what)

    def __str__(self) -> str:
        return self.shown(_WIDTH)

    def shown(self, width: int) -> str:
        """The message, with so many columns behind its labels, or as many as most screens have."""
        width = min(width, _WIDTH)
        lines = _head(self.what, 6, width)
        lines += _labelled("  where: ", _head(self.where, 4, width))
        lines += _labelled("  cause: ", _tail(self.cause, 3))
        hint = wrapped(printable(runnable(self.hint)), width) if self.hint else []
        hint = ["", *_labelled("hint: ", hint)] if hint else []
        log = _tail(self.log_tail, min(_LOG_LINES, _HEIGHT - 1 - len(lines) - len(hint)))
        if log:
            lines += ["  last log lines:", *(f"    {line}" for line in log)]
        return "\n".join(lines + hint)

    def _render_traceback_(self) -> list[str]:
        """What IPython shows instead of a traceback, of which nearly all is ours.

        https://ipython.readthedocs.io/en/stable/config/integrating.html#custom-exception-tracebacks
        """
        first, *rest = str(self).splitlines()
        place = _place_in_users_code(self)
        notes = [line for note in getattr(self, "__notes__", ()) for line in ("", *printable(note).splitlines())]
        return [f"{_RED}{type(self).__name__}{_PLAIN}: {first}", *_labelled("  at: ", place), *rest, *notes]


def _place_in_users_code(error: BaseException) -> list[str]:
    """The last line of the user's that led to an error, and where it is; nothing where it was a magic such as %%sql."""
    installed = (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))
    others = (*installed, str(Path(__file__).parent))
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith(others):
            line = printable(frame.line or "")
            where = Path(frame.filename).name if Path(frame.filename).exists() else "the cell"
            return [] if line.startswith("get_ipython().") else [f"line {frame.lineno} of {where}: {line}".rstrip(": ")]
    return []


def _labelled(label: str, lines: list[str]) -> list[str]:
    return [(" " * len(label) if number else label) + line for number, line in enumerate(lines)]


class UsageError(TritonError):
    """Wrong use: the call or the configuration has to be corrected."""

    exit_code = 2


class InvalidSetting(UsageError):
    """A variable or argument has a value that cannot be used."""


class UnknownService(UsageError):
    """A service name that does not exist."""

    def __init__(self, name: object, known: Sequence[str]) -> None:
        super().__init__(
            f"There is no service {name!r}.",
            hint=f"choose from {', '.join(known)}, for example services=({known[0]!r},)",
        )


class UnknownRuntime(UsageError):
    """A runtime name that does not exist."""

    def __init__(self, name: object, known: Sequence[str]) -> None:
        super().__init__(
            f"There is no runtime {name!r}.",
            hint=f"set TRITON_RUNTIME or runtime= to one of {', '.join(known)}",
        )


class ServiceNotSelected(UsageError):
    """This environment was started without that service."""

    def __init__(self, name: str, selected: Sequence[str]) -> None:
        super().__init__(
            f"The service {name!r} is not part of this environment, which has {', '.join(selected)}.",
            hint=f"TritonEnvironment(services={(*selected, name)!r})",
        )


class NoSharedNetwork(UsageError):
    """Addresses for other containers, on a runtime that has none."""

    def __init__(self, title: str) -> None:
        super().__init__(
            f"{title} has no address on a shared network: this runtime has no such network.",
            hint="use environ() without internal=True on this machine, or set TRITON_RUNTIME=docker",
        )


class NotOffered(UsageError):
    """A service does not offer what was asked of it, such as a backup."""


class NotStarted(UsageError):
    """The environment is not running."""

    def __init__(self, state: str) -> None:
        super().__init__(
            f"The environment is {state}, so its services cannot be used.",
            hint="use `with TritonEnvironment() as env:` or call env.start() first",
        )


class RuntimeUnavailable(TritonError):
    """The runtime that was asked for cannot run here."""


class EngineUnreachable(RuntimeUnavailable):
    """No Docker engine answers."""


class EnginePermissionDenied(RuntimeUnavailable):
    """The engine's socket may not be used by this user."""


class EngineTooOld(RuntimeUnavailable):
    """The engine lacks what is needed."""


class ClusterUnreachable(RuntimeUnavailable):
    """No Kubernetes cluster answers, or it does not know this user."""


class ComposeUnavailable(RuntimeUnavailable):
    """Persistent services need Docker Compose, which is not here or too old."""


class ExtraMissing(TritonError):
    """What was asked for needs packages that are not installed.

    Args:
        what: what cannot be done without them, in one sentence.
        extra: the extra of triton-env that brings them.
        missing: their names.
    """

    def __init__(self, what: str, extra: str, missing: Sequence[str]) -> None:
        super().__init__(
            what,
            where=sys.executable,
            cause=f"not installed: {', '.join(missing)}",
            hint=f'pip install "triton-env[{extra}]"',
        )


class ProjectTaken(TritonError):
    """Persistent services of that name belong to another checkout or to another program."""


class ImageUnavailable(TritonError):
    """An image is neither on the engine nor to be pulled."""


class VolumeMismatch(TritonError):
    """Data of an earlier start was made with other settings or another version; nothing has touched it."""


class LocalStackTokenRequired(UsageError):
    """A LocalStack image that refuses to start without a token."""


class PortTaken(TritonError):
    """A port that was asked for is in use."""


class EngineFailed(TritonError):
    """The engine refused a request or failed during it."""


class ClusterFailed(TritonError):
    """The Kubernetes cluster refused a request or failed during it."""


class ComposeFailed(TritonError):
    """Docker Compose could not do what it was asked to."""


class StartFailed(TritonError):
    """A service did not come up."""


class ServiceExited(StartFailed):
    """The service's container or process ended during the start."""


class ServiceNotReady(StartFailed):
    """The service never answered a client within its timeout, or refused it."""


class ServiceUnusable(StartFailed):
    """An external server does not answer, or refused the client."""


class StartCancelled(StartFailed):
    """The start was cancelled: by Ctrl-C, by stop(), or because another service failed."""


class KeeperEnded(StartFailed):
    """The process that keeps a shared environment ended while it started it."""


class ServiceDied(TritonError):
    """A server that was ready has ended, was ended by another program, or is held up so that it answers nothing.

    Attributes:
        service: the service's name.
        lives: whether it is only held up: it is paused, or stopped by a signal, and the hint is how to have it go on.
        status: the exit status, negative for a signal; None where it is not known.
        at: when, in seconds since the epoch; None where that is not known.
    """

    service: str = ""
    lives: bool = False
    status: int | None = None
    at: float | None = None

    def beside(self, error: Exception) -> "ServiceDied":
        """The same error as one that is caught as the driver's error too: programs may expect that one."""
        about = {"__module__": "triton_env", "__doc__": self.__doc__}
        both: type[ServiceDied] = type(ServiceDied.__name__, (ServiceDied, type(error)), about)
        # Not by their constructors, of which each wants something else.
        made = both.__new__(both, self.what)
        made.__dict__.update(error.__dict__ | self.__dict__)
        return made


class ResourceExhausted(TritonError):
    """This process, its user or this machine has run out of something; the message says what, where and the limit."""


class IsolationFailed(TritonError):
    """A namespace could not be made, reset or removed."""


class SnapshotFailed(IsolationFailed):
    """A snapshot was not taken or not restored."""


class TemplateFailed(IsolationFailed):
    """A template could not be built; nothing of it is left."""


class BackupFailed(TritonError):
    """A backup was not made; nothing of it is left."""


class RestoreFailed(TritonError):
    """A backup cannot be used, or was not restored; the message says what was changed, if anything was."""


class RestoreUnfinished(RestoreFailed):
    """A restore that was interrupted could not be finished or taken back; its journal stays, and the hint says how."""


class QueryFailed(TritonError):
    """A server did not do what a cell of a notebook or a panel asked of it."""


class CleanupFailed(TritonError):
    """Something of ours may be left behind; the message says what and how to remove it."""
