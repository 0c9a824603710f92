"""What the files of a pod's control group say, of both versions, and how often a pod is asked for it."""

import threading
from collections.abc import Callable
from typing import cast

import pytest

from patience import until
from triton_env.core.usage import Usage
from triton_env.errors import ClusterUnreachable
from triton_env.runtimes.kubernetes import usage
from triton_env.runtimes.kubernetes.access import PodAccess
from triton_env.runtimes.kubernetes.cluster import Cluster
from triton_env.runtimes.kubernetes.usage import reading, usage_of

V2 = """\
== /proc/uptime
1000.50 1900.00
== /sys/fs/cgroup/cpu.stat
usage_usec 2500000
user_usec 2000000
== /sys/fs/cgroup/memory.current
300000000
== /sys/fs/cgroup/memory.max
max
== /sys/fs/cgroup/memory.stat
anon 200000000
inactive_file 50000000
== /sys/fs/cgroup/cpuacct/cpuacct.usage
== /sys/fs/cgroup/memory/memory.usage_in_bytes
== /sys/fs/cgroup/memory/memory.limit_in_bytes
== /sys/fs/cgroup/memory/memory.stat
"""
V1 = """\
== /proc/uptime
1000.50 1900.00
== /sys/fs/cgroup/cpu.stat
== /sys/fs/cgroup/memory.current
== /sys/fs/cgroup/memory.max
== /sys/fs/cgroup/memory.stat
== /sys/fs/cgroup/cpuacct/cpuacct.usage
2500000000
== /sys/fs/cgroup/memory/memory.usage_in_bytes
300000000
== /sys/fs/cgroup/memory/memory.limit_in_bytes
9223372036854771712
== /sys/fs/cgroup/memory/memory.stat
cache 1
total_inactive_file 50000000
"""


def test_both_versions_say_the_same() -> None:
    first, second = reading(V2), reading(V1)

    assert first == second
    assert first is not None
    assert (first.at, first.cpu_seconds, first.memory, first.memory_limit) == (1000.5, {0: 2.5}, 250_000_000, None)


def test_a_limit_is_read() -> None:
    found = reading(V2.replace("max\n==", "536870912\n=="))

    assert found is not None
    assert found.memory_limit == 536870912


def test_a_pod_that_shows_nothing_is_not_measured() -> None:
    assert reading("") is None
    assert reading("== /proc/uptime\n1.0 1.0\n") is None


PRINTED = V2 + "====\n" + V2.replace("1000.50", "1001.00").replace("2500000", "2750000")


class AskedCluster(Cluster):
    """A cluster that is asked for one thing.

    Attributes:
        answer: to it.
        asked: how often.
    """

    answer: Callable[[], str] = staticmethod(lambda: PRINTED)
    asked: list[str] = []  # noqa: RUF012 - one test, one cluster

    def run(self, *words: str, content: str = "", what: str) -> str:
        AskedCluster.asked.append(what)
        return AskedCluster.answer()


@pytest.fixture
def pod(monkeypatch: pytest.MonkeyPatch) -> PodAccess:
    monkeypatch.setattr(AskedCluster, "asked", [])
    monkeypatch.setattr(AskedCluster, "answer", staticmethod(lambda: PRINTED))
    monkeypatch.setattr(usage, "_sampled", {})
    return PodAccess(cast(Cluster, AskedCluster("test", "default")), "triton-1a2b3c4d-redis")


def test_the_first_look_is_waited_for_and_serves_the_next(pod: PodAccess) -> None:
    first = usage_of(pod)

    assert first is not None
    assert (first.cpu_percent, first.memory, first.memory_limit) == (50, 250_000_000, None)
    assert first.at is not None
    assert usage_of(pod) is first
    assert len(AskedCluster.asked) == 1


def test_later_looks_wait_for_nothing(pod: PodAccess, monkeypatch: pytest.MonkeyPatch) -> None:
    first = usage_of(pod)
    goes_on = threading.Event()

    def hangs() -> str:
        goes_on.wait()
        return PRINTED

    monkeypatch.setattr(AskedCluster, "answer", staticmethod(hangs))
    monkeypatch.setattr(usage, "_INTERVAL", 0)
    # The last one counts while a new one is taken, of which there is one at a time.
    assert usage_of(pod) is first
    assert usage_of(pod) is first
    assert len(AskedCluster.asked) == 2
    goes_on.set()
    assert until(lambda: usage_of(pod) is not first)


def test_a_look_that_fails_leaves_the_one_before_until_it_is_old(
    pod: PodAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> str:
        raise ClusterUnreachable("No Kubernetes cluster answers.")

    first = usage_of(pod)
    monkeypatch.setattr(AskedCluster, "answer", staticmethod(away))
    monkeypatch.setattr(usage, "_INTERVAL", 0)
    for _ in range(3):
        assert usage_of(pod) == first
    monkeypatch.setattr(usage, "_OLD", 0)
    assert until(lambda: usage_of(pod) is None)


def test_a_pod_that_never_shows_it_costs_no_wait_twice(pod: PodAccess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AskedCluster, "answer", staticmethod(lambda: ""))

    found: list[Usage | None] = [usage_of(pod), usage_of(pod)]

    assert found == [None, None]
    assert len(AskedCluster.asked) == 1
