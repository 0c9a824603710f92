"""Whose the keys of a server are: the user's, or below a prefix that isolation or a restore made."""

from collections.abc import Mapping

from triton_env.services.names import is_of_restore, is_space, is_users
from triton_etcd.service import Etcd


def own_items(service: Etcd) -> dict[bytes, bytes]:
    """The keys of the user, with their values."""
    with service.client() as client:
        return {key: value for key, value in client.items().items() if is_users(_prefix(key))}


def replace_own(service: Etcd, items: Mapping[bytes, bytes]) -> None:
    """Have the user's keys be these."""
    with service.client() as client:
        for key in own_items(service).keys() - items.keys():
            client.delete(key)
        client.fill(items)


def spaces(service: Etcd) -> frozenset[str]:
    """The ids of the spaces that have keys."""
    return _prefixes(service, of_restores=False)


def names_of_restores(service: Etcd) -> list[str]:
    """The prefixes that restores made."""
    return sorted(_prefixes(service, of_restores=True))


def _prefixes(service: Etcd, *, of_restores: bool) -> frozenset[str]:
    is_one = is_of_restore if of_restores else is_space
    with service.client() as client:
        return frozenset(name for name in map(_prefix, client.items()) if is_one(name))


def _prefix(key: bytes) -> str:
    name, slash, _ = key.decode(errors="replace").partition("/")
    return name if slash else ""
