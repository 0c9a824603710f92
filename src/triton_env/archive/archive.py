"""The archive file: a ZIP file with a manifest, checksums, and a seal over all of it.

Any unzip program can list and unpack it. The ZIP comment, which is the end of the file, names the format and holds a
SHA-256 of everything before it: a flipped byte anywhere, or a missing end, is found.
"""

import glob
import hashlib
import io
import json
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import IO, Any, TypeVar

from pydantic import BaseModel, ValidationError

from triton_env.archive.manifest import FORMAT, Manifest, Member, first_problem
from triton_env.archive.sealing import (
    CHUNK,
    DIGEST_LENGTH,
    SEAL,
    SEAL_PATTERN,
    SEAL_ROOM,
    digest_of,
    directory_bytes,
)
from triton_env.core.private import open_file, sync_folder
from triton_env.errors import BackupFailed, RestoreFailed
from triton_env.state import locks

_Form = TypeVar("_Form", bound=BaseModel)

MANIFEST = "manifest.json"
_MANIFEST_BYTES = 16 << 20
INDEX_BYTES = 64 << 20
"""The longest index of a service. Manifest and indexes are held in memory; everything else is read in pieces."""
_MANIFEST_PARTS = 600_000
_INDEX_PARTS = 2_000_000
"""The most commas in them: what JSON becomes in memory depends on its parts more than on its length."""
_DIRECTORY_BYTES = 32 << 20
"""The longest list of members at the end of a ZIP file: some 100,000 of them."""
_ENCRYPTED = 1
"""The flag of an encrypted member."""
_LEVEL = 3
"""Of zlib: twice as fast as its default, for a few percent in size."""
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, ValueError, KeyError, RuntimeError)
"""What reading a damaged ZIP file may raise."""


def check_free(path: Path, *, force: bool) -> None:
    """See that an archive may be made at `path`.

    Raises:
        BackupFailed: it is a folder, or is there and `force` is not set, or no file can be made there.
    """
    folder = path.absolute().parent
    if not os.access(folder, os.W_OK | os.X_OK) or not folder.is_dir():
        why = "is not a writable folder" if folder.exists() else "does not exist"
        raise BackupFailed(f"The backup {path} cannot be made: {folder} {why}.", hint=f"ls -ld {folder}")
    if path.is_dir():
        raise BackupFailed(f"{path} is a folder.", hint="name a file in it")
    if not force and os.path.lexists(path):
        raise BackupFailed(
            f"{path} already exists, and was left as it is.",
            hint="choose another name, or replace it with --force (force=True in Python)",
        )


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn what goes wrong in writing the archive `path` into our words."""
    try:
        yield
    except OSError as error:
        raise BackupFailed(
            "The backup file could not be written.",
            where=str(path),
            cause=error.strerror or str(error),
            hint=f"df -h {path.parent}; ls -ld {path.parent}",
        ) from error


class MemberWriter:
    """Writes one member, and counts and hashes what goes through."""

    def __init__(self, path: Path, stream: IO[bytes], on_bytes: Callable[[int], None]) -> None:
        self._path = path
        self._stream = stream
        self._on_bytes = on_bytes
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        """Of what was written so far."""
        return self._hash.hexdigest()

    def write(self, data: bytes) -> None:
        """Append `data`.

        Raises:
            BackupFailed: the file cannot be written.
        """
        with _writing(self._path):
            self._stream.write(data)
        self._hash.update(data)
        self.size += len(data)
        self._on_bytes(len(data))


class ArchiveWriter:
    """Writes an archive beside its final place, where it appears only once it is complete.

    Args:
        force: replace a file that is there.

    Raises:
        BackupFailed: it exists, or cannot be written.
    """

    def __init__(self, path: Path, *, force: bool) -> None:
        self.path = path.absolute()
        self._force = force
        check_free(self.path, force=force)
        self._partial = self.path.with_name(f"{self.path.name}.partial-{token_hex(4)}")
        self._members: list[Member] = []
        self._lock: locks.Held | None = None
        with suppress(OSError):  # a file system without locks, or a full one
            # Before it is opened: one that is not locked looks like a killed process's.
            self._lock = locks.hold(self._partial)
            # What killed processes left of the same archive.
            locks.remove_abandoned(self.path.parent, f"{glob.escape(self.path.name)}.partial-*")
        with _writing(self.path):
            # It holds data: only its owner may read it, whatever the umask.
            handle = open_file(self._partial, os.O_RDWR | os.O_CREAT)
        self._file = os.fdopen(handle, "w+b")
        self._zip = zipfile.ZipFile(self._file, "w", zipfile.ZIP_DEFLATED, allowZip64=True, compresslevel=_LEVEL)

    @property
    def members(self) -> tuple[Member, ...]:
        """What was written so far."""
        return tuple(self._members)

    @contextmanager
    def member(
        self, name: str, service: str, kind: str, on_bytes: Callable[[int], None] = lambda count: None
    ) -> Iterator[MemberWriter]:
        """Write a member of any size. One at a time.

        Args:
            name: its path in the archive.
            kind: see `Member`.
            on_bytes: called with the number of bytes that were just written.
        """
        with self._zip.open(name, "w", force_zip64=True) as stream:
            writer = MemberWriter(self.path, stream, on_bytes)
            yield writer
        self._members.append(Member(name, service, kind, writer.size, writer.sha256))

    def add_json(self, name: str, service: str, kind: str, data: Any, *, title: str) -> None:
        """Write a member that holds `data` as JSON.

        Args:
            title: of the service, for people.

        Raises:
            BackupFailed: it is longer than a restore accepts, or cannot be written.
        """
        encoded = json.dumps(data, indent=1).encode()
        if len(encoded) > INDEX_BYTES or encoded.count(b",") > _INDEX_PARTS:
            raise BackupFailed(
                f"{title} holds too many things for one backup.",
                cause=f"their list takes {len(encoded):,} bytes, and {INDEX_BYTES:,} is the most that a restore reads",
            )
        with self.member(name, service, kind) as writer:
            writer.write(encoded)

    def finish(self, manifest: Manifest) -> None:
        """Add the manifest and the seal, read everything back, and put the file in its place.

        Raises:
            BackupFailed: it could not be written, or what was read is not what was written.
        """
        with _writing(self.path):
            self._zip.writestr(MANIFEST, json.dumps(manifest.as_data(), indent=1))
            self._zip.comment = SEAL.format(format=manifest.format, digest="0" * DIGEST_LENGTH).encode()
            self._zip.close()
            digest = digest_of(self._file)
            self._file.seek(-DIGEST_LENGTH, os.SEEK_END)
            self._file.write(digest.encode())
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        try:
            with Archive(self._partial) as written:
                written.check_members()
        except RestoreFailed as error:
            raise BackupFailed(
                "The backup could not be read back as it was written, so it was removed.",
                where=str(self.path),
                cause=error.cause or error.what,
                hint=f"check the disk: df -h {self.path.parent}",
            ) from error
        self._publish()
        self._unlock()

    def abandon(self) -> None:
        """Remove what was written; nothing where `finish` has succeeded. May be called again."""
        with suppress(Exception):
            # Closing the ZIP would write its end: to a full disk, for instance.
            self._zip.fp = None
        with suppress(OSError):
            self._file.close()
        self._partial.unlink(missing_ok=True)
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.release()

    def _publish(self) -> None:
        with _writing(self.path):
            if self._force:
                self._partial.replace(self.path)
            else:
                self._publish_unless_there()
            sync_folder(self.path.parent)

    def _publish_unless_there(self) -> None:
        try:
            # Unlike a rename it replaces nothing, even if the file has just appeared.
            os.link(self._partial, self.path)
        except FileExistsError:
            check_free(self.path, force=False)
            raise
        except OSError:  # a file system without hard links
            check_free(self.path, force=False)
            self._partial.rename(self.path)
        else:
            self._partial.unlink()


class Archive:
    """An archive that is there, opened for reading. Use it in a `with` block.

    Args:
        trusted: whether code in it may run with the rights of the servers' superusers.

    Raises:
        RestoreFailed: it cannot be read, is not an archive of ours or is of a newer format.
    """

    def __init__(self, path: Path, *, trusted: bool = False) -> None:
        self.path = path.absolute()
        self.trusted = trusted
        try:
            self._file = self.path.open("rb")
        except OSError as error:
            raise RestoreFailed(
                "The backup cannot be read.", where=str(self.path), cause=error.strerror or str(error)
            ) from error
        try:
            self._check_seal()
            self._zip = self._opened()
            self.manifest = self._manifest()
            self._check_list()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> "Archive":
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()
        self._file.close()

    def check_members(self, on_bytes: Callable[[int], None] = lambda count: None) -> None:
        """Read everything and compare it with the checksums.

        Raises:
            RestoreFailed: something differs.
        """
        for member in self.manifest.members:
            digest = hashlib.sha256()
            size = 0
            with self.member(member.name) as stream:
                while data := stream.read(CHUNK):
                    digest.update(data)
                    size += len(data)
                    on_bytes(len(data))
            if (size, digest.hexdigest()) != (member.size, member.sha256):
                raise self._damaged(f"the checksum of {member.name} is wrong")

    @contextmanager
    def member(self, name: str) -> Iterator[IO[bytes]]:
        """Read a member.

        Raises:
            RestoreFailed: it is missing or damaged.
        """
        try:
            stream = self._zip.open(self._plain(name))
        except _DAMAGED as error:
            raise self._damaged(str(error)) from error
        with stream:
            yield io.BufferedReader(_Translated(stream, self._damaged), CHUNK)

    def read_index(self, name: str, form: type[_Form]) -> _Form:
        """The data of a member that holds JSON, which has to be of that form.

        Raises:
            RestoreFailed: it is missing, damaged, too long, or of another form.
        """
        with self.member(name) as stream:
            data = stream.read(INDEX_BYTES + 1)
        if len(data) > INDEX_BYTES or data.count(b",") > _INDEX_PARTS:
            raise self.refused(f"{name} is longer than any index")
        try:
            return form.model_validate_json(data)
        except ValidationError as error:
            raise self.refused(f"{name}: {first_problem(error)}") from error

    def refused(self, cause: str) -> RestoreFailed:
        """The error for a backup that is whole, but holds what no backup of ours holds."""
        return RestoreFailed(
            "The backup holds something that triton-env does not write, so nothing of it is used.",
            where=str(self.path),
            cause=cause,
            hint="use another backup: this one was made or changed by another program",
        )

    def _opened(self) -> zipfile.ZipFile:
        try:
            directory = directory_bytes(self._file)
            if directory > _DIRECTORY_BYTES:
                raise self.refused(f"its list of members takes {directory:,} bytes")
            return zipfile.ZipFile(self._file)
        except _DAMAGED as error:
            raise self._damaged(f"its list of members cannot be read ({error})") from error

    def _check_seal(self) -> None:
        # Before the list of members is read, which may be of any length in a file that is not ours.
        self._file.seek(0, os.SEEK_END)
        self._file.seek(max(0, self._file.tell() - SEAL_ROOM))
        match = SEAL_PATTERN.search(self._file.read(SEAL_ROOM))
        if match is None:
            if zipfile.is_zipfile(self._file) or not self._begins_well():
                raise self._foreign()
            raise self._damaged("its end is missing or damaged")
        # Before anything else is read: a newer format may do everything otherwise.
        if int(match[1]) > FORMAT:
            raise RestoreFailed(
                f"The backup has format {int(match[1])}, and this version reads no newer one than {FORMAT}.",
                where=str(self.path),
                hint="pip install --upgrade triton-env",
            )
        if digest_of(self._file).encode() != match[2]:
            raise self._damaged("its checksum is wrong")

    def _begins_well(self) -> bool:
        self._file.seek(0)
        return self._file.read(4) == b"PK\x03\x04"

    def _manifest(self) -> Manifest:
        try:
            with self._zip.open(self._plain(MANIFEST)) as stream:
                data = stream.read(_MANIFEST_BYTES + 1)
        except _DAMAGED as error:
            raise self._damaged(f"its manifest cannot be read ({error})") from error
        if len(data) > _MANIFEST_BYTES or data.count(b",") > _MANIFEST_PARTS:
            raise self.refused("its manifest is longer than any manifest")
        try:
            return Manifest.from_json(data)
        except ValidationError as error:
            raise self.refused(f"its manifest: {first_problem(error)}") from error

    def _check_list(self) -> None:
        """See that manifest and ZIP file name the same members, with the same sizes, each once and beside the others.

        So what is unpacked is never more than a thousand times the file, and no more than the manifest says.
        """
        members = {member.name: member.size for member in self.manifest.members}
        listed = [info for info in self._zip.infolist() if info.filename != MANIFEST]
        if len(listed) != len(members) or len(members) != len(self.manifest.members):
            raise self._damaged("its list of files differs from that of its manifest")
        for info in listed:
            if members.get(info.filename) != info.file_size:
                raise self._damaged("its list of files differs from that of its manifest")
        end = 0
        for info in sorted(self._zip.infolist(), key=lambda info: info.header_offset):
            if info.header_offset < end or info.compress_size > self._zip.start_dir:
                raise self.refused("its members overlap")
            end = info.header_offset + info.compress_size

    def _plain(self, name: str) -> zipfile.ZipInfo:
        """The entry of a member, which is compressed in the one way that is read in pieces."""
        info = self._zip.getinfo(name)
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & _ENCRYPTED:
            raise self.refused("a member is packed in a way that triton-env does not use")
        return info

    def _damaged(self, cause: str) -> RestoreFailed:
        return RestoreFailed(
            "The backup is damaged or cut short.",
            where=str(self.path),
            cause=cause,
            hint="use another backup: nothing can be restored from this one",
        )

    def _foreign(self) -> RestoreFailed:
        return RestoreFailed(
            "This file is not a backup of triton-env.",
            where=str(self.path),
            hint="backups are made with: python -m triton_env backup FILE",
        )


class _Translated(io.RawIOBase):
    """What goes wrong in reading a member, in our words."""

    def __init__(self, stream: IO[bytes], damaged: Callable[[str], RestoreFailed]) -> None:
        self._stream = stream
        self._damaged = damaged

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._stream.read(len(buffer))
        except _DAMAGED as error:
            raise self._damaged(str(error)) from error
        buffer[: len(data)] = data
        return len(data)
