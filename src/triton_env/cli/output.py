"""Words for people, on standard error."""

import os
import select
import sys
from typing import Any

import click

from triton_env.core.commands import runnable, wrapped
from triton_env.core.printable import coloured, one_line, printable
from triton_env.errors import TritonError

GONE = select.POLLERR | select.POLLHUP
"""What `poll` reports of a stream that has lost its other end."""
_WIDTH = 200
"""Longest message of an unexpected exception."""


def say(text: str, **style: Any) -> None:
    """Print `text` on standard error, with its commands as they work in any shell. `style` is that of `click.style`.

    A standard error that is gone (a closed terminal, a pipe without reader) is not an error: the caller
    may be about to remove containers.
    """
    try:
        click.echo(styled(runnable(text), **style), err=True, color=None if colors_on(sys.stderr) else False)
    except (OSError, ValueError):
        return


def say_notice(text: str) -> None:
    """Print a warning, which is one line."""
    words, columns = runnable(one_line(text)), columns_of(sys.stderr)
    folded = "\n".join(wrapped(words, columns - len("warning: "))) if columns else words
    say(f"{styled('warning:', fg='yellow', bold=True)} {folded}")


def say_error(error: TritonError) -> None:
    """Print an error with its cause and hint, and what was added to it (a failed cleanup)."""
    if debug_mode():
        _say_traceback(error)
        return
    columns = columns_of(sys.stderr)
    _say_with_hint(error.shown(columns - len("  where: ")) if columns else str(error))
    _say_notes(error)


def say_unexpected(error: Exception) -> None:
    """Print one short message about a mistake of ours."""
    if debug_mode():
        _say_traceback(error)
        return
    message = " ".join(f"{type(error).__name__}: {error}".split())
    short = message if len(message) <= _WIDTH else message[: _WIDTH - 1] + "…"
    _say_with_hint(f"This should not have happened: {short}\n\nhint: DEBUG_MODE=true shows the traceback")


def say_interrupted(by: str, interruption: BaseException, words: str = "What was started is removed.") -> None:
    """Print that a command was interrupted, with words about what is the case now or what went wrong in the cleanup."""
    clean = not getattr(interruption, "__notes__", ())
    say(f"\nInterrupted by {by}.{f' {words}' if clean and words else ''}")
    _say_notes(interruption)


def print_data(text: str, *, nl: bool = True, colours: bool | None = None) -> None:
    """Print names or lines of a server on standard output: as they are for a program, made safe for a terminal."""
    click.echo(coloured(text) if sys.stdout.isatty() else text, nl=nl, color=colours)


def open_streams() -> None:
    """Have standard streams that were closed (`>&-`) lead nowhere.

    What is opened next would get their numbers, and what is printed would go there.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # It gets the lowest number that is free, which is that of the stream.
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


def stop_printing() -> None:
    """Have standard output go nowhere, since its reader has closed it (`| head`).

    What is still in its buffer would fail once more at the end of the interpreter.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def reader_is_gone() -> bool:
    """Whether what reads standard output has closed it."""
    try:
        looked = select.poll()
        looked.register(sys.stdout.fileno(), 0)
        return any(events & GONE for _, events in looked.poll(0))
    except (OSError, ValueError):  # it is not a file of the system's
        return False


def styled(text: str, **style: Any) -> str:
    """`text` with ANSI styles, which `click.echo` strips where there is no terminal."""
    return click.style(text, **style) if style else text


def marks(stream: Any) -> dict[str, str]:
    """Signs for the verdicts and for a hint, which `stream` can encode."""
    unicode = "utf" in str(getattr(stream, "encoding", "") or "").lower()
    signs = "✓·!✗→" if unicode else "+-!x>"
    return dict(zip(("good", "note", "warning", "bad", "hint"), signs, strict=True))


def colors_on(stream: Any) -> bool:
    """Whether styles may stay in what goes to `stream`; https://no-color.org asks to leave them out."""
    if not stream.isatty():
        return False
    from triton_env.settings import process_environment

    return not process_environment().get("NO_COLOR")


def debug_mode() -> bool:
    """Whether DEBUG_MODE is on. Settings that cannot be read count as off: they are the error to be shown."""
    from triton_env.settings import Settings

    try:
        return Settings().debug_mode
    except TritonError:
        return False


def _say_traceback(error: Exception) -> None:
    import traceback

    traceback.print_exception(error, file=sys.stderr)


def columns_of(stream: Any) -> int | None:
    """The width of the terminal that `stream` is; None where it is none."""
    if not stream.isatty():
        return None
    import shutil

    return max(shutil.get_terminal_size().columns, 20)


def _say_notes(error: BaseException) -> None:
    for note in getattr(error, "__notes__", ()):
        _say_with_hint(note)


def _say_with_hint(text: str) -> None:
    body, separator, hint = printable(text).partition("\nhint: ")
    say(f"{styled('error:', fg='red', bold=True)} {body}")
    if separator:
        say(f"{styled('hint:', fg='cyan', bold=True)} {hint}")
