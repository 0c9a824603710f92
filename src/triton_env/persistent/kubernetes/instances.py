"""The persistent servers of a project in a cluster, as they are at present."""

import base64
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from triton_env.persistent.instance import Instance
from triton_env.persistent.kubernetes.orders import Order
from triton_env.runtimes.kubernetes.pods import CONTAINER

DIGEST = "org.triton-env.digest"
"""Annotation of a Secret: what distinguishes how its service runs. It follows from passwords, so it is where they
are."""
CHECKOUT = "org.triton-env.checkout"
"""Annotation of a StatefulSet: the machine and the folder of the project that it was made from."""

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectPod(Instance):
    """A server of the project as a pod of a StatefulSet.

    Attributes:
        given: the variables of its container, which hold the names and passwords that it was given.
        digest: what distinguishes how it runs; empty where it was made by others.
        forwarded: how it is reached from this machine; None where it is not.
    """

    given: Mapping[str, str] = field(repr=False)
    digest: str
    forwarded: Order | None


@dataclass(frozen=True, slots=True)
class Found:
    """What the cluster has of a project: by kind, by service."""

    stateful_sets: Mapping[str, Object]
    pods: Mapping[str, Object]
    secrets: Mapping[str, Object]
    claims: Mapping[str, Object]


def described(
    name: str, pod: Object | None, secret: Object | None, forwarded: Order | None, *, is_inside: bool
) -> ProjectPod:
    """A server as the cluster has it.

    Args:
        name: of its pod.
        pod: None where there is none at present.
        forwarded: how it is reached from this machine.
        is_inside: whether this process is in the cluster, and reaches it by its name.
    """
    status = _status_of(pod)
    state = status.get("state") or {}
    ended = state.get("terminated") or (status.get("lastState") or {}).get("terminated") or {}
    runs = "running" in state
    words = _words(state, status)
    if runs and not is_inside and forwarded is None:
        words = "not forwarded"
    return ProjectPod(
        id=pod["metadata"]["uid"] if pod else "",
        name=name,
        image=_container(pod).get("image", ""),
        status=words,
        exit_code=int(ended.get("exitCode") or 0),
        out_of_memory=ended.get("reason") == "OOMKilled",
        restarts=restarts(pod),
        started=_moment((state.get("running") or {}).get("startedAt") or ended.get("startedAt")),
        given=given(secret) if secret else {},
        digest=((secret or {}).get("metadata", {}).get("annotations") or {}).get(DIGEST, ""),
        forwarded=forwarded,
    )


def given(secret: Object) -> dict[str, str]:
    """The variables of a container, by its Secret."""
    return {
        key.removeprefix("env."): base64.b64decode(value).decode(errors="replace")
        for key, value in (secret.get("data") or {}).items()
        if key.startswith("env.")
    }


def is_ready(pod: Object | None) -> bool:
    """Whether its container listens, by the probe of the cluster."""
    return bool(_status_of(pod).get("ready"))


def is_same(one: str, other: str) -> bool:
    """Whether two checkouts are the same one; one of this machine that is gone gives up its project."""
    (host, _, folder), (here, _, own) = one.partition(":"), other.partition(":")
    return host == here and (not os.path.exists(folder) or os.path.samefile(folder, own))


def restarts(pod: Object | None) -> int:
    """How often its container was started again."""
    return int(_status_of(pod).get("restartCount") or 0)


def with_last_end(pod: Object) -> Object:
    """A pod whose container was started again, as it was when that ended."""
    last = {**_status_of(pod), "state": _status_of(pod).get("lastState") or {}}
    return {**pod, "status": {**pod.get("status", {}), "containerStatuses": [last]}}


def _words(state: Object, status: Object) -> str:
    if "running" in state:
        return "running"
    if "terminated" in state:
        return "exited"
    return "restarting" if status.get("restartCount") else "created"


def _status_of(pod: Object | None) -> Object:
    return _ours(((pod or {}).get("status") or {}).get("containerStatuses") or ())


def _container(pod: Object | None) -> Object:
    return _ours(((pod or {}).get("spec") or {}).get("containers") or ())


def _ours(containers: Sequence[Object]) -> Object:
    return next((each for each in containers if each.get("name") == CONTAINER), {})


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text.replace("Z", "+00:00")) if text else None
