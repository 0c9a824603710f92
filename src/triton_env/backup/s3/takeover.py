"""How a restore of S3 is finished or taken back.

A bucket cannot be renamed. So what was loaded is complete in buckets beside those that are there, and once the restore
counts, these are filled from it within the server, one after another. However often that is broken off, it can be gone
on with.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from triton_env.backup.base import Note
from triton_env.backup.s3 import configuration
from triton_env.isolation.s3_copy import Admin, admin_of, copy_bucket, make_bucket, read_bucket, remove_bucket
from triton_env.services import S3


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

    def as_data(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        return asdict(self)


class S3Takeover:
    """See `Takeover`.

    Args:
        service: the server.
        plan: what `S3Restorer.plan` gave, or what was noted last.
        note: is given the plan whenever a bucket is done, before what it was filled from is removed.
    """

    def __init__(self, service: S3, plan: Plan, note: Note) -> None:
        self._service = service
        self._plan = plan
        self._note = note

    def put_back(self) -> None:
        """Nothing: nothing is replaced before the restore counts."""

    def discard(self) -> None:
        with _Clients(self._service) as clients:
            if not _is_there(clients, self._plan.mark):
                return
            for name in (*self._plan.staged.values(), *self._plan.direct):
                remove_bucket(clients, name)
            self._service.ensure_ready()
            remove_bucket(clients, self._plan.mark)

    def finish(self, fill: Callable[[str], None] | None = None) -> None:
        """See `Takeover.finish`.

        Args:
            fill: makes a bucket of that name and fills it; by default that is done from what was loaded.
        """
        with _Clients(self._service) as clients:
            if not _is_there(clients, self._plan.mark):
                return
            for name, staged in self._plan.staged.items():
                if name not in self._plan.done:
                    remove_bucket(clients, name)
                    if fill:
                        fill(name)
                    else:
                        _copy(clients, staged, name)
                    self._plan = replace(self._plan, done=(*self._plan.done, name))
                    self._note(self._plan.as_data())
                remove_bucket(clients, staged)
            for name in self._plan.superfluous:
                remove_bucket(clients, name)
            self._service.ensure_ready()
            remove_bucket(clients, self._plan.mark)


class _Clients:
    """The clients for the length of a block."""

    def __init__(self, service: S3) -> None:
        self._admin = admin_of(service)

    def __enter__(self) -> Admin:
        return self._admin

    def __exit__(self, *_: object) -> None:
        self._admin.close()


def _is_there(clients: Admin, bucket: str) -> bool:
    return any(each["Name"] == bucket for each in clients.client.list_buckets()["Buckets"])


def _copy(clients: Admin, source: str, name: str) -> None:
    found = read_bucket(clients, source)
    make_bucket(clients, name, found.configuration["region"])
    copy_bucket(clients.client, found, name, configuration.read(clients.client, name))
