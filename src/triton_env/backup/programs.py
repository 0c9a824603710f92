"""Programs that run beside a server, such as pg_dump: their output to a stream, a stream to their input."""

import subprocess
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress

from triton_env.backup.sealing import CHUNK
from triton_env.model import Program

_LINES = 12
_PATIENCE = 10
"""Seconds that a program gets to end after it was told to."""


class ProgramFailed(Exception):
    """A program ended with an error; what it said last is the message."""


def output(program: Program) -> Generator[bytes, None, None]:
    """Run a program and yield what it prints, in pieces. Closing the generator ends the program.

    Raises:
        ProgramFailed: it could not be run, or ended with an error.
    """
    with _running(program, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as (process, finish):
        assert process.stdout is not None
        while data := process.stdout.read(CHUNK):
            yield data
        finish()


def feed(program: Program, source: Iterable[bytes], on_bytes: Callable[[int], None] = lambda count: None) -> None:
    """Run a program with `source` as its standard input, piece by piece.

    Args:
        program: what to run.
        source: what it reads, in pieces.
        on_bytes: told how many bytes it was just given.

    Raises:
        ProgramFailed: it could not be run, or ended with an error.
    """
    with _running(program, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as (process, finish):
        assert process.stdin is not None
        # A program that fails stops reading; why it did is what it says, not the broken pipe.
        with suppress(BrokenPipeError):
            for data in source:
                process.stdin.write(data)
                on_bytes(len(data))
            process.stdin.close()
        finish()


@contextmanager
def _running(
    program: Program, *, stdin: int, stdout: int
) -> Iterator[tuple["subprocess.Popen[bytes]", Callable[[], None]]]:
    """Run a program; also yields what waits for its end and raises `ProgramFailed` where that is no good one."""
    try:
        process = subprocess.Popen(  # noqa: S603 - a command line of ours
            program.argv,
            env=dict(program.environment),
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
            # Ctrl-C is for this process alone, which then ends the program.
            start_new_session=True,
        )
    except OSError as error:
        raise ProgramFailed(f"{program.argv[0]}: {error.strerror or error}") from error
    said: deque[str] = deque(maxlen=_LINES)
    listener = threading.Thread(target=_listen, args=(process, said), daemon=True)
    listener.start()

    def finish() -> None:
        status = process.wait()
        listener.join(_PATIENCE)
        if status != 0:
            raise ProgramFailed("\n".join(said) or f"exit status {status}")

    try:
        yield process, finish
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        listener.join(_PATIENCE)
        for stream in (process.stdin, process.stdout, process.stderr):
            with suppress(OSError):
                if stream is not None:
                    stream.close()


def _listen(process: "subprocess.Popen[bytes]", said: deque[str]) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        said.append(line.decode(errors="replace").rstrip())
