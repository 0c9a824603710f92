"""Looks at the pods of an environment: one answer of the cluster for all services that wait for it."""

import threading
import time
from collections.abc import Mapping
from typing import Any

from triton_env.errors import ClusterUnreachable
from triton_env.runtimes.kubernetes.cluster import Cluster

_FRESH = 0.5
"""Seconds for which an answer is good enough for what is waited for."""

_PATIENCE = 20
"""Seconds for which a cluster may be away in the middle of a start."""


class Looks:
    """What the cluster says of the pods with these labels. Several threads may ask."""

    def __init__(self, cluster: Cluster, selector: str) -> None:
        self._cluster = cluster
        self._selector = selector
        self._lock = threading.Lock()
        self._found: dict[str, Mapping[str, Any]] = {}
        self._at = self._answered = float("-inf")

    def recent(self, pod: str) -> Mapping[str, Any] | None:
        """A pod as it was a moment ago; None where the cluster had none of that name. Raises as `Cluster.run` does."""
        with self._lock:
            if time.monotonic() - self._at > _FRESH:
                try:
                    found = self._cluster.list("pods", self._selector, what="look at its pods")
                except ClusterUnreachable:
                    # One request that failed is not the end of a start; nothing is said of a pod that is not known yet.
                    if pod not in self._found or time.monotonic() - self._answered > _PATIENCE:
                        raise
                else:
                    self._found = {each["metadata"]["name"]: each for each in found}
                    self._answered = time.monotonic()
                self._at = time.monotonic()
            return self._found.get(pod)

    def now(self, pod: str) -> Mapping[str, Any] | None:
        """A pod as it is; None where the cluster has none of that name. Raises as `Cluster.run` does."""
        return self._cluster.get("pod", pod, what="look at its pod")

    def forget(self) -> None:
        """Ask anew: there is news."""
        with self._lock:
            self._at = float("-inf")
