"""Programs that run beside a server, such as pg_dump: their output to a stream, a stream to their input.

`docker exec` reports success where its connection breaks off: the engine then has no exit status yet, which it takes
for 0. So a program in a container is followed by a mark on its standard output, and without it has not succeeded.
"""

import subprocess
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from secrets import token_hex

from triton_env.archive.sealing import CHUNK
from triton_env.core.model import Program
from triton_env.services.base_backup import ProgramFailed

_LINES = 12
_MARK_BYTES = 32
_PATIENCE = 10
"""Seconds that a program gets to end after it was asked to."""


class ServicePrograms:
    """The programs of one service; see `Programs`.

    Args:
        of: how to run one of them, as `RunningEnvironment.program` for this service.
    """

    def __init__(self, of: Callable[[Sequence[str], Mapping[str, str]], Program]) -> None:
        self._of = of

    def output(self, argv: Sequence[str], environment: Mapping[str, str]) -> Generator[bytes, None, None]:
        return output(self._of(argv, environment))

    def feed(
        self,
        argv: Sequence[str],
        environment: Mapping[str, str],
        source: Iterable[bytes],
        on_bytes: Callable[[int], None],
    ) -> None:
        feed(self._of(argv, environment), source, on_bytes)


def output(program: Program) -> Generator[bytes, None, None]:
    """Run a program and yield what it prints, in pieces. Closing the generator ends the program.

    Raises:
        ProgramFailed: it could not be run, or ended with an error.
        EngineUnreachable: it runs in a container, and the engine hangs.
    """
    with _running(program, '"$@"', stdin=subprocess.DEVNULL) as (process, finish):
        assert process.stdout is not None
        held = b""
        while data := process.stdout.read(CHUNK):
            held += data
            # The end may be the mark.
            if ready := held[:-_MARK_BYTES]:
                held = held[-_MARK_BYTES:]
                yield ready
        if rest := finish(held):
            yield rest


def feed(program: Program, source: Iterable[bytes], on_bytes: Callable[[int], None] = lambda count: None) -> None:
    """Run a program with `source` as its standard input, piece by piece.

    Args:
        source: what it reads, in pieces.
        on_bytes: called with the number of bytes that it was just given.

    Raises:
        ProgramFailed: it could not be run, or ended with an error.
        EngineUnreachable: it runs in a container, and the engine hangs.
    """
    with _running(program, '"$@" >&2', stdin=subprocess.PIPE) as (process, finish):
        assert process.stdin is not None
        assert process.stdout is not None
        # A program that fails stops reading; why it did is what it says, not the broken pipe.
        with suppress(BrokenPipeError):
            for data in source:
                process.stdin.write(data)
                on_bytes(len(data))
            process.stdin.close()
        finish(process.stdout.read())


@contextmanager
def _running(
    program: Program, words: str, *, stdin: int
) -> Iterator[tuple["subprocess.Popen[bytes]", Callable[[bytes], bytes]]]:
    """Run a program.

    Also yields what waits for its end and raises `ProgramFailed` unless it succeeded. It is given the last bytes of the
    standard output, and returns those that are the program's own.
    """
    mark = token_hex(_MARK_BYTES // 2) if program.lead else ""
    argv = program.argv
    if mark:
        script = f"{words} && printf %s {mark}"
        argv = (*argv[: program.lead], "sh", "-c", script, "sh", *argv[program.lead :])
    try:
        process = subprocess.Popen(  # noqa: S603 - a command line of ours
            argv,
            env=dict(program.environment),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # Ctrl-C is for this process alone, which then ends the program.
            start_new_session=True,
        )
    except OSError as error:
        raise ProgramFailed(f"{program.argv[0]}: {error.strerror or error}") from error
    said: deque[str] = deque(maxlen=_LINES)
    listener = threading.Thread(target=_listen, args=(process, said), daemon=True)
    listener.start()

    def finish(last: bytes) -> bytes:
        status = process.wait()
        listener.join(_PATIENCE)
        if status != 0:
            raise ProgramFailed("\n".join(said) or f"exit status {status}")
        if not last.endswith(mark.encode()):
            raise ProgramFailed(
                "\n".join([*said, "the connection to the container was lost before the program had finished"])
            )
        return last.removesuffix(mark.encode())

    try:
        with _while_engine_answers(process, program.engine):
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


def _while_engine_answers(process: "subprocess.Popen[bytes]", engine: str) -> AbstractContextManager[None]:
    """End a program in a container as soon as its engine hangs: with it, nothing would ever be read or written."""
    if not engine:
        return nullcontext()
    from triton_env.runtimes.docker.engine import Engine
    from triton_env.runtimes.docker.watch import while_engine_answers

    def ping() -> None:
        # It asks the engine whether it is there.
        Engine().close()

    return while_engine_answers(process, ping, engine)


def _listen(process: "subprocess.Popen[bytes]", said: deque[str]) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        said.append(line.decode(errors="replace").rstrip())
