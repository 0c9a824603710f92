"""etcd: a space is a prefix of keys. The environment's own are the keys without the prefix of a space."""

import hashlib
import json
from collections.abc import Collection

from triton_env.services.base_isolation import ContentLost, Isolation, Space
from triton_env.services.names import is_space
from triton_etcd.client import EtcdClient
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
            self._remove_own(set(wanted))
        with self._client(space) as client:
            if not space.is_own:
                client.clear()
            client.fill(wanted)

    def record(self, space: Space) -> str:
        items = self._items(space)
        if not items:
            return ""
        words = json.dumps([[key.hex(), value.hex()] for key, value in sorted(items.items())])
        return hashlib.sha256(words.encode()).hexdigest()

    def verify(self, source: Space, record: str) -> None:
        if self.record(source) != record:
            raise ContentLost(f"the keys below {source.id}/ are others")

    def verify_copy(self, copy: Space, source: Space | None, record: str, *, is_new: bool = False) -> None:
        if source is not None:
            self.verify(source, record)
            self.verify(copy, record)

    def clear(self, kept: Collection[Space], records: Collection[str] = (), idle: Collection[Space] = ()) -> None:
        self._remove_own(set())
        for identifier in self.found() - {space.id for space in kept}:
            self.drop(Space(identifier))

    def found(self) -> frozenset[str]:
        with self._service.client() as client:
            return frozenset(name for key in client.items() if (name := _space_of(key)))

    def close(self) -> None:
        """There is nothing to close: each client is closed where it was made."""

    def _client(self, space: Space) -> EtcdClient:
        return self.bound(space).client()

    def _items(self, space: Space) -> dict[bytes, bytes]:
        with self._client(space) as client:
            items = client.items()
        return {key: value for key, value in items.items() if not (space.is_own and _space_of(key))}

    def _remove_own(self, but: Collection[bytes]) -> None:
        with self._service.client() as client:
            for key in client.items():
                if key not in but and not _space_of(key):
                    client.delete(key)


def _space_of(key: bytes) -> str:
    """The space that a key of the server is of; empty for the environment's own."""
    name, slash, _ = key.decode(errors="replace").partition("/")
    return name if slash and is_space(name) else ""
