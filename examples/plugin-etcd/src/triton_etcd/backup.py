"""etcd in backups: the keys and values of the user, as records.

A restore loads them below a prefix of its own. To take over, it first keeps what is there below another one, and then
replaces it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from triton_env.archive.archive import Archive, ArchiveWriter
from triton_env.archive.manifest import SavedService
from triton_env.archive.records import Record, read_records, write_record
from triton_env.archive.steps import Meter
from triton_env.services.base_backup import KnownSpaces, Note, Programs, left_by_restores, plan_from
from triton_etcd.keys import names_of_restores, own_items, replace_own
from triton_etcd.service import Etcd

_MEMBER = "etcd/keys.records"


def save(service: Etcd, programs: Programs, archive: ArchiveWriter, meter: Meter, spaces: KnownSpaces) -> SavedService:
    """Save the keys of the user; see `Saver`."""
    items = own_items(service)
    with archive.member(_MEMBER, service.name, "keys", meter.count) as stream:
        for key, value in items.items():
            write_record(stream, Record({}, (key, value)))
    return SavedService(service.server_version(), notes=tuple(left_by_restores(names_of_restores(service))))


@dataclass(frozen=True, slots=True)
class Plan:
    """What a restore does to an etcd.

    Attributes:
        mark: begins the prefixes of what it makes.
    """

    mark: str


class EtcdTakeover:
    """See `Takeover`."""

    def __init__(self, service: Etcd, plan: Plan) -> None:
        self._service = service
        self._new = service.with_prefix(f"{plan.mark}_new_/")
        self._old = service.with_prefix(f"{plan.mark}_old_/")
        self._is_kept = service.with_prefix(f"{plan.mark}_old_kept/")

    def load(self, items: Mapping[bytes, bytes]) -> None:
        """Put keys beside those that are there."""
        with self._new.client() as client:
            client.fill(items)

    def swap(self) -> None:
        """Keep what is there, and then replace it by what was loaded."""
        with self._old.client() as old, self._is_kept.client() as is_kept, self._new.client() as new:
            old.fill(own_items(self._service))
            is_kept.put("all", "yes")
            replace_own(self._service, new.items())

    def put_back(self) -> None:
        with self._old.client() as old, self._is_kept.client() as is_kept:
            # Without it, what is there was not touched.
            if is_kept.get("all"):
                replace_own(self._service, old.items())
            is_kept.clear()
            old.clear()

    def discard(self) -> None:
        with self._new.client() as new:
            new.clear()

    def finish(self) -> None:
        with self._old.client() as old, self._is_kept.client() as is_kept:
            is_kept.clear()
            old.clear()
        self.discard()


def takeover(service: Etcd, plan: Mapping[str, Any], note: Note) -> EtcdTakeover:
    """By the plan of the journal; see `TakeoverOf`."""
    return EtcdTakeover(service, plan_from(Plan, plan))


class EtcdRestorer:
    """See `Restorer`."""

    def __init__(
        self, service: Etcd, programs: Programs, archive: Archive, meter: Meter, spaces: KnownSpaces, mark: str
    ) -> None:
        self._service = service
        self._archive = archive
        self._meter = meter
        self._plan = Plan(mark)
        self._takeover = EtcdTakeover(service, self._plan)

    def check(self) -> None:
        """Any etcd takes any keys."""

    def present(self) -> list[str]:
        count = len(own_items(self._service))
        return [f"{count} keys"] if count else []

    def plan(self) -> dict[str, Any]:
        return asdict(self._plan)

    def stage(self) -> None:
        self._meter.begin("keys")
        items = {}
        with self._archive.member(_MEMBER) as stream:
            for record in read_records(stream):
                key, value = record.parts
                items[key] = value
                self._meter.count(len(key) + len(value))
        self._takeover.load(items)

    def swap(self) -> None:
        self._meter.begin("taking over")
        self._takeover.swap()

    def finish(self, note: Note) -> None:
        self._takeover.finish()


def remains(service: Etcd) -> list[str]:
    """What restores left; see `Remains`."""
    return [f"keys below {name}/" for name in names_of_restores(service)]
