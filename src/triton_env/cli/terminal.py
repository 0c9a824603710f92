"""A terminal that a program has for itself: keys as they are pressed, and a screen that is given back as it was."""

import codecs
import os
import re
import select
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

_NAMES = {
    "\x1b[A": "up",
    "\x1b[B": "down",
    "\x1b[5~": "page up",
    "\x1b[6~": "page down",
    "\x1b[H": "home",
    "\x1b[1~": "home",
    "\x1b[F": "end",
    "\x1b[4~": "end",
    "\x1b": "escape",
    "\r": "enter",
    "\n": "enter",
    "\x7f": "backspace",
    "\x08": "backspace",
}
"""Keys by what terminals send for them; all others are the character itself."""
_KEY = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1bO.|.", re.DOTALL)
_REST = 0.05
"""Seconds in which the rest of a key comes whose first character is an escape; else that was the key."""


class Screen:
    """The whole terminal, as long as it is open; see `full_screen`."""

    def __init__(self, live: "Live") -> None:
        self._live = live
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode

    def show(self, content: "RenderableType") -> None:
        """Have the screen show this, and nothing else."""
        self._live.update(content, refresh=True)

    def keys(self, seconds: float) -> list[str]:
        """The keys that were pressed, waited for so long: characters, or names such as "up" and "enter".

        Raises:
            EOFError: the terminal is gone.
        """
        text = self._read(seconds)
        while text.endswith(("\x1b", "\x1b[", "\x1bO")) and (more := self._read(_REST)):
            text += more
        return [_name(key) for key in _KEY.findall(text)]

    def _read(self, seconds: float) -> str:
        source = sys.stdin.fileno()
        if not select.select([source], [], [], seconds)[0]:
            return ""
        try:
            data = os.read(source, 4096)
        except OSError as error:
            raise EOFError from error
        if not data:
            raise EOFError
        return self._decode(data)


@contextmanager
def full_screen(console: "Console") -> Iterator[Screen]:
    """Have the terminal for this program alone. However the block ends, it is as it was before.

    Keys come as they are pressed, and are not shown. Ctrl-C is a signal, as ever.
    """
    from rich.live import Live

    source = sys.stdin.fileno()
    before = termios.tcgetattr(source)
    try:
        tty.setcbreak(source)
        mode = termios.tcgetattr(source)
        for key in (termios.VSUSP, termios.VQUIT):  # which would leave the terminal as it is now
            mode[6][key] = b"\x00"
        termios.tcsetattr(source, termios.TCSADRAIN, mode)
        with Live(
            console=console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
        ) as live:
            yield Screen(live)
    finally:
        with suppress(termios.error, OSError):  # it is gone
            # What was typed before that is not a command for the shell.
            termios.tcsetattr(source, termios.TCSAFLUSH, before)


def _name(key: str) -> str:
    # Some terminals send arrows in the form of another mode.
    return _NAMES.get(key.replace("\x1bO", "\x1b[", 1), key if len(key) == 1 and key.isprintable() else "")
