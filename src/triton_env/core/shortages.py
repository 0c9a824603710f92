"""Shortages: what the system reports when a process, its user or the machine has run out of something.

That comes up wherever something was needed last: in a socket, a fork, a log file, an import, or in the log of a server.
Nothing of that place helps, so one error names what has run out, and `limits` its limit.
"""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from triton_env.core import limits
from triton_env.errors import (
    EngineFailed,
    InvalidSetting,
    IsolationFailed,
    ResourceExhausted,
    RuntimeUnavailable,
    StartCancelled,
    StartFailed,
    TemplateFailed,
    TritonError,
)

_WORDS = tuple(
    (re.compile(words), number)
    for words, number in (
        (r"can't start new thread|pthread_create|no free thread|failed to start the thread", errno.EAGAIN),
        (r"(fork|thread|Background Jobs|system_error)[^\n]*: Resource temporarily unavailable", errno.EAGAIN),
        (r"Too many open files in system", errno.ENFILE),
        (r"Too many open files|insufficient file descriptors|'ulimit -n' of \d+ is not enough", errno.EMFILE),
        (r"No space left on device|Check free disk space", errno.ENOSPC),
        (r"Disk quota exceeded", errno.EDQUOT),
        (r"Read-only file system", errno.EROFS),
        (r"File too large", errno.EFBIG),
        (r"Cannot allocate memory|MemoryError", errno.ENOMEM),
    )
)
"""How the system, the servers, libpq and Python report them. EAGAIN stands for threads and processes."""
_GENERAL = (StartFailed, RuntimeUnavailable, IsolationFailed, EngineFailed, InvalidSetting)
"""What is raised with a shortage as its cause by code that does not look for one."""
_SPECIAL = (StartCancelled, TemplateFailed)
"""Of these the words say more than a shortage would."""


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Have what fails in the block for a shortage fail with `ResourceExhausted`. Any other error stays as it is.

    Args:
        what: what could not be done then, as a sentence.
    """
    try:
        yield
    except Exception as error:
        if found := exhausted(error, what):
            raise found from error
        raise


def exhausted(error: BaseException, what: str) -> ResourceExhausted | None:
    """The error for the shortage that is behind another error; None where there is none.

    Args:
        what: what could not be done, as a sentence; an error of ours says it better.
    """
    found = _found(error)
    if found is None:
        return None
    cause, number, place = found
    log = ""
    if isinstance(error, TritonError):
        what, log = error.what, error.log_tail
    made = _made(what, number, place, str(cause) or type(cause).__name__, log)
    made.__cause__ = error
    return made


def is_behind(error: BaseException) -> bool:
    """Whether a shortage is behind an error."""
    return _found(error) is not None


def of_number(number: int | None, what: str, cause: str, place: str) -> ResourceExhausted | None:
    """The error for the shortage that a number of `errno` stands for; None where it stands for something else.

    Args:
        what: what could not be done, as a sentence.
        cause: the system's error message.
        place: the file or folder that is concerned.
    """
    return _made(what, number, place, cause) if number and limits.is_known(number) else None


def in_log(what: str, cause: str, log: str, place: str) -> ResourceExhausted | None:
    """The error for the shortage that a server has met; None where it reports none.

    Args:
        what: what could not be done, as a sentence.
        cause: how the server ended.
        log: what it wrote last.
        place: the folder of this machine in which it writes; empty where that is not known.
    """
    number = _number_in(f"{cause}\n{log}")
    return _made(what, number, place, cause, log) if number else None


def no_port(bind: str, error: OSError) -> ResourceExhausted:
    """The error where no port is free at an address."""
    found = limits.no_port(bind)
    return ResourceExhausted(
        f"No port can be chosen for a server: {found.what}.", where=found.where, cause=str(error), hint=found.hint
    )


def _made(what: str, number: int, place: str, cause: str, log: str = "") -> ResourceExhausted:
    found = limits.shortage(number, place)
    return ResourceExhausted(
        f"{what.rstrip('.')}: {found.what}.", where=found.where, cause=cause, log_tail=log, hint=found.hint
    )


def _found(error: BaseException) -> tuple[BaseException, int, str] | None:
    """The error of the system behind another one, its number, and the file that it names."""
    ours = isinstance(error, TritonError)
    if isinstance(error, _SPECIAL) or (ours and not isinstance(error, _GENERAL)):
        return None
    for each in _behind(error, contexts=not ours):
        if number := _number_of(each):
            name = getattr(each, "filename", None)
            # It is a number where a descriptor was used. Without a descriptor, the file does not matter.
            is_path = isinstance(name, (str, os.PathLike)) and number not in (errno.EMFILE, errno.ENFILE)
            return each, number, str(name) if is_path else ""
    return None


def _number_of(error: BaseException) -> int | None:
    if isinstance(error, MemoryError):
        return errno.ENOMEM
    if isinstance(error, OSError) and error.errno is not None:
        if error.errno == errno.EAGAIN and not _is_by_fork(error):
            return None
        return error.errno if limits.is_known(error.errno) else None
    return None if isinstance(error, TritonError) else _number_in(str(error))


def _number_in(words: str) -> int | None:
    return next((number for pattern, number in _WORDS if pattern.search(words)), None)


def _is_by_fork(error: BaseException) -> bool:
    """Whether it comes from the module that starts processes. Locks and sockets fail with EAGAIN too."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and os.path.basename(trace.tb_frame.f_code.co_filename) == "subprocess.py"


def _behind(error: BaseException, *, contexts: bool) -> Iterator[BaseException]:
    """An error and those that it comes from, with `contexts` also those during whose handling it was raised."""
    waiting, seen = [error], set()
    while waiting:
        each = waiting.pop(0)
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        if isinstance(each, BaseExceptionGroup):
            waiting += each.exceptions
        if each.__cause__ is not None:
            waiting.append(each.__cause__)
        elif contexts and each.__context__ is not None and not each.__suppress_context__:
            waiting.append(each.__context__)
