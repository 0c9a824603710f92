"""Waiting for a persistent service in a cluster: until its container runs, its ports are forwarded and it answers."""

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from triton_env.core.model import ServiceRecipe
from triton_env.core.readiness import DeadlineExceeded, Explain, wait_until_ready
from triton_env.errors import StartCancelled
from triton_env.persistent.kubernetes.instances import is_ready, restarts, with_last_end
from triton_env.persistent.runtime import OTHER_PROJECT
from triton_env.runtimes import failures
from triton_env.runtimes.kubernetes import pods, troubles
from triton_env.runtimes.kubernetes.access import PodAccess
from triton_env.runtimes.ports import listener_on

if TYPE_CHECKING:
    from triton_env.persistent.kubernetes.stack import KubernetesStack

_LOOK = 0.1
"""Seconds between two looks at what is waited for."""


class Wait:
    """Waits for one service of a project.

    Args:
        stack: the services of the project.
        recipe: the service's.
        cancelled: ends it early when set.
        access: the pod; by default that of its server.
    """

    def __init__(
        self,
        stack: "KubernetesStack",
        recipe: ServiceRecipe,
        cancelled: threading.Event,
        access: PodAccess | None = None,
    ) -> None:
        self._stack = stack
        self._recipe = recipe
        self._access = access or stack.access(recipe.name)
        self._cancelled = cancelled

    def for_service(
        self,
        probe: Callable[[], None],
        *,
        before: int,
        forward: bool,
        report: Callable[[str], None] = lambda words: None,
        explain: Explain = lambda error: None,
    ) -> None:
        """Wait until it answers.

        Args:
            probe: raises while it does not answer.
            before: how often its container had been started again.
            forward: whether its ports are to be forwarded, once it runs.
            report: called with what it waits for.
            explain: see `wait_until_ready`.

        Raises:
            TritonError: what `explain` returned, or that it does not answer.
        """
        self.for_container(report)
        if forward and not self._stack.is_inside:
            self._forward()

        def try_once() -> None:
            # A forwarded port leads to the pod's loopback too, where the server of a first start may listen.
            if not is_ready(self._stack.looks.recent(self._access.pod)):
                raise ConnectionError(f"{self._access.place} does not listen on its port yet")
            probe()

        def check_alive() -> None:
            self._check()
            pod = self._stack.looks.recent(self._access.pod)
            if pod is not None and restarts(pod) > before:
                pod = with_last_end(pod)
            if problem := troubles.problem_of(self._recipe, pod, self._access):
                raise problem

        try:
            wait_until_ready(
                try_once,
                timeout=self._recipe.timeout,
                interval=self._stack.settings.triton_poll_interval,
                check_alive=check_alive,
                cancelled=self._cancelled,
                explain=explain,
            )
        except DeadlineExceeded as error:
            raise failures.service_not_ready(
                self._recipe, error, where=self._access.place, log=self._access.logs(failures.LOG_LINES)
            ) from error.last_error

    def for_container(self, report: Callable[[str], None]) -> None:
        """Wait until the container runs.

        Raises:
            TritonError: it does not.
        """
        deadline = time.monotonic() + self._stack.settings.triton_pull_timeout
        said, beginning = "", troubles.Beginning(self._recipe, self._access)
        while True:
            self._check()
            pod = self._stack.looks.recent(self._access.pod)
            words = ""
            # The cluster makes it a moment after its StatefulSet, and another one once the last is gone.
            if pod is not None and not pod["metadata"].get("deletionTimestamp"):
                if pods.runs(pod):
                    return
                if problem := troubles.problem_of(self._recipe, pod, self._access):
                    raise problem
                words = beginning.look(pod)
            if words and words != said:
                report(words)
                said = words
            if time.monotonic() > deadline:
                raise troubles.not_begun(self._recipe, words, self._access)
            self._cancelled.wait(_LOOK)

    def _forward(self) -> None:
        name, forwarder = self._recipe.name, self._stack.forwarder
        order = self._stack.order(name)
        forwarder.forward([order])
        deadline = time.monotonic() + self._recipe.timeout
        while True:
            self._check()
            state = forwarder.states()[name]
            if state.up:
                return
            if state.taken:
                forwarder.drop((name,))
                holders = {number: listener_on(number, order.address) for number in order.ports.values()}
                raise failures.port_taken(self._recipe, order.address, holders, instead=OTHER_PROJECT)
            if time.monotonic() > deadline:
                raise troubles.not_forwarded(self._recipe, state.words, self._access)
            self._cancelled.wait(_LOOK)

    def _check(self) -> None:
        if self._cancelled.is_set():
            raise StartCancelled("The start was cancelled.")
