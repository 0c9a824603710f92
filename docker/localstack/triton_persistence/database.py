"""The SQLite file: its layout, its lock, its transactions. It knows rows, and nothing of S3's classes."""

import fcntl
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from . import FORMAT
from .errors import Refused

SCHEMA = """
CREATE TABLE manifest (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE buckets (name TEXT PRIMARY KEY, account TEXT NOT NULL, region TEXT NOT NULL, record TEXT NOT NULL);
CREATE TABLE objects (
    seq INTEGER PRIMARY KEY,  -- versions of a key are in the order of their rows
    bucket TEXT NOT NULL, key TEXT NOT NULL, version TEXT NOT NULL,  -- '' in a bucket that was never versioned
    body TEXT,  -- NULL for a delete marker
    record TEXT NOT NULL,
    UNIQUE (bucket, key, version)
);
CREATE TABLE uploads (bucket TEXT NOT NULL, id TEXT NOT NULL, record TEXT NOT NULL, PRIMARY KEY (bucket, id));
CREATE TABLE parts (
    bucket TEXT NOT NULL, upload TEXT NOT NULL, number INTEGER NOT NULL, body TEXT NOT NULL, record TEXT NOT NULL,
    PRIMARY KEY (bucket, upload, number)
);
"""


class Database:
    """The open database. One connection serves all threads, one transaction at a time."""

    def __init__(self, folder: Path, version: str) -> None:
        """Open or create it, and keep other servers out until the process ends.

        Args:
            folder: Where `meta.db` and `lock` are, and the bodies in `data`.
            version: The version of this LocalStack.

        Raises:
            Refused: Another server uses the folder, or its data is not for this version.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "meta.db"
        self.closed = False
        self._lock = threading.RLock()
        self._server = (folder / "lock").open("w")
        try:
            fcntl.flock(self._server, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused(f"{folder} is locked: another LocalStack uses this volume. Stop that one first.") from None
        try:
            self._check(folder, version)
            self._connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=10)
            self._connection.execute("PRAGMA journal_mode=WAL")
            # A commit is safe once the kernel has it. Waiting for the disk too would double the time of a write.
            self._connection.execute("PRAGMA synchronous=NORMAL")
            if not self._has_tables():
                self._create(version)
        except sqlite3.Error as error:
            raise Refused(f"the database {self.path} cannot be used: {error}.") from error

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Run the block's statements as one. Either all of them hold afterwards, or none."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Run the block's queries while nothing is written."""
        with self._lock:
            yield self._connection

    def close(self) -> None:
        """Close it. Later calls fail, so that nothing is acknowledged which is not saved."""
        with self._lock:
            self.closed = True
            self._connection.close()

    def _check(self, folder: Path, version: str) -> None:
        """Look before anything is written: a refused volume stays as it is."""
        if not self.path.exists() or not self.path.stat().st_size:
            if next((folder / "data").glob("*/*"), None) is not None:
                raise Refused(f"{folder} holds bodies of objects but no database {self.path.name}.")
            return
        with closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True, timeout=10)) as connection:
            if not connection.execute("SELECT 1 FROM sqlite_schema").fetchone():
                return
            manifest = dict(connection.execute("SELECT name, value FROM manifest"))
        for fact, name, here in (("format", "data format", FORMAT), ("localstack", "LocalStack", version)):
            if manifest.get(fact) != here:
                raise Refused(
                    f"{folder} was written with {name} {manifest.get(fact)}, and this is {name} {here}. Use what wrote "
                    "it, or a new volume; to move, copy the objects from one to the other over the S3 API."
                )

    def _has_tables(self) -> bool:
        return self._connection.execute("SELECT 1 FROM sqlite_schema").fetchone() is not None

    def _create(self, version: str) -> None:
        facts = [("format", FORMAT), ("localstack", version)]
        with self.transaction() as connection:
            for statement in filter(str.strip, SCHEMA.split(";\n")):
                connection.execute(statement)
            connection.executemany("INSERT INTO manifest VALUES (?, ?)", facts)
        # Into the main file, where a reader finds them who cannot read the log.
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
