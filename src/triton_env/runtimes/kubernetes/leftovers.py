"""What environments have in a cluster: found by their leases, with which everything else of them is removed."""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from triton_env.errors import TritonError
from triton_env.runtimes.kubernetes.cluster import Cluster
from triton_env.runtimes.kubernetes.objects import LEASE_SECONDS, OURS
from triton_env.runtimes.owner import ENVIRONMENT_LABEL, Owner, OwnerLiveness, OwnerState

_log = logging.getLogger(__name__)

_CLOCK = {
    "apiVersion": "coordination.k8s.io/v1",
    "kind": "Lease",
    "metadata": {"generateName": "triton-clock-"},
}


@dataclass(frozen=True, slots=True)
class ClusterLeftover:
    """An environment in a cluster, with its owner and what became of that one.

    Attributes:
        lease: the name of the object that everything of it belongs to.
        environment: its id.
        owner: None where the lease names none.
        liveness: of the owner.
    """

    lease: str
    environment: str
    owner: Owner | None
    liveness: OwnerLiveness


def find_leftovers(cluster: Cluster) -> list[ClusterLeftover]:
    """All environments in a namespace, of the living and the dead.

    Raises:
        ClusterUnreachable, ClusterFailed: the cluster does not answer.
    """
    leases = cluster.list("leases.coordination.k8s.io", OURS, what="list its leases")
    if not leases:
        return []
    here, now = Owner.this_process(""), now_of(cluster)
    return [_judged(each, here, now) for each in leases]


def remove(cluster: Cluster, leftover: ClusterLeftover) -> str:
    """Remove an environment; returns why that failed, and nothing where it is gone or about to be."""
    try:
        words = ("delete", "lease", leftover.lease, "--ignore-not-found", "--wait=false")
        cluster.run(*words, what=f"remove the environment {leftover.environment}")
    except TritonError as error:
        return error.cause or error.what
    return ""


def sweep(cluster: Cluster, cancelled: Callable[[], bool] = lambda: False) -> None:
    """Remove what is left of owners that are dead for certain, or have not renewed their claim in time.

    Args:
        cancelled: asked before each removal whether to leave the rest.
    """
    try:
        for each in find_leftovers(cluster):
            if cancelled():
                return
            if each.liveness.state is OwnerState.DEAD:
                problem = remove(cluster, each)
                _log.debug("%s, since %s: %s", each.environment, each.liveness.why, problem or "removed")
    except TritonError as error:
        _log.debug("what dead owners left was not looked for: %s", error)


def _judged(lease: Mapping[str, Any], here: Owner, now: datetime) -> ClusterLeftover:
    metadata = lease["metadata"]
    owner = Owner.of_labels(metadata.get("annotations") or {})
    liveness = owner.liveness(here) if owner else OwnerLiveness(OwnerState.UNKNOWN, "its lease names no owner")
    if liveness.state is OwnerState.UNKNOWN:
        silent = now - renewed(lease)
        if silent > timedelta(seconds=_duration(lease)):
            words = f"it has not been renewed for {silent.total_seconds() / 60:.0f} minutes"
            liveness = OwnerLiveness(OwnerState.DEAD, f"{words}; {liveness.why}")
    labels = metadata.get("labels") or {}
    return ClusterLeftover(metadata["name"], labels.get(ENVIRONMENT_LABEL, ""), owner, liveness)


def _duration(lease: Mapping[str, Any]) -> int:
    return int((lease.get("spec") or {}).get("leaseDurationSeconds") or LEASE_SECONDS)


def renewed(lease: Mapping[str, Any]) -> datetime:
    """When the cluster last took a change of a lease, by its own clock: machines may disagree about the time."""
    times = [each["time"] for each in lease["metadata"].get("managedFields") or () if each.get("time")]
    return max(map(_moment, (*times, lease["metadata"]["creationTimestamp"])))


def now_of(cluster: Cluster) -> datetime:
    """The time by the cluster's clock: that of an object which is not kept.

    Raises:
        ClusterUnreachable, ClusterFailed: the cluster does not answer, or has no such namespace.
    """
    words = ("create", "-f", "-", "--dry-run=server", "-o", "json")
    made = json.loads(cluster.run(*words, content=json.dumps(_CLOCK), what="create a lease"))
    stamp = made["metadata"].get("creationTimestamp")
    return _moment(stamp) if stamp else datetime.now(UTC)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
