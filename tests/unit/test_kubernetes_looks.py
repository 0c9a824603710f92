"""One answer of a cluster for all that wait, and a cluster that is away for a moment."""

from collections.abc import Iterable, Mapping
from typing import Any, cast

import pytest

from triton_env.errors import ClusterFailed, ClusterUnreachable, TritonError
from triton_env.runtimes.kubernetes import looks
from triton_env.runtimes.kubernetes.cluster import Cluster
from triton_env.runtimes.kubernetes.looks import Looks, create_patiently


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


def test_a_pod_that_was_not_seen_yet_is_waited_for(
    cluster: OneThatComesAndGoes, seen: Looks, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert seen.recent("a")
    cluster.is_away = True
    seen.forget()
    monkeypatch.setattr(looks, "_FRESH", 0)
    monkeypatch.setattr(looks.time, "sleep", lambda seconds: setattr(cluster, "is_away", False))

    assert seen.recent("b") is None
    assert cluster.asked == 3


def test_a_start_that_was_cancelled_waits_for_no_cluster(cluster: OneThatComesAndGoes) -> None:
    cluster.is_away = True

    with pytest.raises(ClusterUnreachable):
        Looks(cast(Cluster, cluster), "x=y", lambda: True).recent("a")


class OneThatLosesAnswers:
    """The part of a cluster that creates objects."""

    def __init__(self, errors: list[TritonError]) -> None:
        self.errors = errors
        self.made: list[str] = []

    def create(self, objects: Iterable[Mapping[str, Any]], *, what: str) -> list[Mapping[str, Any]]:
        self.made += [each["metadata"]["name"] for each in objects]
        if self.errors:
            raise self.errors.pop(0)
        return []


AWAY = ClusterUnreachable("No Kubernetes cluster answers.")
THERE = ClusterFailed("The cluster could not do it.", cause='secrets "a" already exists')
OBJECTS = [{"metadata": {"name": "a"}}, {"metadata": {"name": "b"}}]


def test_objects_are_created_once_the_cluster_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks, "_PAUSE", 0)
    cluster = OneThatLosesAnswers([AWAY, AWAY, THERE])

    create_patiently(cast(Cluster, cluster), OBJECTS, what="make it", is_cancelled=lambda: False)

    # The first had been made, and the answer was lost.
    assert cluster.made == ["a", "b", "a", "a", "b"]


def test_what_a_cluster_refuses_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks, "_PAUSE", 0)
    refused = ClusterFailed("The cluster could not do it.", cause="forbidden")

    for errors in ([refused], [AWAY, refused]):
        with pytest.raises(ClusterFailed):
            create_patiently(
                cast(Cluster, OneThatLosesAnswers(list(errors))), OBJECTS, what="make it", is_cancelled=lambda: False
            )
    with pytest.raises(ClusterUnreachable):
        create_patiently(cast(Cluster, OneThatLosesAnswers([AWAY])), OBJECTS, what="make it", is_cancelled=lambda: True)
