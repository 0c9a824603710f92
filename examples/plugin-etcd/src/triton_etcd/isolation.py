"""etcd: a space is a prefix of keys. The environment's own are those that the user made."""

import hashlib
import json
from collections.abc import Collection

from triton_env.services.base_isolation import ContentLost, Isolation, Space
from triton_etcd import keys
from triton_etcd.service import Etcd


class EtcdIsolation(Isolation[Etcd]):
    """Spaces in an etcd, version 3."""

    def bound(self, space: Space) -> Etcd:
        return self._service.with_prefix(f"{space.id}/") if space.id else self._service

    def create(self, space: Space, source: Space | None = None, *, is_new: bool = False) -> None:
        self.replace(space, source)

    def drop(self, space: Space) -> None:
        self.replace(space, None)

    def replace(self, space: Space, source: Space | None) -> None:
        wanted = self._items(source) if source else {}
        if space.is_own:
            keys.replace_own(self._service, wanted)
            return
        with self.bound(space).client() as client:
            client.clear()
            client.fill(wanted)

    def record(self, space: Space) -> str:
        items = self._items(space)
        words = json.dumps([[key.hex(), value.hex()] for key, value in sorted(items.items())])
        return hashlib.sha256(words.encode()).hexdigest() if items else ""

    def verify(self, source: Space, record: str) -> None:
        if self.record(source) != record:
            raise ContentLost(f"the keys below {source.id}/ are others")

    def verify_copy(self, copy: Space, source: Space | None, record: str, *, is_new: bool = False) -> None:
        if source is not None:
            self.verify(source, record)
            self.verify(copy, record)

    def clear(self, kept: Collection[Space], records: Collection[str] = (), idle: Collection[Space] = ()) -> None:
        keys.replace_own(self._service, {})
        for identifier in self.found() - {space.id for space in kept}:
            self.drop(Space(identifier))

    def found(self) -> frozenset[str]:
        return keys.spaces(self._service)

    def close(self) -> None:
        """There is nothing to close: each client is closed where it was made."""

    def _items(self, space: Space) -> dict[bytes, bytes]:
        if space.is_own:
            return keys.own_items(self._service)
        with self.bound(space).client() as client:
            return client.items()
