"""The persistent services of a project in a cluster."""

import hashlib
import json
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from triton_env.core.model import Endpoint, Placement, ServiceRecipe, Storage
from triton_env.core.usage import Usage
from triton_env.errors import CleanupFailed, ClusterFailed, ProjectTaken, TritonError
from triton_env.persistent.compose_file import checkout
from triton_env.persistent.instance import Instance
from triton_env.persistent.kubernetes.forwarding import Forwarder
from triton_env.persistent.kubernetes.instances import (
    CHECKOUT,
    DIGEST,
    Found,
    ProjectPod,
    described,
    is_same,
)
from triton_env.persistent.kubernetes.orders import Order
from triton_env.persistent.kubernetes.waiting import Wait
from triton_env.persistent.stack import Belongings, Stack, Words
from triton_env.runtimes.kubernetes.access import PodAccess
from triton_env.runtimes.kubernetes.cluster import Cluster, cluster_of, in_pod
from triton_env.runtimes.kubernetes.looks import Looks
from triton_env.runtimes.kubernetes.objects import MANAGED_BY, Object, name_of
from triton_env.runtimes.kubernetes.project import Shape, project_metadata, project_objects
from triton_env.runtimes.kubernetes.runtime import loopback
from triton_env.runtimes.kubernetes.usage import usage_of
from triton_env.runtimes.owner import PROJECT_LABEL, SERVICE_LABEL
from triton_env.services import SERVICES, Service
from triton_env.settings import Settings

if TYPE_CHECKING:
    from triton_env.persistent.kubernetes.runtime import PersistentPods

_SERVERS = "statefulsets.apps,services"
"""What services have besides their data, in the order in which it is removed."""
_DATA = "secrets,persistentvolumeclaims"
"""Their data, and the passwords that it was made with."""
_REMOVAL_TIMEOUT = 180
"""Seconds for the end of pods: servers get time to write what they hold."""


class KubernetesStack(Stack):
    """The persistent services of a project as StatefulSets of a cluster; see `Stack`.

    Attributes:
        address: the address of this machine to which their ports are forwarded.
        is_inside: whether this process is in the cluster, and needs no forwarded ports.
        forwarder: the process that forwards them.
        looks: what the cluster says of its pods.

    Args:
        cluster: the namespace that has them, unless the settings name another one; None for that of the kubeconfig.

    Raises:
        RuntimeUnavailable: `kubectl` or a kubeconfig is missing.
        InvalidSetting: settings that disagree, or that no cluster takes.
    """

    runtime = "kubernetes"
    cluster: Cluster
    _absent = "it was not started"

    def __init__(self, settings: Settings, *, any_checkout: bool = False, cluster: Cluster | None = None) -> None:
        super().__init__(settings, any_checkout=any_checkout)
        on_disk = self.settings.updated(triton_storage=Storage.DISK)
        self._recipes = {name: kind.recipe(on_disk) for name, kind in SERVICES.items()}
        for name in SERVICES:
            project_metadata(name, self.settings)
        names_one = self.settings.triton_k8s_context or self.settings.triton_k8s_namespace
        self.cluster = cluster if cluster and not names_one else cluster_of(self.settings)
        self.address = loopback(self.settings.triton_bind_address)
        self.is_inside = in_pod() and not self.cluster.context
        self.forwarder = Forwarder(self.settings, self.project, self.cluster)
        self._selector = f"{MANAGED_BY}=triton-env,{PROJECT_LABEL}={self.project}"
        self.looks = Looks(self.cluster, self._selector)

    @property
    def place(self) -> str:
        return f"Cluster: {self.cluster.title}"

    @cached_property
    def checkout(self) -> str:
        """The machine and the folder of the project that is at work; empty where it is any."""
        folder = "" if self._any_checkout else checkout()
        return f"{socket.gethostname()}:{folder}" if folder else ""

    def offered(self) -> tuple[str, ...]:
        return tuple(name for name in SERVICES if self._recipes[name].data)

    def recipe(self, name: str) -> ServiceRecipe:
        """A service whose data stays."""
        return self._recipes[name]

    def open(self, recipes: Sequence[ServiceRecipe], *, apply: bool, say: Callable[[str], None]) -> "PersistentPods":
        from triton_env.persistent.kubernetes.runtime import PersistentPods

        return PersistentPods(self, [self.recipe(recipe.name) for recipe in recipes], apply=apply, say=say)

    def instances(self) -> Mapping[str, ProjectPod]:
        found = self.found()
        noted = self.forwarder.noted()
        forwarded = noted.services if noted else {}
        return {
            name: described(
                self.access(name).pod,
                found.pods.get(name),
                found.secrets.get(name),
                forwarded.get(name),
                is_inside=self.is_inside,
            )
            for name in found.stateful_sets
            if name in SERVICES
        }

    def objects(self, name: str) -> tuple[Object, ...]:
        """What a service is made of, with the settings."""
        made = self._made(name)
        notes = {"Secret": {DIGEST: _digest(made)}, "StatefulSet": {CHECKOUT: self.checkout}}
        return tuple(
            {**each, "metadata": {**each["metadata"], "annotations": notes[each["kind"]]}}
            if each["kind"] in notes
            else each
            for each in made
        )

    def digest(self, name: str) -> str:
        """What distinguishes how a service runs with the settings."""
        return _digest(self._made(name))

    def _made(self, name: str) -> tuple[Object, ...]:
        # Each command line names the namespace: what a service is made of does not depend on who chose it.
        return project_objects(self.recipe(name), self.settings.updated(triton_k8s_namespace=""), Shape.STATEFUL_SETS)

    def running(self) -> dict[str, Service]:
        # Without one nothing is reached, also where the cluster does not answer.
        return super().running() if self.is_inside or self.forwarder.is_alive else {}

    def create(self, names: Sequence[str]) -> None:
        """Make services in the turn of this process, in the place of what there is of them but their data.

        Raises:
            ProjectTaken: objects of these names belong to another program.
            TritonError: the cluster refused.
        """
        self.delete(names)
        # It says what the data was made with, so it is replaced, and goes with the data alone.
        self._delete("secrets", names)
        objects = [each for name in names for each in self.objects(name)]
        try:
            self.cluster.create(objects, what=f"create the services of the project {self.project}")
        except ClusterFailed as error:
            if "already exists" not in error.cause:
                raise
            raise ProjectTaken(
                f"Objects of the cluster have the names of services of the project {self.project}.",
                where=self.cluster.title,
                cause=error.cause,
                hint=f"run beside them: --project {self.project}2, or TRITON_PROJECT={self.project}2 in .env",
            ) from error
        finally:
            self.looks.forget()

    def delete(self, names: Sequence[str] = (), *, data: bool = False) -> None:
        """Remove services, or all of the project, in the turn of this process, and wait for their end.

        Raises:
            TritonError: the cluster did not do so.
        """
        self._delete(_SERVERS, names, "--cascade=foreground")
        if data:
            self._delete(_DATA, names)

    def lost(self, name: str) -> str:
        """Where the passwords are that the data of a service was made with; see `DataRecipe.remedies`."""
        return f" (in base64: {self.cluster.kubectl} get secret {name_of(self.project, name)} -o yaml)"

    def order(self, name: str) -> Order:
        """What the forwarder is asked for."""
        recipe = self.recipe(name)
        return Order(
            service=name,
            title=recipe.title,
            pod=self.access(name).pod,
            address=self.address,
            ports={port.name: port.fixed for port in recipe.ports},
            numbers={port.name: port.number for port in recipe.ports},
        )

    def placement(self, name: str, forwarded: Order | None) -> Placement:
        """Where a service answers."""
        host = f"{name_of(self.project, name)}.{self.cluster.namespace}.svc"
        internal = {port.name: Endpoint(host, port.number) for port in self.recipe(name).ports}
        order = forwarded or self.order(name)
        here = {port: Endpoint(order.address, number) for port, number in order.ports.items()}
        return Placement(endpoints=internal if self.is_inside else here, internal=internal)

    def _down(self) -> None:
        self.instances()
        with self._turn():
            self.delete()
            self.forwarder.end()

    def belongings(self, names: Sequence[str] = ()) -> Belongings:
        found = self.found()
        return Belongings(
            servers={
                each["metadata"]["uid"]: each["metadata"]["name"]
                for name, each in found.stateful_sets.items()
                if not names or name in names
            },
            networks={},
            data=tuple(
                each["metadata"]["name"] for name, each in sorted(found.claims.items()) if not names or name in names
            ),
            server=Words("StatefulSet", "StatefulSets"),
            holder=Words("claim", "claims"),
        )

    def with_data(self, names: Sequence[str] = ()) -> tuple[str, ...]:
        claims = self.found().claims
        return tuple(name for name in names or SERVICES if name in claims)

    def sizes(self, data: Sequence[str]) -> dict[str, int]:
        return {}

    def access(self, name: str) -> PodAccess:
        return PodAccess(self.cluster, f"{name_of(self.project, name)}-0")

    def _service(self, name: str, instance: Instance) -> Service:
        return SERVICES[name](self.settings_of(instance), self.placement(name, _pod(instance).forwarded))

    def _given(self, instance: Instance) -> Mapping[str, str]:
        return {name.lower(): value for name, value in _pod(instance).given.items()}

    def _usage(self, instance: Instance) -> Usage | None:
        return usage_of(PodAccess(self.cluster, instance.name))

    def _restart(self, names: Sequence[str]) -> None:
        self.delete_and_wait("pod", *(self.access(name).pod for name in names), what="restart services of the project")

    def _wait_for(self, name: str, instance: Instance, probe: Callable[[], None], cancelled: threading.Event) -> None:
        Wait(self, self.recipe(name), cancelled).for_service(probe, before=0, forward=True)

    def _remove(self, names: Sequence[str]) -> Belongings:
        gone = self.belongings(names)
        try:
            self.delete(names, data=True)
        except TritonError as error:
            raise CleanupFailed(
                f"Not everything of the project {self.project} could be removed.",
                where=self.cluster.title,
                cause=error.cause or error.what,
                hint=f"{self.cluster.kubectl} get {_SERVERS},{_DATA} --selector {self._selecting(names)}",
            ) from error
        if names:
            self.forwarder.drop(names)
        else:
            self.forwarder.end()
        return gone

    def _delete(self, kinds: str, names: Sequence[str], *how: str) -> None:
        self.delete_and_wait(kinds, "--selector", self._selecting(names), *how, what="remove services of the project")

    def delete_and_wait(self, *words: str, what: str) -> None:
        """Have `kubectl delete` remove what these words name, and wait for its end. Raises as `Cluster.run` does."""
        limit = ("--wait=true", f"--timeout={_REMOVAL_TIMEOUT}s", "--ignore-not-found")
        command = self.cluster.command("delete", *words, *limit, timeout=None)
        self.cluster.run_command(command, what=what, timeout=2 * _REMOVAL_TIMEOUT)
        self.looks.forget()

    def _selecting(self, names: Sequence[str]) -> str:
        return f"{self._selector},{SERVICE_LABEL} in ({','.join(names)})" if names else self._selector

    def found(self) -> Found:
        """Look at what the cluster has.

        Raises:
            ProjectTaken: it is that of another checkout.
        """
        kinds: dict[str, dict[str, Object]] = {}
        asked = f"statefulsets.apps,pods,{_DATA}"
        for each in self.cluster.list(asked, self._selector, what="look at what it has of the project"):
            service = each["metadata"]["labels"].get(SERVICE_LABEL, "")
            # Pods that `manifests` printed have the labels of the project as well.
            if each["kind"] != "Pod" or each["metadata"]["name"] == self.access(service).pod:
                kinds.setdefault(each["kind"], {})[service] = each
        found = Found(*(kinds.get(kind, {}) for kind in ("StatefulSet", "Pod", "Secret", "PersistentVolumeClaim")))
        for each in found.stateful_sets.values():
            self._check_ours((each["metadata"].get("annotations") or {}).get(CHECKOUT, ""))
        return found

    def _check_ours(self, noted: str) -> None:
        if noted and self.checkout and not is_same(noted, self.checkout):
            raise ProjectTaken(
                f"The persistent services {self.project!r} belong to another checkout.",
                where=f"{self.cluster.title}, of {noted}",
                cause=f"this one is {self.checkout}",
                hint=f"run beside it: --project {self.project}2, or TRITON_PROJECT={self.project}2 in .env; or take"
                f" them over: {self.cluster.kubectl} annotate statefulsets --selector '{self._selector}' {CHECKOUT}-",
            )


def _digest(objects: Sequence[Object]) -> str:
    return hashlib.sha256(json.dumps(objects, sort_keys=True).encode()).hexdigest()[:16]


def _pod(instance: Instance) -> ProjectPod:
    assert isinstance(instance, ProjectPod)
    return instance
