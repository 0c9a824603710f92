"""A question to PostgreSQL in its own protocol, for what loads no client otherwise.

It does not encrypt. Of the ways to log in it has SCRAM-SHA-256 alone, which sends no password and has the server prove
that it knows it, and none at all. For everything else there is psycopg.

https://www.postgresql.org/docs/current/protocol-flow.html
"""

import hashlib
import hmac
import socket
import struct
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BufferedRWPair
from secrets import token_urlsafe

_VERSION = 3 << 16
_OK, _SASL, _SASL_GOES_ON, _SASL_ENDS = 0, 10, 11, 12
_MECHANISM = b"SCRAM-SHA-256"
_NO_CHANNEL = b"n,,"
_LONGEST = 1 << 20
"""Bytes of a message. Another server's greeting, read as a length, is more than some processes may have of memory."""
_MOST_ROUNDS = 2_000_000
"""Of hashing a password, a few seconds' work. PostgreSQL asks for 4096 by default; 600,000 are recommended."""


class TooManyRoundsError(ConnectionError):
    """The server asks to hash the password so often that logging in would take minutes, whichever client does it."""


@dataclass(frozen=True, slots=True)
class Login:
    """As whom to log in, where.

    Attributes:
        address: host and port.
        user: the user.
        password: of the user.
        database: the database.
    """

    address: tuple[str, int]
    user: str
    password: str
    database: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered.

    Attributes:
        parameters: what it reported when the connection was made, such as `server_version`.
        rows: the first column of each row, as text.
    """

    parameters: Mapping[str, str]
    rows: tuple[str, ...]


def answer(login: Login, statement: str, timeout: float) -> Answer:
    """What a server answers to a statement.

    Args:
        statement: which selects one column of text.
        timeout: seconds for each step.

    Raises:
        TooManyRoundsError: it wants more work for the password than any client should do.
        OSError: it does not answer, or with an error, or wants another way to log in.
    """
    try:
        with socket.create_connection(login.address, timeout) as connection, connection.makefile("rwb") as stream:
            return _asked(stream, login, statement)
    except (struct.error, ValueError, LookupError) as error:
        raise ConnectionError(f"what came from {login.address} is not understood: {error}") from error


def _asked(stream: BufferedRWPair, login: Login, statement: str) -> Answer:
    names = {"user": login.user, "database": login.database, "client_encoding": "UTF8"}
    words = b"".join(f"{name}\0{value}\0".encode() for name, value in names.items())
    _send(stream, b"", struct.pack("!i", _VERSION) + words + b"\0")
    _log_in(stream, login.password)
    parameters: dict[str, str] = {}
    for kind, body in _until_ready(stream):
        if kind == b"S":
            name, value, _ = body.decode().split("\0")
            parameters[name] = value
    _send(stream, b"Q", statement.encode() + b"\0")
    # A number of columns, and the length of the first.
    rows = [body[6 : 6 + struct.unpack_from("!hi", body)[1]] for kind, body in _until_ready(stream) if kind == b"D"]
    _send(stream, b"X", b"")
    return Answer(parameters, tuple(row.decode() for row in rows))


def _log_in(stream: BufferedRWPair, password: str) -> None:
    kind, content = _authentication(stream)
    if kind == _OK:
        return
    # libpq normalizes others.
    if kind != _SASL or _MECHANISM not in content.split(b"\0") or not (password.isascii() and password.isprintable()):
        raise ConnectionError("the server wants another way to log in")
    nonce = token_urlsafe(18)
    begin = f"n=,r={nonce}".encode()
    first = _NO_CHANNEL + begin
    _send(stream, b"p", _MECHANISM + b"\0" + struct.pack("!i", len(first)) + first)
    challenge = _expected(stream, _SASL_GOES_ON)
    given = _attributes(challenge)
    if not given["r"].startswith(nonce):
        raise ConnectionError("the server answers another question")
    rounds = int(given["i"])
    if rounds > _MOST_ROUNDS:
        raise TooManyRoundsError(
            f"the server asks to hash the password {rounds} times; see its setting scram_iterations"
        )
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), b64decode(given["s"]), rounds)
    client_key = _hmac(salted, b"Client Key")
    end = b"c=%s,r=%s" % (b64encode(_NO_CHANNEL), given["r"].encode())
    signed = b",".join((begin, challenge, end))
    signature = _hmac(hashlib.sha256(client_key).digest(), signed)
    proof = bytes(one ^ other for one, other in zip(client_key, signature, strict=True))
    _send(stream, b"p", end + b",p=" + b64encode(proof))
    theirs = b64decode(_attributes(_expected(stream, _SASL_ENDS))["v"])
    if not hmac.compare_digest(theirs, _hmac(_hmac(salted, b"Server Key"), signed)):
        raise ConnectionError("the server does not know the password")
    _expected(stream, _OK)


def _hmac(key: bytes, content: bytes) -> bytes:
    return hmac.digest(key, content, "sha256")


def _attributes(message: bytes) -> dict[str, str]:
    return dict(part.split("=", 1) for part in message.decode("ascii").split(","))


def _expected(stream: BufferedRWPair, kind: int) -> bytes:
    found, content = _authentication(stream)
    if found != kind:
        raise ConnectionError(f"the server goes on to log in with {found}")
    return content


def _authentication(stream: BufferedRWPair) -> tuple[int, bytes]:
    kind, body = _received(stream)
    if kind != b"R":
        raise ConnectionError(f"the server begins with {kind!r}")
    return struct.unpack_from("!i", body)[0], body[4:]


def _until_ready(stream: BufferedRWPair) -> Iterator[tuple[bytes, bytes]]:
    while (message := _received(stream))[0] != b"Z":
        yield message


def _received(stream: BufferedRWPair) -> tuple[bytes, bytes]:
    """The next message that is not a notice."""
    while True:
        kind, length = struct.unpack("!ci", stream.read(5))
        if not 4 <= length <= _LONGEST:
            raise ConnectionError(f"what begins with {kind!r} is not a message of PostgreSQL")
        body = stream.read(length - 4)
        if kind == b"E":
            raise ConnectionError(body.decode(errors="replace"))
        if kind != b"N":
            return kind, body


def _send(stream: BufferedRWPair, kind: bytes, body: bytes) -> None:
    stream.write(kind + struct.pack("!i", len(body) + 4) + body)
    stream.flush()
