"""What a request says about its body: the digests in its headers, or behind a body that is sent in chunks.

https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO, Final, Protocol

from .signature import RefusedError

_PIECE: Final = 1 << 16
_LONGEST_LINE: Final = 1 << 14
_SHA256: Final = re.compile("[0-9a-f]{64}")
_CHECKSUM: Final = "x-amz-checksum-"
_STREAMING: Final = "STREAMING-"
_LENGTH: Final = "x-amz-decoded-content-length"
"""Of what is in the chunks."""


class _Digest(Protocol):
    def update(self, data: bytes, /) -> None: ...

    def digest(self) -> bytes: ...


class _Crc32:
    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes, /) -> None:
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


_ALGORITHMS: Final[Mapping[str, Callable[[], _Digest]]] = {
    "crc32": _Crc32,
    "sha1": hashlib.sha1,
    "sha256": hashlib.sha256,
}
"""Those that Python has. The others, CRC32C and CRC64NVME, would take seconds for a body of some megabytes."""


def check_body(headers: Mapping[str, str], opened: Callable[[], Any], *, is_all: bool) -> None:
    """Compare the body of a request with what the request says about it.

    Args:
        headers: by lower-case name.
        opened: gives the body at its beginning; not called where nothing is said about it.
        is_all: whether checksums in the headers are of the body, and not of an object that was sent in parts.

    Raises:
        RefusedError: the body is another one.
    """
    payload = headers.get("x-amz-content-sha256", "")
    is_chunked = payload.startswith(_STREAMING) or "aws-chunked" in headers.get("content-encoding", "")
    wanted: dict[str, tuple[bytes, RefusedError]] = {}
    digests: dict[str, _Digest] = {}
    if _SHA256.fullmatch(payload):
        words = "The provided 'x-amz-content-sha256' header does not match what was computed."
        wanted["payload"] = bytes.fromhex(payload), RefusedError("XAmzContentSHA256Mismatch", words, 400)
        digests["payload"] = hashlib.sha256()
    if (md5 := headers.get("content-md5")) is not None and not is_chunked:
        words = "The Content-MD5 you specified did not match what we received."
        wanted["md5"] = _decoded(md5, 16), RefusedError("BadDigest", words, 400)
        digests["md5"] = hashlib.md5(usedforsecurity=False)
    named = headers.get("x-amz-trailer", "").split(",") if is_chunked else ()
    announced = {name.strip().lower() for name in named if name.strip()}
    for name, create in _ALGORITHMS.items():
        header = f"{_CHECKSUM}{name}"
        if header in announced:
            digests[name] = create()
        elif header in headers and is_all:
            digests[name] = create()
            wanted[name] = _checksum(name, headers[header], digests[name])
    if not digests:
        return
    body, trailers = opened(), dict[str, str]()
    length = 0
    for piece in _chunks(body, trailers) if is_chunked else iter(lambda: body.read(_PIECE), b""):
        length += len(piece)
        for digest in digests.values():
            digest.update(piece)
    body.seek(0)
    if is_chunked and headers.get(_LENGTH, str(length)).strip() != str(length):
        raise _incomplete()
    for header in announced:
        if header not in trailers:
            words = "The request contained trailing data that was not well-formed."
            raise RefusedError("MalformedTrailerError", words, 400)
        if (name := header.removeprefix(_CHECKSUM)) in digests:
            wanted[name] = _checksum(name, trailers[header], digests[name])
    for name, (expected, refusal) in wanted.items():
        if not hmac.compare_digest(digests[name].digest(), expected):
            raise refusal


def _checksum(name: str, value: str, digest: _Digest) -> tuple[bytes, RefusedError]:
    words = f"The {name.upper()} you specified did not match the calculated checksum."
    return _decoded(value, len(digest.digest())), RefusedError("BadDigest", words, 400)


def _decoded(value: str, length: int) -> bytes:
    try:
        found = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        found = b""
    if len(found) != length:
        raise RefusedError("InvalidDigest", "The checksum or Content-MD5 you specified is not valid.", 400)
    return found


def _chunks(body: BinaryIO, trailers: dict[str, str]) -> Iterator[bytes]:
    """What is in the chunks of a body; `trailers` gets what comes behind them, by lower-case name."""
    while size := _size(body.readline(_LONGEST_LINE)):
        while size and (piece := body.read(min(size, _PIECE))):
            size -= len(piece)
            yield piece
        if size or body.readline(_LONGEST_LINE).strip():
            raise _incomplete()
    while line := body.readline(_LONGEST_LINE).strip():
        name, _, value = line.decode("latin-1").partition(":")
        trailers[name.strip().lower()] = value.strip()


def _size(line: bytes) -> int:
    try:
        return int(line.partition(b";")[0].strip(), 16)
    except ValueError:
        raise _incomplete() from None


def _incomplete() -> RefusedError:
    return RefusedError("IncompleteBody", "The request body terminated unexpectedly", 400)
