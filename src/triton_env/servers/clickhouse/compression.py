"""Compressed bodies: the encodings of HTTP, and ClickHouse's own framing."""

from __future__ import annotations

import bz2
import lzma
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol

import brotli  # type: ignore[import-untyped]
import lz4.block  # type: ignore[import-untyped]
import lz4.frame  # type: ignore[import-untyped]
from clickhouse_cityhash.cityhash import CityHash128  # type: ignore[import-untyped]

from .errors import (
    CANNOT_DECOMPRESS,
    CHECKSUM_DOESNT_MATCH,
    TOO_LARGE_SIZE_COMPRESSED,
    UNEXPECTED_END_OF_FILE,
    UNKNOWN_COMPRESSION_METHOD,
    ServerError,
)

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Buffer = bytes | memoryview

# ClickHouse frames: 16 bytes of CityHash128 v1.0.2 over the rest, one byte for the method, the size of
# header and payload, the size before compression (ClickHouse, src/Compression/CompressionInfo.h).
_FRAME: Final = struct.Struct("<BII")
_HASH: Final = struct.Struct("<QQ")
FRAME_HEAD: Final = _HASH.size + _FRAME.size
_RAW, _LZ4, _ZSTD = 0x02, 0x82, 0x90
_MAX_FRAME: Final = 0x40000000
_FRAME_PAYLOAD: Final = 1 << 20


class Decoder(Protocol):
    """Takes a compressed stream piece by piece."""

    def feed(self, data: bytes) -> bytes:
        """What `data` adds to the plain stream."""
        ...

    def finish(self) -> None:
        """Raise if the stream is not complete."""
        ...


class Encoder(Protocol):
    """Makes a compressed stream piece by piece."""

    def feed(self, data: Buffer) -> bytes:
        """What `data` adds to the compressed stream."""
        ...

    def finish(self) -> bytes:
        """The end of the compressed stream."""
        ...


class _StreamDecoder:
    """A stream of one or more members, each read by an object such as the standard library has."""

    def __init__(self, name: str, member: Callable[[], Any], errors: tuple[type[Exception], ...]) -> None:
        self._name, self._member, self._errors = name, member, errors
        self._current = member()
        self._started = False

    def feed(self, data: bytes) -> bytes:
        plain = []
        try:
            while data:
                if self._current.eof:
                    self._current = self._member()
                self._started = True
                plain.append(self._current.decompress(data))
                data = self._current.unused_data or b"" if self._current.eof else b""
        except self._errors as error:
            raise ServerError(
                CANNOT_DECOMPRESS,
                f"Cannot decompress {self._name} request body: {error}",
            ) from error
        return plain[0] if len(plain) == 1 else b"".join(plain)

    def finish(self) -> None:
        if self._started and not self._current.eof:
            raise ServerError(
                UNEXPECTED_END_OF_FILE,
                f"The {self._name} request body ends in the middle",
            )


class _BrotliDecoder:
    def __init__(self) -> None:
        self._decompressor = brotli.Decompressor()
        self._started = False

    def feed(self, data: bytes) -> bytes:
        self._started = self._started or bool(data)
        try:
            plain: bytes = self._decompressor.process(data)
        except brotli.error as error:
            raise ServerError(CANNOT_DECOMPRESS, f"Cannot decompress br request body: {error}") from error
        return plain

    def finish(self) -> None:
        if self._started and not self._decompressor.is_finished():
            raise ServerError(UNEXPECTED_END_OF_FILE, "The br request body ends in the middle")


class FrameDecoder:
    """ClickHouse's own framing (`decompress=1`)."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> bytes:
        self._buffer += data
        plain = list(self._frames())
        return plain[0] if len(plain) == 1 else b"".join(plain)

    def _frames(self) -> Iterator[bytes]:
        while len(self._buffer) >= FRAME_HEAD:
            end = frame_size(self._buffer)
            if len(self._buffer) < end:
                return
            frame = bytes(self._buffer[:end])
            del self._buffer[:end]
            yield open_frame(frame)

    def finish(self) -> None:
        if self._buffer:
            raise ServerError(
                UNEXPECTED_END_OF_FILE,
                "The request body ends in the middle of a compressed block",
            )


def frame_size(head: bytes | bytearray) -> int:
    """How many bytes the frame has that begins with `head`.

    Raises:
        ServerError: it cannot be the beginning of a frame.
    """
    _, size, plain_size = _FRAME.unpack_from(head, _HASH.size)
    if size < _FRAME.size or size > _MAX_FRAME or plain_size > _MAX_FRAME:
        raise ServerError(TOO_LARGE_SIZE_COMPRESSED, "Wrong size of a compressed block. Most likely corrupted data.")
    return _HASH.size + int(size)


def open_frame(frame: bytes) -> bytes:
    """What is in a whole frame.

    Raises:
        ServerError: it is damaged, or compressed in a way that is not known.
    """
    if frame[: _HASH.size] != _checksum(frame[_HASH.size :]):
        raise ServerError(CHECKSUM_DOESNT_MATCH, "Checksum doesn't match: corrupted data.")
    method, _, plain_size = _FRAME.unpack_from(frame, _HASH.size)
    return _unframe(method, frame[FRAME_HEAD:], plain_size)


def _unframe(method: int, payload: bytes, plain_size: int) -> bytes:
    try:
        if method == _LZ4:
            plain: bytes = lz4.block.decompress(payload, uncompressed_size=plain_size)
        elif method == _ZSTD:
            plain = zstd.decompress(payload)
        elif method == _RAW:
            plain = payload
        else:
            raise ServerError(
                UNKNOWN_COMPRESSION_METHOD,
                f"Unknown compression method byte {method:#04x}",
            )
    except (lz4.block.LZ4BlockError, zstd.ZstdError) as error:
        raise ServerError(CANNOT_DECOMPRESS, f"Cannot decompress a block: {error}") from error
    if len(plain) != plain_size:
        raise ServerError(CANNOT_DECOMPRESS, "A compressed block has another size than it says")
    return plain


def _checksum(data: bytes) -> bytes:
    value: int = CityHash128(data)
    return _HASH.pack(value >> 64, value & 0xFFFFFFFFFFFFFFFF)


class FrameEncoder:
    """ClickHouse's own framing (`compress=1`), with LZ4 unless another method is named as the engine names it."""

    def __init__(self, method: str = "LZ4") -> None:
        self._method = method.upper()

    def feed(self, data: Buffer) -> bytes:
        view = memoryview(data)
        pieces = (view[start : start + _FRAME_PAYLOAD] for start in range(0, len(view), _FRAME_PAYLOAD))
        return b"".join(map(self._frame, pieces))

    def finish(self) -> bytes:
        return b""

    def _frame(self, data: memoryview) -> bytes:
        number, payload = _LZ4, b""
        if self._method == "ZSTD":
            number, payload = _ZSTD, zstd.compress(data)
        elif self._method == "NONE":
            number, payload = _RAW, bytes(data)
        else:
            payload = lz4.block.compress(data, store_size=False)
        block = _FRAME.pack(number, len(payload) + _FRAME.size, len(data)) + payload
        return _checksum(block) + block


class _ObjectEncoder:
    """An encoder of the standard library's kind."""

    def __init__(self, compressor: Any) -> None:
        self._compressor = compressor

    def feed(self, data: Buffer) -> bytes:
        return self._compressor.compress(data)  # type: ignore[no-any-return]

    def finish(self) -> bytes:
        return self._compressor.flush()  # type: ignore[no-any-return]


class _BrotliEncoder:
    def __init__(self, level: int) -> None:
        self._compressor = brotli.Compressor(quality=min(level, 11))

    def feed(self, data: Buffer) -> bytes:
        return self._compressor.process(bytes(data))  # type: ignore[no-any-return]

    def finish(self) -> bytes:
        return self._compressor.finish()  # type: ignore[no-any-return]


class _Lz4Encoder:
    def __init__(self) -> None:
        self._compressor = lz4.frame.LZ4FrameCompressor()
        self._head = self._compressor.begin()

    def feed(self, data: Buffer) -> bytes:
        head, self._head = self._head, b""
        return head + self._compressor.compress(data)  # type: ignore[no-any-return]

    def finish(self) -> bytes:
        head, self._head = self._head, b""
        return head + self._compressor.flush()  # type: ignore[no-any-return]


_DECODERS: Final[dict[str, Callable[[], Decoder]]] = {
    "gzip": lambda: _StreamDecoder("gzip", lambda: zlib.decompressobj(31), (zlib.error,)),
    "x-gzip": lambda: _StreamDecoder("gzip", lambda: zlib.decompressobj(31), (zlib.error,)),
    "deflate": lambda: _StreamDecoder("deflate", lambda: zlib.decompressobj(15), (zlib.error,)),
    "br": _BrotliDecoder,
    "zstd": lambda: _StreamDecoder("zstd", zstd.ZstdDecompressor, (zstd.ZstdError,)),
    "lz4": lambda: _StreamDecoder("lz4", lz4.frame.LZ4FrameDecompressor, (RuntimeError,)),
    "xz": lambda: _StreamDecoder("xz", lzma.LZMADecompressor, (lzma.LZMAError,)),
    "bz2": lambda: _StreamDecoder("bz2", bz2.BZ2Decompressor, (OSError,)),
}
_ENCODERS: Final[dict[str, Callable[[int], Encoder]]] = {
    "zstd": lambda level: _ObjectEncoder(zstd.ZstdCompressor(level)),
    "br": _BrotliEncoder,
    "lz4": lambda level: _Lz4Encoder(),
    "gzip": lambda level: _ObjectEncoder(zlib.compressobj(min(level, 9), wbits=31)),
    "deflate": lambda level: _ObjectEncoder(zlib.compressobj(min(level, 9), wbits=15)),
    "xz": lambda level: _ObjectEncoder(lzma.LZMACompressor(preset=min(level, 9))),
    "bz2": lambda level: _ObjectEncoder(bz2.BZ2Compressor(max(1, min(level, 9)))),
}


def decoders(content_encoding: str) -> list[Decoder]:
    """The decoders for a Content-Encoding header, in the order in which they must be applied.

    Raises:
        ServerError: an encoding is not known.
    """
    names = [name.strip().lower() for name in content_encoding.split(",")]
    chain = []
    for name in reversed(names):
        if name in ("", "identity"):
            continue
        if name not in _DECODERS:
            raise ServerError(
                UNKNOWN_COMPRESSION_METHOD,
                f"Unknown compression method '{name}' in Content-Encoding",
            )
        chain.append(_DECODERS[name]())
    return chain


def choose_encoding(accept_encoding: str) -> str | None:
    """The best encoding that an Accept-Encoding header allows, None for none."""
    refused: set[str] = set()
    accepted: set[str] = set()
    for part in accept_encoding.split(","):
        name, _, options = part.partition(";")
        zero = options.replace(" ", "").lower() in ("q=0", "q=0.0", "q=0.00", "q=0.000")
        (refused if zero else accepted).add(name.strip().lower())
    return next((name for name in _ENCODERS if name in accepted and name not in refused), None)


def encoder(name: str, level: int) -> Encoder:
    """A new encoder; `level` as the setting http_zlib_compression_level."""
    return _ENCODERS[name](level)
