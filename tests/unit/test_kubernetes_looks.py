"""One answer of a cluster for all that wait, and a cluster that is away for a moment."""

from collections.abc import Mapping
from typing import Any, cast

import pytest

from triton_env.errors import ClusterUnreachable
from triton_env.runtimes.kubernetes import looks
from triton_env.runtimes.kubernetes.cluster import Cluster
from triton_env.runtimes.kubernetes.looks import Looks


class OneThatComesAndGoes:
    """The part of a cluster that is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.is_away = False

    def list(self, kinds: str, selector: str, *, what: str) -> list[Mapping[str, Any]]:
        self.asked += 1
        if self.is_away:
            raise ClusterUnreachable("No Kubernetes cluster answers.")
        return [{"metadata": {"name": "a"}}]


@pytest.fixture
def cluster() -> OneThatComesAndGoes:
    return OneThatComesAndGoes()


@pytest.fixture
def seen(cluster: OneThatComesAndGoes) -> Looks:
    return Looks(cast(Cluster, cluster), "x=y")


def test_one_answer_is_for_all(cluster: OneThatComesAndGoes, seen: Looks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks, "_FRESH", 1000)

    assert seen.recent("a")
    assert seen.recent("b") is None

    assert cluster.asked == 1


def test_a_cluster_that_is_away_for_a_moment_ends_no_start(cluster: OneThatComesAndGoes, seen: Looks) -> None:
    assert seen.recent("a")
    cluster.is_away = True
    seen.forget()

    assert seen.recent("a")
    assert cluster.asked == 2


def test_one_that_stays_away_does(cluster: OneThatComesAndGoes, seen: Looks, monkeypatch: pytest.MonkeyPatch) -> None:
    assert seen.recent("a")
    cluster.is_away = True
    monkeypatch.setattr(looks, "_PATIENCE", 0)
    seen.forget()

    with pytest.raises(ClusterUnreachable):
        seen.recent("a")


def test_nothing_is_said_of_a_pod_that_was_not_seen_yet(cluster: OneThatComesAndGoes, seen: Looks) -> None:
    assert seen.recent("a")
    cluster.is_away = True
    seen.forget()

    with pytest.raises(ClusterUnreachable):
        seen.recent("b")
