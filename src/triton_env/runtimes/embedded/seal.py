"""A seal at the end of a file: whether all of it is still as it was written.

It recognises damage, such as that of a power failure, of a failing disk or of another program. It protects from no
enemy: files with a seal are where their user alone can write.
"""

import os
import re
import zlib
from pathlib import Path

_PIECE = 1 << 18
_SEAL = b"triton-env crc32 %08x of %016d bytes\n"
_FOUND = re.compile(rb"triton-env crc32 ([0-9a-f]{8}) of ([0-9]{16}) bytes\n")
_SIZE = len(_SEAL % (0, 0))


def seal(path: Path) -> None:
    """Add the seal to a file, and see that the disk has all of it.

    Raises:
        OSError: it cannot be written.
    """
    with path.open("r+b") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(size)
        file.write(_SEAL % (_checksum(file.fileno(), size), size))
        file.flush()
        os.fsync(file.fileno())


def has_seal(descriptor: int) -> bool:
    """Whether an open file ends with a seal for its size, which costs next to nothing."""
    return _expected(descriptor) is not None


def is_intact(path: Path) -> bool:
    """Whether the content of a file is that which was sealed. Reads all of it, without holding the interpreter's lock.

    Raises:
        OSError: it cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        expected = _expected(descriptor)
        return expected is not None and _checksum(descriptor, os.fstat(descriptor).st_size - _SIZE) == expected
    finally:
        os.close(descriptor)


def _expected(descriptor: int) -> int | None:
    """The checksum in the seal of an open file; None where it has no seal, or one for another size."""
    size = os.fstat(descriptor).st_size - _SIZE
    found = _FOUND.fullmatch(os.pread(descriptor, _SIZE, size)) if size >= 0 else None
    return int(found[1], 16) if found and int(found[2]) == size else None


def _checksum(descriptor: int, size: int) -> int:
    checksum, done = 0, 0
    while done < size and (piece := os.pread(descriptor, min(_PIECE, size - done), done)):
        checksum = zlib.crc32(piece, checksum)
        done += len(piece)
    return checksum
