"""A question to Redis in its own protocol, for what loads no client otherwise.

https://redis.io/docs/latest/develop/reference/protocol-spec/
"""

import socket
from collections.abc import Iterable, Sequence
from typing import BinaryIO, TypeAlias

_DIGITS = 6
"""Of the longest length that is believed."""

Answer: TypeAlias = "str | list[Answer]"


class NotAnsweredError(Exception):
    """What came is not an answer to the question: an error of the server, say."""


def answers(address: tuple[str, int], commands: Iterable[Sequence[str]], timeout: float) -> list[Answer]:
    """What a server answers to these commands.

    Args:
        address: host and port.
        commands: each with its arguments.
        timeout: seconds for each step.

    Raises:
        NotAnsweredError, OSError: it does not answer all of them.
    """
    packed = [_packed(command) for command in commands]
    with socket.create_connection(address, timeout) as connection, connection.makefile("rb") as stream:
        connection.sendall(b"".join(packed))
        return [_read(stream) for _ in packed]


def _packed(command: Sequence[str]) -> bytes:
    words = [word.encode() for word in command]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def _read(stream: BinaryIO) -> Answer:
    line = stream.readline()
    kind, text = line[:1], line[1:].strip()
    if kind in (b"$", b"*") and len(text) > _DIGITS:
        raise NotAnsweredError(f"an answer of length {text.decode(errors='replace')}")
    if kind in (b"+", b":"):
        return text.decode()
    if kind == b"$" and text.isdigit():
        content = stream.read(int(text) + 2)
        if len(content) == int(text) + 2:
            return content[:-2].decode(errors="replace")
    if kind == b"*" and text.isdigit():
        return [_read(stream) for _ in range(int(text))]
    raise NotAnsweredError(line.decode(errors="replace"))
