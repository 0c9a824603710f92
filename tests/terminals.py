"""A program on a terminal of its own: what its screen shows, and keys that a person presses."""

import codecs
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.cells import cell_len

import forkserver
from patience import WAIT, until

_PROGRAM = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from triton_env.__main__ import main
sys.argv[1:] = {arguments!r}
main()
"""
ECHO_AND_LINES = termios.ECHO | termios.ICANON
"""What a terminal has where keys are shown and come line by line."""
_HOME = "\x1b[H"
_STYLE = re.compile(r"\x1b\[[0-9;]*m")


class Terminal:
    """A terminal and the program on it.

    Args:
        master: the side of a person.
    """

    def __init__(self, process: "subprocess.Popen[bytes] | forkserver.Forked", master: int, slave: int) -> None:
        self.process = process
        self.seen = ""
        self._master, self._slave = master, slave
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        self._is_closed = False
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def screen(self) -> str:
        """What a program that draws whole screens has drawn last."""
        return _STYLE.sub("", self.seen.rpartition(_HOME)[2]).replace("\r", "")

    def size_shown(self) -> tuple[int, int]:
        """How many lines of how many columns a program has drawn last."""
        lines = self.screen.split("\n")
        return len(lines), max(map(cell_len, lines))

    def shows(self, *words: str) -> bool:
        """Whether all of these words come to be on the screen."""
        return until(lambda: all(each in self.screen for each in words))

    def press(self, keys: str) -> None:
        """Type something."""
        os.write(self._master, keys.encode())

    def resize(self, rows: int, columns: int) -> None:
        """Give the terminal another size."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def mode(self) -> list[object]:
        """How the terminal treats keys at present."""
        return termios.tcgetattr(self._slave)

    def wait(self) -> int:
        """Wait for the end of the program; its exit status."""
        status = self.process.wait(WAIT)
        # What it wrote last is there by then.
        until(lambda: not select.select([self._master], [], [], 0)[0])
        return status

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(WAIT)
        self._is_closed = True
        self._reader.join(WAIT)
        os.close(self._master)
        os.close(self._slave)

    def _read(self) -> None:
        while not self._is_closed:
            if select.select([self._master], [], [], 0.05)[0]:
                self.seen += self._decode(os.read(self._master, 65536))


@contextmanager
def command_line(
    arguments: Sequence[str], variables: Mapping[str, str], folder: Path, *, rows: int = 24, columns: int = 120
) -> Iterator[Terminal]:
    """The command line of triton-env on a terminal."""
    master, slave = pty.openpty()
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    without = {name: value for name, value in variables.items() if name not in ("COLUMNS", "LINES")}
    process = forkserver.Popen(
        [sys.executable, "-c", _PROGRAM.format(arguments=list(arguments))],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=folder,
        env=without | {"TERM": "xterm-256color"},
        start_new_session=True,
    )
    terminal = Terminal(process, master, slave)
    try:
        yield terminal
    finally:
        terminal.close()
