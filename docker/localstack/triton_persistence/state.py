"""Between LocalStack's store in memory and the database: save a change, take it back, load everything at the start."""

import itertools
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from operator import itemgetter

from localstack.constants import AWS_REGION_US_EAST_1, DEFAULT_AWS_ACCOUNT_ID
from localstack.services.s3.models import KeyStore, S3Bucket, S3Multipart, VersionedKeyStore, s3_stores
from localstack.services.s3.utils import get_unique_key_id
from localstack.utils.tagging import Tags

from . import records
from .changes import Change, Scope
from .database import Database


@dataclass
class Bodies:
    """Names of bodies that the rows of a change named before it, and that they name after it."""

    before: set[str] = field(default_factory=set)
    after: set[str] = field(default_factory=set)


class State:
    """LocalStack's S3 store, and its rows."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def load(self) -> tuple[int, dict[str, int | None]]:
        """Fill the store from the database.

        Returns:
            How many buckets there are, and every body that is named, with its size in bytes.
        """
        sizes: dict[str, int | None] = {}
        with self._database.reading() as rows:
            names = [name for (name,) in rows.execute("SELECT name FROM buckets ORDER BY rowid")]
            for name in names:
                self._restore_bucket(rows, name)
        for name in names:
            bucket = _bucket(name)
            assert bucket is not None
            named = [version for key in list(bucket.objects._store) for version in _versions(bucket, key).values()]
            named += [part for upload in bucket.multiparts.values() for part in upload.parts.values()]
            sizes.update((thing.body, thing.size) for thing in named if getattr(thing, "body", None))
        return len(names), sizes

    def save(self, change: Change, upload: str | None) -> Bodies:
        """Write what the change changed, in one transaction.

        Args:
            change: What may have changed.
            upload: The multipart upload that the operation was about, or has created.

        Raises:
            sqlite3.Error: It could not be saved. The database holds what it held before.
        """
        bodies = Bodies()
        bucket = _bucket(change.bucket)
        with self._database.transaction() as rows:
            if bucket is None:
                if change.scope is Scope.BUCKET:
                    _delete_bucket(rows, change.bucket, bodies)
                return bodies
            if change.scope in (Scope.BUCKET, Scope.WHOLE):
                _save_bucket(rows, bucket)
            keys: Iterable[str] = change.keys
            if change.scope is Scope.WHOLE:
                stored = rows.execute("SELECT DISTINCT key FROM objects WHERE bucket = ?", (bucket.name,))
                keys = {key for (key,) in stored} | set(bucket.objects._store)
            if change.scope is not Scope.PART:
                for key in keys:
                    _save_key(rows, bucket, key, bodies)
            if upload and change.scope is Scope.UPLOAD:
                _save_upload(rows, bucket, upload, bodies)
            if upload and change.scope is Scope.PART:
                _save_part(rows, bucket, upload, change.part, bodies)
        return bodies

    def restore(self, change: Change, upload: str | None) -> None:
        """Take back what the change changed in memory, by reading it from the database."""
        with self._database.reading() as rows:
            bucket = _bucket(change.bucket)
            if bucket is None or change.scope in (Scope.BUCKET, Scope.WHOLE):
                self._restore_bucket(rows, change.bucket)
                return
            if change.scope is Scope.PART:
                if upload in bucket.multiparts:
                    _restore_part(rows, bucket.name, bucket.multiparts[upload], change.part)
                return
            for key in change.keys:
                _restore_key(rows, bucket, key)
            if upload and change.scope is Scope.UPLOAD:
                _restore_upload(rows, bucket, upload)

    def _restore_bucket(self, rows: sqlite3.Connection, name: str) -> None:
        if (old := _bucket(name)) is not None:
            _tags(old).delete_all_tags(old.bucket_arn)
            for key in list(old.objects._store):
                _forget_tags(old, key)
        row = rows.execute("SELECT record FROM buckets WHERE name = ?", (name,)).fetchone()
        if row is None:
            if old is not None:
                _account_buckets(old.bucket_account_id).pop(name, None)
                _owners().pop(name, None)
            return
        bucket, bucket_tags = records.load_bucket(row[0])
        bucket.objects = VersionedKeyStore() if bucket.versioning_status else KeyStore()
        if bucket_tags:
            _tags(bucket).update_tags(bucket.bucket_arn, bucket_tags)
        versions = rows.execute(
            "SELECT key, version, record, body FROM objects WHERE bucket = ? ORDER BY key, seq", (name,)
        )
        for key, group in itertools.groupby(versions, key=itemgetter(0)):
            _put_key(bucket, key, (row[1:] for row in group))
        for (upload,) in rows.execute("SELECT id FROM uploads WHERE bucket = ? ORDER BY rowid", (name,)).fetchall():
            _restore_upload(rows, bucket, upload)
        # Requests that only read take no lock: they must find a bucket that is complete.
        _account_buckets(bucket.bucket_account_id)[name] = bucket
        _owners()[name] = bucket.bucket_account_id


def _owners() -> dict[str, str]:
    """The account of each bucket, for all accounts."""
    return s3_stores[DEFAULT_AWS_ACCOUNT_ID][AWS_REGION_US_EAST_1].global_bucket_map


def _account_buckets(account: str) -> dict[str, S3Bucket]:
    """The buckets of an account, in all regions."""
    return s3_stores[account][AWS_REGION_US_EAST_1].buckets


def _bucket(name: str) -> S3Bucket | None:
    owner = _owners().get(name)
    return _account_buckets(owner).get(name) if owner else None


def _tags(bucket: S3Bucket) -> Tags:
    return s3_stores[bucket.bucket_account_id][bucket.bucket_region].tags


def _versions(bucket: S3Bucket, key: str) -> dict[str, records.Version]:
    """The versions of a key by the name that their row has, oldest first."""
    entry = bucket.objects._store.get(key)
    if entry is None:
        return {}
    if isinstance(bucket.objects, VersionedKeyStore):
        return dict(entry)
    return {"": entry}


def _forget_tags(bucket: S3Bucket, key: str) -> None:
    for version in _versions(bucket, key):
        _tags(bucket).delete_all_tags(get_unique_key_id(bucket.name, key, version))


def _put_key(bucket: S3Bucket, key: str, rows: Iterable[tuple[str, str, str | None]]) -> None:
    """Put the versions of a key into the store, in place of those that it has. Each row: version, record, body."""
    versions: dict[str, records.Version] = {}
    for version, text, body in rows:
        versions[version], tags = records.load_version(text, body)
        if tags:
            _tags(bucket).update_tags(get_unique_key_id(bucket.name, key, version), tags)
    # Not by the store's own methods: they would change which version is the current one.
    if not versions:
        bucket.objects._store.pop(key, None)
    elif isinstance(bucket.objects, VersionedKeyStore):
        bucket.objects._store[key] = versions
    else:
        bucket.objects._store[key] = versions[""]


def _save_bucket(rows: sqlite3.Connection, bucket: S3Bucket) -> None:
    record = records.dump_bucket(bucket, _tags(bucket).get_tags(bucket.bucket_arn))
    rows.execute(
        "INSERT INTO buckets (name, account, region, record) VALUES (?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET "
        "account = excluded.account, region = excluded.region, record = excluded.record",
        (bucket.name, bucket.bucket_account_id, bucket.bucket_region, record),
    )


def _delete_bucket(rows: sqlite3.Connection, name: str, bodies: Bodies) -> None:
    for table in ("objects", "parts"):
        bodies.before |= _bodies(rows.execute(f"SELECT body FROM {table} WHERE bucket = ?", (name,)))  # noqa: S608
        rows.execute(f"DELETE FROM {table} WHERE bucket = ?", (name,))  # noqa: S608
    rows.execute("DELETE FROM uploads WHERE bucket = ?", (name,))
    rows.execute("DELETE FROM buckets WHERE name = ?", (name,))


def _bodies(rows: Iterator[tuple[str | None]]) -> set[str]:
    return {body for (body,) in rows if body is not None}


def _save_key(rows: sqlite3.Connection, bucket: S3Bucket, key: str, bodies: Bodies) -> None:
    stored = {
        version: (record, body)
        for version, record, body in rows.execute(
            "SELECT version, record, body FROM objects WHERE bucket = ? AND key = ? ORDER BY seq", (bucket.name, key)
        )
    }
    tags = _tags(bucket)
    wanted = {
        version: (
            records.dump_version(thing, tags.get_tags(get_unique_key_id(bucket.name, key, version))),
            getattr(thing, "body", None),
        )
        for version, thing in _versions(bucket, key).items()
    }
    bodies.before |= {body for _, body in stored.values() if body}
    bodies.after |= {body for _, body in wanted.values() if body}
    kept = [version for version in stored if version in wanted]
    if kept != [version for version in wanted if version in stored] or list(wanted)[: len(kept)] != kept:
        # A new row comes last. Where memory has another order, all rows of the key are written anew.
        kept = []
    if gone := [version for version in stored if version not in kept]:
        rows.executemany(
            "DELETE FROM objects WHERE bucket = ? AND key = ? AND version = ?",
            [(bucket.name, key, version) for version in gone],
        )
    rows.executemany(
        "INSERT INTO objects (bucket, key, version, record, body) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (bucket, key, version) DO UPDATE SET record = excluded.record, body = excluded.body",
        [
            (bucket.name, key, version, *row)
            for version, row in wanted.items()
            if version not in kept or row != stored[version]
        ],
    )


def _restore_key(rows: sqlite3.Connection, bucket: S3Bucket, key: str) -> None:
    _forget_tags(bucket, key)
    stored = rows.execute(
        "SELECT version, record, body FROM objects WHERE bucket = ? AND key = ? ORDER BY seq", (bucket.name, key)
    )
    _put_key(bucket, key, stored)


def _save_upload(rows: sqlite3.Connection, bucket: S3Bucket, upload: str, bodies: Bodies) -> None:
    if (multipart := bucket.multiparts.get(upload)) is not None:
        # Its parts are saved one by one, as they come.
        rows.execute(
            "INSERT INTO uploads (bucket, id, record) VALUES (?, ?, ?) "
            "ON CONFLICT (bucket, id) DO UPDATE SET record = excluded.record",
            (bucket.name, upload, records.dump_upload(multipart)),
        )
        return
    where = (bucket.name, upload)
    bodies.before |= _bodies(rows.execute("SELECT body FROM parts WHERE bucket = ? AND upload = ?", where))
    rows.execute("DELETE FROM parts WHERE bucket = ? AND upload = ?", where)
    rows.execute("DELETE FROM uploads WHERE bucket = ? AND id = ?", where)


def _restore_upload(rows: sqlite3.Connection, bucket: S3Bucket, upload: str) -> None:
    where = (bucket.name, upload)
    row = rows.execute("SELECT record FROM uploads WHERE bucket = ? AND id = ?", where).fetchone()
    if row is None:
        bucket.multiparts.pop(upload, None)
        return
    multipart = records.load_upload(row[0])
    for number, text, body in rows.execute(
        "SELECT number, record, body FROM parts WHERE bucket = ? AND upload = ? ORDER BY number", where
    ):
        multipart.parts[str(number)] = records.load_part(text, body)
    bucket.multiparts[upload] = multipart


def _save_part(rows: sqlite3.Connection, bucket: S3Bucket, upload: str, number: int | None, bodies: Bodies) -> None:
    multipart = bucket.multiparts.get(upload)
    part = multipart.parts.get(str(number)) if multipart else None
    if part is None:
        return
    where = (bucket.name, upload, number)
    bodies.before |= _bodies(
        rows.execute("SELECT body FROM parts WHERE bucket = ? AND upload = ? AND number = ?", where)
    )
    bodies.after.add(part.body)
    rows.execute(
        "INSERT INTO parts (bucket, upload, number, record, body) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (bucket, upload, number) DO UPDATE SET record = excluded.record, body = excluded.body",
        (*where, records.dump_part(part), part.body),
    )


def _restore_part(rows: sqlite3.Connection, bucket: str, multipart: S3Multipart, number: int | None) -> None:
    multipart.parts.pop(str(number), None)
    row = rows.execute(
        "SELECT record, body FROM parts WHERE bucket = ? AND upload = ? AND number = ?", (bucket, multipart.id, number)
    ).fetchone()
    if row is not None:
        multipart.parts[str(number)] = records.load_part(*row)
