"""The archive: complete or not there, and every damage is found before anything is read from it."""

import io
import json
import os
import re
import resource
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triton_env import backup
from triton_env.archive.archive import Archive, ArchiveWriter
from triton_env.archive.manifest import FORMAT, Manifest, SavedService
from triton_env.archive.records import Record, read_records, write_record
from triton_env.errors import BackupFailed, RestoreFailed

DATA = {"postgres/a": b"one" * 1000, "redis/b": b"", "s3/c": os.urandom(300)}


def manifest(writer: ArchiveWriter, **changes: Any) -> Manifest:
    services = {"postgres": SavedService("18.1", ("triton",), ("a note",))}
    values: dict[str, Any] = {"tool": "1", "created": "2026-01-01T00:00:00+00:00", "runtime": "docker"}
    return Manifest(**(values | {"services": services, "members": writer.members} | changes))


def write(path: Path, *, force: bool = False, **changes: Any) -> None:
    writer = ArchiveWriter(path, force=force)
    try:
        for name, data in DATA.items():
            with writer.member(name, name.partition("/")[0], "data") as stream:
                for start in range(0, len(data), 700):
                    stream.write(data[start : start + 700])
        writer.finish(manifest(writer, **changes))
    finally:
        writer.abandon()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "an archive"


@pytest.fixture
def written(path: Path) -> Path:
    write(path)
    return path


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


class TestWriting:
    def test_what_was_written_is_read(self, written: Path) -> None:
        backup.verify(written)
        with Archive(written) as archive:
            for name, data in DATA.items():
                with archive.member(name) as stream:
                    assert stream.read() == data
            assert [member.size for member in archive.manifest.members] == [len(data) for data in DATA.values()]
            assert archive.manifest.services["postgres"] == SavedService("18.1", ("triton",), ("a note",))

    def test_any_unzip_program_reads_it(self, written: Path) -> None:
        with zipfile.ZipFile(written) as archive:
            assert archive.testzip() is None
            assert archive.namelist() == [*DATA, "manifest.json"]
            assert json.loads(archive.read("manifest.json"))["format"] == FORMAT

    def test_only_its_owner_can_read_it(self, path: Path) -> None:
        before = os.umask(0)
        try:
            write(path)
        finally:
            os.umask(before)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_a_file_that_is_there_is_left(self, path: Path) -> None:
        path.write_text("precious")
        with pytest.raises(BackupFailed, match="already exists"):
            write(path)
        assert path.read_text() == "precious"
        assert names(path.parent) == [path.name]

    def test_so_is_one_that_comes_meanwhile(self, path: Path) -> None:
        writer = ArchiveWriter(path, force=False)
        path.write_text("precious")
        with pytest.raises(BackupFailed, match="already exists"):
            writer.finish(manifest(writer))
        writer.abandon()
        assert path.read_text() == "precious"
        assert names(path.parent) == [path.name]

    def test_force_replaces_it(self, path: Path) -> None:
        path.write_text("old")
        write(path, force=True)
        backup.verify(path)
        assert names(path.parent) == [path.name]

    def test_until_it_is_complete_the_old_one_stays(self, path: Path) -> None:
        path.write_text("old")
        writer = ArchiveWriter(path, force=True)
        with writer.member("a", "s3", "data") as stream:
            stream.write(b"x" * 100_000)
        assert path.read_text() == "old"
        writer.abandon()
        writer.abandon()
        assert path.read_text() == "old"
        assert names(path.parent) == [path.name]

    def test_a_dangling_link_is_left(self, path: Path) -> None:
        path.symlink_to("nowhere")
        with pytest.raises(BackupFailed, match="already exists"):
            write(path)
        assert path.is_symlink()

    def test_where_no_file_can_be_made_it_says_so(self, path: Path) -> None:
        missing = path / "missing"
        with pytest.raises(BackupFailed, match=rf"{re.escape(str(missing))}\s+does\s+not\s+exist"):
            write(missing / "archive")
        with pytest.raises(BackupFailed, match="is a folder"):
            write(path.parent)

    def test_a_member_that_breaks_off_leaves_nothing(self, path: Path) -> None:
        writer = ArchiveWriter(path, force=False)

        def fail() -> None:
            with writer.member("a", "s3", "data") as stream:
                stream.write(b"x" * 100_000)
                raise KeyError

        with pytest.raises(KeyError):
            fail()
        writer.abandon()
        assert names(path.parent) == []

    def test_what_a_killed_one_left_goes_with_the_next(self, path: Path) -> None:
        path.with_name(f"{path.name}.partial-00000000").touch()
        other = path.with_name(f"other-{path.name}.partial-00000000")
        other.touch()
        living = ArchiveWriter(path, force=True)
        write(path)
        assert len(names(path.parent)) == 3
        living.abandon()
        assert names(path.parent) == sorted([path.name, other.name])

    def test_a_full_disk_is_named_and_nothing_is_left(self, path: Path) -> None:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        writer = ArchiveWriter(path, force=False)

        def fill() -> None:
            with writer.member("a", "s3", "data") as stream:
                for _ in range(100):
                    stream.write(os.urandom(10_000))

        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
        try:
            with pytest.raises((BackupFailed, OSError)) as raised:
                fill()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        writer.abandon()
        failed = raised.value if isinstance(raised.value, BackupFailed) else raised.value.__context__
        assert isinstance(failed, BackupFailed)
        assert failed.cause == "File too large"
        assert failed.where == str(path)
        assert names(path.parent) == []


class TestDamage:
    def test_every_flipped_byte_is_found(self, written: Path) -> None:
        good = written.read_bytes()
        for position in range(len(good)):
            written.write_bytes(good[:position] + bytes([good[position] ^ 0x10]) + good[position + 1 :])
            with pytest.raises(RestoreFailed):
                backup.read_manifest(written)
        written.write_bytes(good)
        backup.verify(written)

    def test_every_length_but_its_own_is_found(self, written: Path) -> None:
        good = written.read_bytes()
        for length in (*range(0, len(good), 7), len(good) - 1):
            written.write_bytes(good[:length])
            with pytest.raises(RestoreFailed, match=r"damaged or cut short|is not a backup"):
                backup.read_manifest(written)
        written.write_bytes(good + b"x")
        with pytest.raises(RestoreFailed):
            backup.read_manifest(written)

    @pytest.mark.parametrize("content", [b"", b"hello", b"PK", b"\x1f\x8b" + b"x" * 99, b"SQLite format 3\0" * 40])
    def test_other_files_are_no_backups(self, path: Path, content: bytes) -> None:
        path.write_bytes(content)
        with pytest.raises(RestoreFailed, match=r"This file is not a backup of triton-env\."):
            backup.verify(path)

    def test_nor_are_other_zip_files(self, path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("manifest.json", "{}")
        with pytest.raises(RestoreFailed, match=r"This file is not a backup of triton-env\."):
            backup.verify(path)

    def test_a_newer_format_is_named(self, path: Path) -> None:
        # Written by what reads it back, which is where it stops.
        with pytest.raises(BackupFailed) as raised:
            write(path, format=FORMAT + 1)
        assert f"format {FORMAT + 1}" in raised.value.cause
        assert names(path.parent) == []

    def test_a_newer_format_is_named_when_it_is_there(self, written: Path) -> None:
        seal = f"format {FORMAT}, sha256".encode()
        newer = written.read_bytes().replace(seal, f"format {FORMAT + 8}, sha256".encode())
        written.write_bytes(newer)
        with pytest.raises(RestoreFailed, match=f"has format {FORMAT + 8}, and this version reads no newer one"):
            backup.verify(written)

    def test_a_missing_file_or_a_folder_is_named(self, path: Path) -> None:
        for wrong, cause in ((path, "No such file or directory"), (path.parent, "Is a directory")):
            with pytest.raises(RestoreFailed) as raised:
                backup.verify(wrong)
            assert raised.value.cause == cause

    def test_members_that_differ_from_the_manifest_are_found(self, path: Path) -> None:
        def swapped(writer: ArchiveWriter) -> Iterator[Any]:
            first, *others = writer.members
            yield type(first)(first.name, first.service, first.kind, first.size, "0" * 64)
            yield from others

        for change in (lambda writer: tuple(swapped(writer)), lambda writer: writer.members[1:]):
            writer = ArchiveWriter(path, force=False)
            for name, data in DATA.items():
                with writer.member(name, "s3", "data") as stream:
                    stream.write(data)
            with pytest.raises(BackupFailed, match="could not be read back"):
                writer.finish(manifest(writer, members=change(writer)))
            writer.abandon()
            assert names(path.parent) == []

    def test_what_is_damaged_after_the_check_is_found_too(self, path: Path) -> None:
        writer = ArchiveWriter(path, force=False)
        with writer.member("large", "s3", "data") as stream:
            stream.write(os.urandom(3_000_000))
        writer.finish(manifest(writer))
        writer.abandon()
        with Archive(path) as archive:
            with path.open("r+b") as file:
                file.seek(2_000_000)
                file.write(b"damage")
            with pytest.raises(RestoreFailed, match="damaged"), archive.member("large") as stream:
                stream.read()


parts = st.lists(st.binary(max_size=50), max_size=4).map(tuple)
headers = st.dictionaries(st.text(max_size=5), st.none() | st.integers() | st.text(max_size=9), max_size=3)
records = st.lists(st.builds(Record, headers, parts), max_size=6)


class TestRecords:
    @given(records)
    def test_what_was_written_is_read(self, written: list[Record]) -> None:
        stream = io.BytesIO()
        for record in written:
            write_record(stream, record)
        stream.seek(0)
        assert list(read_records(stream)) == written

    @given(st.builds(Record, headers, parts), st.data())
    @settings(max_examples=50)
    def test_an_early_end_is_found(self, record: Record, data: st.DataObject) -> None:
        stream = io.BytesIO()
        write_record(stream, record)
        length = data.draw(st.integers(1, len(stream.getvalue()) - 1))
        with pytest.raises(EOFError):
            list(read_records(io.BytesIO(stream.getvalue()[:length])))

    def test_more_parts_than_any_record_has_are_not_read(self) -> None:
        with pytest.raises(ValueError, match="a record has 16,777,216 parts"):
            list(read_records(io.BytesIO(b"\0\0\0\2{}\1\0\0\0" + bytes(100))))
