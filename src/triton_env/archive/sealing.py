"""The end of an archive: the seal over all that is before it, and how long the list of members is.

Both are read before the list itself, which may be of any length in a file that is not ours.
"""

import hashlib
import os
import re
import zipfile
from typing import IO

CHUNK = 1 << 20
"""Bytes that are held at a time."""
SEAL = "triton-env backup, format {format}, sha256 {digest}"
SEAL_PATTERN = re.compile(rb"triton-env backup, format (\d{1,6}), sha256 ([0-9a-f]{64})\Z")
SEAL_ROOM = 128
"""Bytes at the end of a file within which the seal begins."""
DIGEST_LENGTH = 64
_END_ROOM = 22 + 20 + 128
"""Bytes at the end of a ZIP file within which its closing records begin: its comment is the seal."""


def digest_of(file: IO[bytes]) -> str:
    """SHA-256 of everything but the digest at the end."""
    left = file.seek(0, os.SEEK_END) - DIGEST_LENGTH
    file.seek(0)
    digest = hashlib.sha256()
    while left > 0 and (data := file.read(min(CHUNK, left))):
        digest.update(data)
        left -= len(data)
    return digest.hexdigest()


def directory_bytes(file: IO[bytes]) -> int:
    """How long the list of members is, by the record at the end of a ZIP file; read without the list."""
    file.seek(0, os.SEEK_END)
    length = file.tell()
    file.seek(max(0, length - _END_ROOM))
    tail = file.read(_END_ROOM)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) < at + 22:
        raise zipfile.BadZipFile("it has no end")
    size = int.from_bytes(tail[at + 12 : at + 16], "little")
    if tail[at - 20 : at - 16] == b"PK\x06\x07":
        # More than 4 GiB, or than 65,535 members: the lengths are in another record, before this or where it says.
        # Readers differ in where they look, so the longer one counts.
        end = length - len(tail) + at
        for where in (end - 20 - 56, int.from_bytes(tail[at - 12 : at - 4], "little")):
            file.seek(max(0, min(where, length)))
            record = file.read(56)
            if record[:4] == b"PK\x06\x06":
                size = max(size if size != 0xFFFFFFFF else 0, int.from_bytes(record[40:48], "little"))
    return size
