"""How a restore of S3 is finished or taken back.

A bucket cannot be renamed. So what was loaded is complete in buckets beside those that are there, and once the restore
counts, these are filled from it within the server, one after another. However often that is interrupted, it can be gone
on with.

What would be in the way of that comes last: locks, since nothing removes some of them, and what names other buckets.
Until then it is in the bucket that marks the restore.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from triton_env.services import S3
from triton_env.services.base_backup import Note, plan_from
from triton_env.services.s3 import configuration
from triton_env.services.s3.copying import Admin, admin_of, copy_bucket, make_bucket, read_bucket, remove_bucket
from triton_env.services.s3.locks import Locked, set_locks
from triton_env.services.s3.notes import Notes

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_TRIES = 5
"""How often to make a bucket that others make too."""

_BEGUN = "begun/"
"""Begins the keys, in the bucket that marks a restore, by which it notes what it loads in its place."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a restore does to an S3.

    Attributes:
        mark: the name of a bucket that is there as long as the restore is unfinished, and begins the names of others.
        staged: by the name in the end, that of each bucket in which it is loaded.
        direct: the buckets that are loaded in their place, since there is nothing there.
        superfluous: the buckets of which the backup has nothing.
        done: the buckets that are filled.
    """

    mark: str
    staged: Mapping[str, str] = field(default_factory=dict)
    direct: Sequence[str] = ()
    superfluous: Sequence[str] = ()
    done: Sequence[str] = ()


class S3Takeover:
    """See `Takeover`.

    Args:
        plan: what `S3Restorer.plan` gave, or what was noted last.
        note: is given the plan whenever a bucket is done, before what it was filled from is removed.

    Attributes:
        differences: by the name of a bucket, what of the backup the server did not take, in words.
    """

    def __init__(self, service: S3, plan: Plan, note: Note) -> None:
        self._service = service
        self._plan = plan
        self._note = note
        self.differences: dict[str, list[str]] = {}

    def put_back(self) -> None:
        """Nothing: nothing is replaced before the restore counts."""

    def discard(self) -> None:
        with closing(admin_of(self._service)) as clients:
            if not _is_there(clients, self._plan.mark):
                return
            begun = [name for name in self._plan.direct if _has_begun(clients.client, self._plan.mark, name)]
            for name in (*self._plan.staged.values(), *begun):
                remove_bucket(clients, name, is_ours=True)
            self._service.ensure_ready()
            remove_bucket(clients, self._plan.mark, is_ours=True)

    def finish(self, fill: Callable[[str], None] | None = None) -> None:
        """See `Takeover.finish`.

        Args:
            fill: makes a bucket of that name and fills it; by default that is done from what was loaded.
        """
        with closing(admin_of(self._service)) as clients:
            if not _is_there(clients, self._plan.mark):
                return
            for name, staged in self._plan.staged.items():
                if name not in self._plan.done:
                    _refill(clients, name, fill or partial(self._copy, clients, staged))
                    self._plan = replace(self._plan, done=(*self._plan.done, name))
                    self._note(asdict(self._plan))
                remove_bucket(clients, staged, is_ours=True)
            for name in self._plan.superfluous:
                remove_bucket(clients, name, is_ours=False)
            self._service.ensure_ready()
            for name in (*self._plan.direct, *self._plan.staged):
                self._complete(clients.client, name)
            remove_bucket(clients, self._plan.mark, is_ours=True)

    def _copy(self, clients: Admin, staged: str, name: str) -> None:
        found = read_bucket(clients, staged, Notes())
        assert found is not None, f"{staged} stays until it is copied"
        wanted, _ = _remembered(clients.client, self._plan.mark, name)
        make_bucket(clients, name, wanted["region"], locks=configuration.has_lock_at_once(wanted))
        defaults = configuration.read(clients.client, name)
        defaults.pop("object_lock", None)
        copy_bucket(clients.client, replace(found, configuration=wanted), name, defaults, Notes())

    def _complete(self, client: "S3Client", name: str) -> None:
        """Give a bucket that is filled its locks and what names other buckets, which are all there by now."""
        wanted, locks = _remembered(client, self._plan.mark, name)
        configuration.apply(client, name, wanted, names_buckets=True)
        missing = [f"no {part.replace('_', ' ')}" for part in configuration.missing(client, name, wanted)]
        self.differences[name] = [*missing, *(f"no lock of {key}" for key in set_locks(client, name, locks))]


def takeover(service: S3, plan: Mapping[str, Any], note: Note) -> S3Takeover:
    """The takeover of a restore by what `S3Restorer.plan` gave; see `TakeoverOf`."""
    return S3Takeover(service, plan_from(Plan, plan), note)


def _refill(clients: Admin, name: str, fill: Callable[[str], None]) -> None:
    """Make a bucket anew. Others may be quicker, such as a start that finds the one missing that it expects."""
    for tries_left in reversed(range(_TRIES)):
        remove_bucket(clients, name, is_ours=False)
        try:
            return fill(name)
        except clients.client.exceptions.BucketAlreadyOwnedByYou:
            if not tries_left:
                raise
    return None


def begin(client: "S3Client", mark: str, name: str) -> None:
    """Note that a bucket is loaded in its place: only from then on what is in it is not the user's."""
    client.put_object(Bucket=mark, Key=f"{_BEGUN}{name}/", Body=b"")


def _has_begun(client: "S3Client", mark: str, name: str) -> bool:
    return bool(client.list_objects_v2(Bucket=mark, Prefix=f"{_BEGUN}{name}/", MaxKeys=1).get("KeyCount"))


def remember(client: "S3Client", mark: str, name: str, wanted: Mapping[str, Any], locks: Sequence[Locked]) -> None:
    """Keep what a bucket gets at the end of a restore.

    Args:
        mark: the bucket that marks the restore.
        name: of the bucket in the end.
    """
    body = json.dumps({"configuration": wanted, "locks": [tuple(each) for each in locks]}).encode()
    client.put_object(Bucket=mark, Key=name, Body=body)


def _remembered(client: "S3Client", mark: str, name: str) -> tuple[dict[str, Any], list[Locked]]:
    found = json.loads(client.get_object(Bucket=mark, Key=name)["Body"].read())
    return found["configuration"], [Locked(*each) for each in found["locks"]]


def _is_there(clients: Admin, bucket: str) -> bool:
    return any(each["Name"] == bucket for each in clients.client.list_buckets()["Buckets"])
