"""S3: a space is the buckets whose names end with its suffix."""

import hashlib
import json
import logging
import re
import threading
import warnings
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from triton_env.core.printable import printable
from triton_env.core.threads import for_each
from triton_env.errors import InvalidSetting, IsolationFailed
from triton_env.services import S3
from triton_env.services.base_isolation import OWN, PREFIX, SNAPSHOT, TEMPLATE, ContentLost, Isolation, Space
from triton_env.services.s3 import configuration
from triton_env.services.s3.bucket_names import BucketNames
from triton_env.services.s3.claims import S3Board
from triton_env.services.s3.clients import THREADS
from triton_env.services.s3.copying import (
    Admin,
    CopiedBucket,
    admin_of,
    connect_bucket,
    copy_bucket,
    etags_in,
    make_bucket,
    read_bucket,
    remove_bucket,
)
from triton_env.services.s3.locks import held_versions
from triton_env.services.s3.names import bucket_names, space_ids, users_buckets
from triton_env.services.s3.notes import GONE, PROPERTIES, Notes

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_log = logging.getLogger(__name__)

_FROZEN: Final = (TEMPLATE, SNAPSHOT)
"""Spaces that do not change once they are made."""
_DATES: Final = timedelta(seconds=2)
"""How far apart buckets of the same name must be made so that their dates, in whole seconds, differ."""
_SHOWN: Final = 6
"""How many locked objects are named."""
_KIND: Final = re.compile(f"{PREFIX}([a-z]+)_([a-z0-9]|[a-z0-9][a-z0-9_]*[a-z0-9])")


class S3Isolation(Isolation[S3]):
    """What S3 does with spaces; see `Isolation`.

    The environment's own clients see the buckets of all spaces; those of a space see its own alone.
    """

    def __init__(self, service: S3) -> None:
        super().__init__(service)
        self._lock = threading.Lock()
        self._admin: Admin | None = None
        self._defaults: dict[str, Any] | None = None
        self._stays: set[str] = set()
        self._read: dict[tuple[str, datetime], CopiedBucket] = {}
        self._board = S3Board(service)

    def board(self) -> S3Board:
        return self._board

    def template_facts(self) -> tuple[str, ...]:
        return (self._service.bucket,)

    def bound(self, space: Space) -> S3:
        if space.is_own:
            return self._service
        names = names_of(space)
        return self._service._with_names(names)

    def create(self, space: Space, source: Space | None = None, *, is_new: bool = False) -> None:
        """Make a space; see `Isolation.create`.

        Objects are copied by the server, so that what was uploaded in parts has another ETag. Uploads that are not
        complete, and objects that the server does not hand out, are not copied: a warning names them. The bucket that
        the application expects is there in any case.

        Raises:
            InvalidSetting: a name of a bucket would be too long.
            IsolationFailed: an object has more than 5 GB, or a bucket of that name is not of triton-env.
        """
        names = names_of(space)
        there = {} if is_new and source is None else self._buckets()
        left = [name for name in there if names.has(name)]
        if left and names.real(self._service.bucket) not in left:
            raise IsolationFailed(
                f"The namespace {space.id} cannot be made: the name of the bucket {left[0]} conflicts with its names.",
                where="S3",
                hint=f"choose another name for the namespace, or: aws s3 rb --force s3://{left[0]}",
            )
        targets = {} if source is None else self._targets(space, source, there)
        self._remove(left, is_ours=True)
        try:
            self._make(space, source, targets)
        except BaseException:
            self._remove([names.real(self._service.bucket), *targets], is_ours=True)
            raise

    def drop(self, space: Space) -> None:
        """Remove a space, also where clients are connected to it. Does nothing if it does not exist.

        Raises:
            IsolationFailed: an object is locked in the compliance mode. A warning says so too: those that end a
                namespace do not wait for its removal.
        """
        try:
            self._remove(self._of(space, self._buckets()), is_ours=True)
        except IsolationFailed as error:
            if space.id not in self._stays:  # a removal is tried again and again
                self._stays.add(space.id)
                _warn(f"{space.id} stays on the server: {error.what} ({error.cause})")
            raise

    def replace(self, space: Space, source: Space | None) -> None:
        """Make what is in `space` a copy; see `Isolation.replace`.

        Buckets cannot be renamed. So all of the source is read before the first bucket is replaced, which is the last
        step: should the server fail in it, some buckets are incomplete. In the environment's own space, legal holds
        are the user's: they are looked for before.
        """
        there = self._buckets()
        targets = {} if source is None else self._targets(space, source, there)
        before = self._of(space, there)
        self._check_locks(before, is_ours=not space.is_own)
        self._remove(before, is_ours=not space.is_own)
        self._make(space, source, targets)

    def record(self, space: Space) -> str:
        """How many versions of objects each bucket holds, and a hash of what is in them."""
        return json.dumps({name: self._held(name) for name in self._of(space, self._buckets())})

    def verify(self, source: Space, record: str) -> None:
        held: dict[str, list[Any]] = json.loads(record)
        for name, (count, content) in held.items():
            if not count:
                continue
            now, found = self._held(name)
            if now != count:
                raise ContentLost(f"the bucket {name} has {now} versions of objects instead of {count}")
            if found != content:
                raise ContentLost(f"the bucket {name} has other objects than it had")
        self._verify_there([name for name, (count, _) in held.items() if not count])

    def verify_copy(self, copy: Space, source: Space | None, record: str, *, is_new: bool = False) -> None:
        if source and is_new:
            # The server has answered that each object was copied that was there.
            self.verify(source, record)
            return
        names = names_of(copy)
        held = json.loads(record) if source else {}
        targets = {names.real(names_of(source or OWN).expected(name)): count for name, (count, _) in held.items()}
        for target, count in {names.real(self._service.bucket): 0, **targets}.items():
            # One request in most cases, since it holds up a test.
            if (found := self._clients.quick.etags(target)) is None:
                self._verify_there([target])
            if count and not found and not etags_in(self._clients, target):
                raise ContentLost(f"the bucket {target} was emptied")

    def _held(self, name: str) -> tuple[int, str]:
        etags = etags_in(self._clients, name)
        return len(etags), hashlib.sha256("\n".join(sorted(etags)).encode()).hexdigest()

    def _verify_there(self, names: Collection[str]) -> None:
        missing = set(names) - (self._buckets().keys() if names else set())
        if missing:
            raise ContentLost(f"the bucket {min(missing)} was deleted")

    def clear(self, kept: Collection[Space], records: Collection[str] = (), idle: Collection[Space] = ()) -> None:
        there = self._buckets()
        stay = {name for space in kept for name in self._of(space, there)}
        own = self._of(OWN, there)
        left = [name for name in there if name not in stay]
        self._check_locks([name for name in left if name in own], is_ours=False)
        for name in left:
            self._client.delete_bucket_tagging(Bucket=name)  # moto keeps them for the next bucket of the name
        self._remove([name for name in left if name in own], is_ours=False)
        self._remove([name for name in left if name not in own], is_ours=True)
        if self._service.bucket not in stay:
            make_bucket(self._clients, self._service.bucket, self._service.region)

    def found(self) -> frozenset[str]:
        return frozenset(space_ids(self._service.bucket, self._buckets()))

    def break_off(self) -> None:
        if (admin := self._admin) is not None:
            admin.quick.break_off()

    def close(self) -> None:
        self._board.close()
        with self._lock:
            admin, self._admin = self._admin, None
        if admin is not None:
            admin.close()

    @property
    def _clients(self) -> Admin:
        with self._lock:
            if self._admin is None:
                self._admin = admin_of(self._service)
            return self._admin

    @property
    def _client(self) -> "S3Client":
        return self._clients.client

    def _buckets(self) -> dict[str, datetime]:
        """All buckets, with their dates."""
        found = self._clients.quick.buckets()
        if found is None:
            answer = self._client.list_buckets()
            found = {bucket["Name"]: bucket["CreationDate"] for bucket in answer["Buckets"]}
        return found

    def _of(self, space: Space, there: Collection[str]) -> list[str]:
        """The buckets of a space. The environment's own are those that are of no other."""
        if space.is_own:
            return users_buckets(self._service.bucket, there)
        names = names_of(space)
        return [name for name in there if names.has(name)]

    def _targets(self, space: Space, source: Space, there: Mapping[str, datetime]) -> dict[str, CopiedBucket]:
        """By the name of its copy, each bucket of the source. What a copy will not have is said now."""
        before, after = names_of(source), names_of(space)
        names = {after.real(before.expected(name)): name for name in self._of(source, there)}
        notes = Notes()
        read = {target: self._copied(source, name, there[name], notes) for target, name in names.items()}
        self._say(notes, source)
        return {target: bucket for target, bucket in read.items() if bucket is not None}

    def _copied(self, source: Space, name: str, date: datetime, notes: Notes) -> CopiedBucket | None:
        if found := self._read.get((name, date)):
            return found
        read = read_bucket(self._clients, name, notes)
        if read is None:
            notes.add(GONE, name)
        elif source.id.startswith(_FROZEN) and datetime.now(UTC) - date > _DATES:
            self._read[name, date] = read
        return read

    def _make(self, space: Space, source: Space | None, targets: Mapping[str, CopiedBucket]) -> None:
        """Make the buckets of a space that has none. The expected one comes first: by it the space is known."""
        expected = names_of(space).real(self._service.bucket)
        if expected not in targets:
            make_bucket(self._clients, expected, self._service.region)
        notes = Notes()
        for name in sorted(targets, key=lambda name: name != expected):
            wanted = targets[name].configuration
            make_bucket(self._clients, name, wanted["region"], locks=configuration.has_lock_at_once(wanted))
            if self._defaults is None:
                # Of a new bucket, so that what is as it shall be is not asked for and set again in every copy.
                self._defaults = configuration.read(self._client, name)
                self._defaults.pop("object_lock", None)
            copy_bucket(self._client, targets[name], name, self._defaults, notes)
        copies = {bucket.name: name for name, bucket in targets.items()}
        for name, bucket in targets.items():
            for part in connect_bucket(self._client, bucket, name, self._defaults or {}, copies):
                notes.add(PROPERTIES, part)
        self._say(notes, source)

    def _say(self, notes: Notes, source: Space | None) -> None:
        """Warn of what a copy does not have. What is gone from a template or a snapshot is an error."""
        gone = notes.names(GONE)
        if gone and source and source.id.startswith(_FROZEN):
            kind = "snapshot" if source.id.startswith(SNAPSHOT) else "template"
            raise IsolationFailed(
                f"The {kind} {source.id} is no longer complete in S3: {gone[0]} is gone.",
                where="S3",
                cause="something deleted it, such as a test that empties all buckets",
                hint="take the snapshot again" if kind == "snapshot" else "pytest --triton-rebuild",
            )
        # What comes and goes while it is copied does not stop those that take warnings for errors.
        if gone:
            _log.warning("S3: %s", printable(GONE.replace("{}", ", ".join(gone[:_SHOWN]))))
        for sentence in notes.sentences(but=GONE):
            _warn(sentence)

    def _check_locks(self, names: Collection[str], *, is_ours: bool) -> None:
        """See that buckets can be removed, before the first of them is."""
        held = held_versions(self._client, names, releases_holds=is_ours)
        if held:
            raise IsolationFailed(
                f"The S3 object {held[0]} is locked, so its bucket cannot be replaced. Nothing was changed in S3.",
                where=f"locked: {', '.join(held[:_SHOWN])}{', ...' if len(held) > _SHOWN else ''}",
                hint="end a legal hold: env.s3.client().put_object_legal_hold(Bucket=..., Key=..., "
                'LegalHold={"Status": "OFF"})',
            )

    def _remove(self, names: Collection[str], *, is_ours: bool) -> None:
        for_each(list(names), lambda name: remove_bucket(self._clients, name, is_ours=is_ours), THREADS)


def _warn(words: str) -> None:
    warnings.warn(printable(f"S3: {words}"), stacklevel=2)


def names_of(space: Space) -> BucketNames:
    """How the buckets of a space are called.

    Two hyphens stand for each underscore of its name, so that no suffix ends with another.

    Raises:
        InvalidSetting: its name does not fit into one of a bucket.
    """
    if space.is_own:
        return BucketNames()
    found = _KIND.fullmatch(space.id)
    if found is None:
        raise InvalidSetting(
            f"{space.id} cannot have buckets: their names end with a letter or a digit.",
            where="S3",
            hint="choose a name that begins and ends with a letter or a digit",
        )
    return bucket_names(space.id)
