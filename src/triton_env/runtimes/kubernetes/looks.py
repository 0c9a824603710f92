"""Looks at the pods of an environment: one answer of the cluster for all services that wait for it."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from triton_env.errors import ClusterFailed, ClusterUnreachable
from triton_env.runtimes.kubernetes.cluster import Cluster

_FRESH = 0.5
"""Seconds for which an answer is good enough for what is waited for."""

_PATIENCE = 60
"""Seconds for which a cluster may be away in the middle of a start."""

_PAUSE = 1.0
"""Seconds before one that is away is asked again."""


class Looks:
    """What the cluster says of the pods with these labels. Several threads may ask.

    Args:
        is_cancelled: whether a cluster that is away is waited for no more.
    """

    def __init__(self, cluster: Cluster, selector: str, is_cancelled: Callable[[], bool] = lambda: False) -> None:
        self._cluster = cluster
        self._selector = selector
        self._is_cancelled = is_cancelled
        self._lock = threading.Lock()
        self._found: dict[str, Mapping[str, Any]] = {}
        self._at = float("-inf")
        self._away = _Away(is_cancelled)

    def recent(self, pod: str) -> Mapping[str, Any] | None:
        """A pod as it was a moment ago; None where the cluster had none of that name. Raises as `Cluster.run` does.

        A cluster that is away for a moment is not the end of a start: until it is back, a pod is as it was, and one
        that was not seen yet is waited for.
        """
        while True:
            with self._lock:
                if time.monotonic() - self._at > _FRESH:
                    try:
                        found = self._cluster.list("pods", self._selector, what="look at its pods")
                    except ClusterUnreachable as error:
                        self._away.check(error)
                    else:
                        self._found = {each["metadata"]["name"]: each for each in found}
                        self._away.is_over()
                    self._at = time.monotonic()
                if pod in self._found or not self._away:
                    return self._found.get(pod)
            time.sleep(_PAUSE)

    def now(self, pod: str) -> Mapping[str, Any] | None:
        """A pod as it is; None where the cluster has none of that name. Raises as `Cluster.run` does."""
        return self._cluster.get("pod", pod, what="look at its pod")

    def forget(self) -> None:
        """Ask anew: there is news."""
        with self._lock:
            self._at = float("-inf")


class _Away:
    """A cluster that does not answer, for how long."""

    def __init__(self, is_cancelled: Callable[[], bool]) -> None:
        self._is_cancelled = is_cancelled
        self._since: float | None = None

    def __bool__(self) -> bool:
        return self._since is not None

    def check(self, error: ClusterUnreachable) -> None:
        """Take note that it does not answer. Raises the error where it has been so for too long."""
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        if now - self._since >= _PATIENCE or self._is_cancelled():
            raise error

    def is_over(self) -> None:
        """Take note that it answers."""
        self._since = None


def create_patiently(
    cluster: Cluster, objects: Sequence[Mapping[str, Any]], *, what: str, is_cancelled: Callable[[], bool]
) -> None:
    """Create objects whose names are no one else's, in this order, also where the cluster is away for a moment.

    Args:
        what, objects: see `Cluster.create`.
        is_cancelled: whether it is waited for no more.

    Raises:
        TritonError: as `Cluster.run` does.
    """
    away = _Away(is_cancelled)
    try:
        cluster.create(objects, what=what)
    except ClusterUnreachable as error:
        away.check(error)
    else:
        return
    # Some may be there, also where the answer was lost.
    for each in objects:
        while True:
            time.sleep(_PAUSE)
            try:
                cluster.create((each,), what=what)
            except ClusterUnreachable as error:
                away.check(error)
                continue
            except ClusterFailed as error:
                if "already exists" not in error.cause:
                    raise
            break
