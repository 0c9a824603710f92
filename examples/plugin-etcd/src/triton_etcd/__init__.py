"""etcd for triton-env: the service that its entry point names."""

from triton_etcd.service import Etcd

__all__ = ["Etcd"]
