"""Why a pod that is to start will not become ready, as errors."""

import time
from collections.abc import Mapping
from typing import Any

from triton_env.core.ending import container_words
from triton_env.core.model import ServiceRecipe
from triton_env.errors import ImageUnavailable, ServiceExited, StartFailed, TritonError
from triton_env.runtimes import failures
from triton_env.runtimes.kubernetes import pods
from triton_env.runtimes.kubernetes.access import PodAccess

MORE_MEMORY = "give it more with memory=... in TRITON_K8S_LIMITS; data in memory counts"
_ROOM = "set TRITON_K8S_REQUESTS to what a node has left, such as cpu=100m,memory=256Mi: {kubectl} describe nodes"
_PATIENCE = 60
"""Seconds for what a node tries again: a registry that was away for a moment, a secret that it did not have yet."""


class Beginning:
    """The beginning of a pod, looked at again and again. What its node tries again gets some time."""

    def __init__(self, recipe: ServiceRecipe, access: PodAccess) -> None:
        self._recipe = recipe
        self._access = access
        self._problem = ""
        self._since = 0.0

    def look(self, pod: Mapping[str, Any] | None) -> str:
        """What the pod waits for, in words; empty where that is not known.

        Raises:
            ImageUnavailable: the cluster does not get its image.
            StartFailed: it does not get its container made.
        """
        if pod is None:
            return ""
        if not (hindrance := pods.hindrance(pod)):
            self._since = 0.0
            return pods.news(pod)
        self._problem = hindrance.words or self._problem
        self._since = self._since or time.monotonic()
        if not (hindrance.is_final or time.monotonic() - self._since > _PATIENCE):
            return self._problem
        variable = self._recipe.container.image_variable
        if hindrance.is_image:
            raise ImageUnavailable(
                f"The cluster cannot have the image {self._recipe.container.image}.",
                where=variable,
                cause=self._problem,
                hint=f"unset TRITON_PULL, or set {variable} to one that its nodes have"
                if hindrance.is_unasked
                else f"set {variable} to one that its nodes can pull, or TRITON_K8S_PULL_SECRETS to the secret of its"
                " registry",
            )
        what = f"The cluster cannot make the container of {self._recipe.title}."
        raise StartFailed(what, where=self._access.place, cause=self._problem)


def problem_of(recipe: ServiceRecipe, pod: Mapping[str, Any] | None, access: PodAccess) -> TritonError | None:
    """Why a pod will never run, or how it has ended; None where nothing is known of that.

    Args:
        pod: None where the cluster does not have it.
    """
    container = recipe.container
    if pod is None:
        return ServiceExited(
            f"The pod of {recipe.title} was removed from outside while it started.", where=access.place
        )
    ending = pods.ending(pod, where=access.place, hint="")
    if ending is None:
        return None
    cause = ending.words
    if ending.status is not None:
        cause = container_words(ending.status, out_of_memory=ending.out_of_memory)
    return failures.service_exited(
        recipe,
        where=f"{access.place}, image {container.image}",
        cause="; ".join(dict.fromkeys(filter(None, (cause, ending.reason)))),
        log=access.logs(failures.LOG_LINES),
        hint=MORE_MEMORY
        if ending.out_of_memory
        else f"check {container.image_variable} and the settings of {recipe.title}",
    )


def not_begun(recipe: ServiceRecipe, words: str, access: PodAccess) -> TritonError:
    """The error that a pod did not begin to run in time.

    Args:
        words: what it waits for; empty where that is not known.
    """
    return StartFailed(
        f"The pod of {recipe.title} did not begin to run.",
        where=access.place,
        cause=words or "the cluster says nothing about it",
        hint=_ROOM.format(kubectl=access.cluster.kubectl)
        if words.startswith(pods.NO_NODE)
        else f"{access.cluster.kubectl} get events shows more; give it more time with TRITON_PULL_TIMEOUT",
    )


def not_forwarded(recipe: ServiceRecipe, words: str, access: PodAccess) -> TritonError:
    """The error that the ports of a pod cannot be forwarded, with words about the cause."""
    return StartFailed(
        f"The ports of {recipe.title} cannot be forwarded to this machine.",
        where=access.place,
        cause=words,
        hint=f"{access.cluster.kubectl} port-forward pod/{access.pod} {recipe.ports[0].number} shows why",
    )
