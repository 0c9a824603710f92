"""Backups that were made or changed by another program: whole, with right checksums, and hostile."""

import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from triton_env.archive.archive import Archive, ArchiveWriter
from triton_env.archive.manifest import Manifest
from triton_env.services.postgres import toc

Change = Callable[[str, bytes], bytes]


def rewritten(path: Path, target: Path, change: Change) -> Path:
    """A backup in which members are other than those that were saved, with checksums that are right."""
    writer = ArchiveWriter(target, force=True)
    with Archive(path) as archive:
        for member in archive.manifest.members:
            with archive.member(member.name) as stream:
                data = change(member.name, stream.read())
            with writer.member(member.name, member.service, member.kind) as out:
                out.write(data)
        old = archive.manifest
        writer.finish(Manifest(old.tool, old.created, old.runtime, old.services, writer.members))
    writer.abandon()
    return target


def in_index(service: str, change: Callable[[Any], object]) -> Change:
    """Changes what the backup says of a service."""

    def changed(name: str, data: bytes) -> bytes:
        if name != f"{service}/index.json":
            return data
        index = json.loads(data)
        change(index)
        return json.dumps(index).encode()

    return changed


def in_archive(member: str, *entries: tuple[str, str, str]) -> Change:
    """Puts entries into the archive of pg_dump that is this member: kind, tag, and statements."""

    def changed(name: str, data: bytes) -> bytes:
        return with_entries(data, entries) if name == member else data

    return changed


def with_entries(archive: bytes, entries: Iterable[tuple[str, str, str]]) -> bytes:
    """An archive of pg_dump with more entries at the end of its table of contents, which begins with their number."""
    stream = io.BytesIO(archive)
    contents = toc.read(stream, "UTF8")
    minor = archive[6]
    raws = [entry.raw for entry in contents.entries]
    raws += [_entry(9000 + number, minor, *entry) for number, entry in enumerate(entries)]
    return b"".join((contents.head, _number(len(raws)), *raws, stream.read()))


def _entry(number: int, minor: int, kind: str, tag: str, statements: str) -> bytes:
    post_data = 4
    fields = [_number(number), _number(0), _text("0"), _text("0"), _text(tag), _text(kind), _number(post_data)]
    none = _number(-1)
    fields += [_text(statements), _text(""), none, _text("public"), none]
    fields += [none] * (minor >= 14) + [_number(0)] * (minor >= 16)
    fields += [_text(""), _text("false"), _number(-1), b"\1" + bytes(8)]
    return b"".join(fields)


def _number(value: int) -> bytes:
    return bytes([value < 0]) + abs(value).to_bytes(4, "little")


def _text(value: str) -> bytes:
    return _number(len(value.encode())) + value.encode()
