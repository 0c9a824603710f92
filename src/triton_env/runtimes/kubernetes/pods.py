"""What a pod says of itself: whether it runs, how it has ended, and why it does not begin."""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from triton_env.core.ending import Ending

Pod = Mapping[str, Any]

CONTAINER = "server"
"""The name of the container that is ours: a cluster may add others to a pod, such as the proxy of a service mesh."""

_NO_IMAGE = ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "RegistryUnavailable")
_CANNOT_BEGIN = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
_NEVER = "ErrImageNeverPull"
_FINAL = (_NEVER, "InvalidImageName")
_WILL_NOT_CHANGE = re.compile(
    "not found|manifest unknown|denied|unauthorized|does not exist|no basic auth", re.IGNORECASE
)
_AGAIN = "ImagePullBackOff"
"""It says that there was a problem, and not which."""
_ENDED = ("Failed", "Succeeded")
NO_NODE = "no node yet"
"""How the words begin for a pod that the cluster cannot place."""


def runs(pod: Pod) -> bool:
    """Whether its container runs."""
    return any("running" in each for each in _states(pod))


@dataclass(frozen=True, slots=True)
class Hindrance:
    """Why a container does not begin, though its pod has a node. The node tries again.

    Attributes:
        words: those of the node; empty where it only says that it will try again.
        is_image: whether it lacks the image.
        is_final: whether trying again will not help.
        is_unasked: whether no registry was asked for the image, since that was not wanted.
    """

    words: str
    is_image: bool
    is_final: bool
    is_unasked: bool = False


def hindrance(pod: Pod) -> Hindrance | None:
    """Why its container does not begin; None where it does, or may soon, as far as is known."""
    for state in _states(pod):
        waiting = state.get("waiting") or {}
        reason, words = waiting.get("reason", ""), _clean(waiting.get("message", ""))
        if reason in _NO_IMAGE:
            is_final = reason in _FINAL or bool(_WILL_NOT_CHANGE.search(words))
            return Hindrance("" if reason == _AGAIN else words or reason, True, is_final, reason == _NEVER)
        if reason in _CANNOT_BEGIN:
            return Hindrance(words or reason, False, False)
    return None


def news(pod: Pod) -> str:
    """What it waits for, in a few words for people; empty where that is not known."""
    for condition in pod.get("status", {}).get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return f"{NO_NODE}: {condition.get('message', condition.get('reason', ''))}"
    return ""


def ending(pod: Pod | None, *, where: str, hint: str) -> Ending | None:
    """How a pod has ended; None while it runs or is about to.

    Args:
        pod: None where the cluster does not have it.
        where: the pod, for people.
        hint: what to do about it.
    """
    if pod is None:
        return Ending(where, hint, reason="its pod was removed")
    status = pod.get("status", {})
    for state in _states(pod):
        if end := state.get("terminated"):
            return Ending(
                where=where,
                hint=hint,
                status=end.get("exitCode"),
                at=_seconds(end.get("finishedAt") or ""),
                out_of_memory=end.get("reason") == "OOMKilled",
                reason=_reason(status) or _clean(end.get("message", "")),
            )
    if pod["metadata"].get("deletionTimestamp"):
        return Ending(where, hint, reason="its pod is being removed")
    if status.get("phase") in _ENDED:
        return Ending(where, hint, reason=_reason(status))
    return None


def _reason(status: Mapping[str, Any]) -> str:
    """Why the cluster ended a pod, such as an eviction; empty where it did not."""
    if status.get("reason") == "DeadlineExceeded":
        return "its time was up, see TRITON_K8S_TTL"
    return ": ".join(filter(None, (status.get("reason", ""), _clean(status.get("message", "")))))


def _states(pod: Pod) -> Iterator[Mapping[str, Any]]:
    for each in pod.get("status", {}).get("containerStatuses") or ():
        if each.get("name") == CONTAINER:
            yield each.get("state") or {}


def _clean(text: str) -> str:
    return " ".join(text.split())


def _seconds(moment: str) -> float | None:
    with suppress(ValueError):
        return datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()
    return None
