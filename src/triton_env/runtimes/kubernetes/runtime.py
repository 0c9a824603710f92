"""The Kubernetes runtime of a session: pods that belong to a lease, reached through forwarded ports."""

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_address
from typing import Any, ClassVar

from triton_env.core.ending import Ending
from triton_env.core.interrupts import wait_unless_hurried
from triton_env.core.model import Endpoint, Placement, Probe, Program, ServiceRecipe
from triton_env.core.readiness import DeadlineExceeded, wait_until_ready
from triton_env.core.redaction import redacted
from triton_env.core.threads import in_thread
from triton_env.core.timeline import Phase
from triton_env.errors import (
    CleanupFailed,
    InvalidSetting,
    StartCancelled,
    TritonError,
)
from triton_env.runtimes import failures
from triton_env.runtimes.base import Report
from triton_env.runtimes.kubernetes import objects, pods
from triton_env.runtimes.kubernetes.access import PodAccess
from triton_env.runtimes.kubernetes.agent_client import AgentHandle, Forwarding
from triton_env.runtimes.kubernetes.cluster import cluster_of, in_pod
from triton_env.runtimes.kubernetes.leftovers import sweep
from triton_env.runtimes.kubernetes.looks import Looks, create_patiently
from triton_env.runtimes.kubernetes.troubles import MORE_MEMORY, Beginning, not_begun, not_forwarded, problem_of
from triton_env.runtimes.owner import Owner
from triton_env.runtimes.ports import free_port, listener_on
from triton_env.runtimes.start_tracker import StartTracker
from triton_env.settings import Settings

_log = logging.getLogger(__name__)

_PORT_TRIES = 10
"""How often to pick other ports when another program was quicker."""
_LOOK = 0.1
"""Seconds between two looks at what is waited for."""
_IN_FLIGHT_TIMEOUT = 60
"""Seconds that `stop` waits for requests that are on their way to the cluster."""
_REMOVAL_TIMEOUT = 120
"""Seconds that `stop` and `restart` wait for the end of pods, which need some seconds."""
_LOOPBACK = "127.0.0.1"
_ALL_ANEW = "env.stop() and env.start() start all services again, without data"


class KubernetesRuntime:
    """Runs the services of one environment as pods of a cluster.

    Args:
        settings: the cluster, and what pods get there; ports, poll interval.
        environment: the environment's id, which names and labels everything.
        reason: why this runtime was taken, for people.

    Raises:
        RuntimeUnavailable: no cluster answers.
        ClusterFailed: this user may not create what is needed.
    """

    name: ClassVar[str] = "kubernetes"

    def __init__(self, settings: Settings, environment: str, reason: str = "it was asked for") -> None:
        self.reason = reason
        self._settings = settings
        self._environment = environment
        self._address = loopback(settings.triton_bind_address)
        self.cluster = cluster_of(settings)
        self._is_inside = in_pod() and not self.cluster.context
        self._starts = StartTracker()
        self._looks = Looks(self.cluster, objects.selector(environment), self._starts.cancelled.is_set)
        self._recipes: dict[str, ServiceRecipe] = {}
        self._ready: dict[str, Placement] = {}
        self._stopping = threading.Lock()
        self._is_removed = False
        self._owner = Owner.this_process(environment)
        # Before there is anything to remove.
        self._agent = AgentHandle(self.cluster, environment)
        try:
            (self._lease,) = self.cluster.create((objects.lease(self._owner),), what="create a lease")
        except BaseException:
            # Where the answer was lost, it may be there: alone, until the next start of any machine sweeps it.
            self._agent.end()
            raise
        self._sweeper = threading.Thread(
            target=sweep, args=(self.cluster, self._starts.cancelled.is_set), name="triton-sweep", daemon=True
        )
        self._sweeper.start()

    def start(self, recipe: ServiceRecipe, probe: Probe, report: Report) -> Placement:
        _check_reach(recipe)
        with self._starts.track(recipe):
            self._recipes[recipe.name] = recipe
            report(Phase.CREATE, "")
            self._create(recipe)
            self._wait_for_container(recipe, report)
            report(Phase.BOOT, "")
            for tries_left in reversed(range(_PORT_TRIES)):
                ports = self._ports(recipe)
                if self._forward(recipe, ports):
                    break
                if self._settings.triton_ports == "fixed" or not tries_left:
                    holders = {number: listener_on(number) for number in ports.values()}
                    raise failures.port_taken(recipe, self._address, holders, instead=failures.RANDOM_PORTS)
            placement = self._placement(recipe, ports)
            self._wait(recipe, placement, probe)
            self._ready[recipe.name] = placement
            report(Phase.READY, "")
            return placement

    def restart(self, recipe: ServiceRecipe, probe: Probe) -> None:
        with self._starts.track(recipe):
            placement = self._ready[recipe.name]
            name = self.access(recipe.name).pod
            self._delete("pod", name, what=f"remove the pod of {recipe.title}")
            self._create(recipe, pod_alone=True)
            self._wait_for_container(recipe, lambda phase, words: None)
            ports = {name: endpoint.port for name, endpoint in placement.endpoints.items()}
            if not self._forward(recipe, ports):
                holders = {number: listener_on(number) for number in ports.values()}
                raise failures.port_taken(recipe, self._address, holders, instead="stop and start the environment")
            self._wait(recipe, placement, probe)

    def access(self, service: str) -> PodAccess:
        return PodAccess.of_session(self.cluster, self._environment, service)

    def logs(self, service: str, lines: int, since: float | None = None) -> str:
        return redacted(self.access(service).logs(lines, since), self._starts.secrets)

    def log_position(self, service: str) -> float:
        return self.access(service).log_position()

    def program(self, service: str, argv: Sequence[str], environment: Mapping[str, str]) -> Program:
        return self.access(service).program(self._recipes[service], self._ready[service], argv, environment)

    def ending(self, service: str, *, look: bool = True) -> Ending | None:
        if service not in self._ready or not look or self._starts.cancelled.is_set():
            return None
        access = self.access(service)
        try:
            ending = pods.ending(self._looks.now(access.pod), where=access.place, hint=_how_to_restart(service))
        except TritonError:
            ending = None
        if ending is not None and ending.out_of_memory:
            return replace(ending, hint=f"{MORE_MEMORY}; {ending.hint}")
        if ending is None and self._agent.is_gone:
            words = "cannot be reached, since the process that forwards its ports has ended"
            return Ending(access.place, _ALL_ANEW, held_up=words)
        return ending

    def stop(self) -> None:
        with self._stopping:
            if self._is_removed:
                return
            removal = in_thread(self._remove_all, self._starts.cancel())
            # As long as it takes: each of its requests has a limit.
            wait_unless_hurried(removal.done, float("inf"))
            if not removal.done():
                # The thread goes on with what it waits for, and so may this process.
                raise self._not_removed("the cluster has not said yet that they are gone")
            try:
                removal.result()
            except TritonError as error:
                raise self._not_removed(error.cause or error.what) from error
            self._is_removed = True
            self._agent.end()

    def _not_removed(self, cause: str) -> CleanupFailed:
        """Have the agent remove what is left, and say so."""
        self._agent.leave()
        return CleanupFailed(
            f"Pods of the environment {self._environment} may be left behind.",
            where=self.cluster.title,
            cause=cause,
            hint="a process in the background tries again; so does, once the cluster answers:"
            " TRITON_RUNTIME=kubernetes python -m triton_env prune; TRITON_K8S_TTL ends the pods in any case",
        )

    def _remove_all(self, still_starting: bool) -> None:
        self._remove(wait=not still_starting)
        if still_starting:
            # What the starts had created by then goes in the second round.
            self._starts.wait(_IN_FLIGHT_TIMEOUT)
            self._remove(wait=True)
        self._sweeper.join(_IN_FLIGHT_TIMEOUT)

    def _remove(self, *, wait: bool) -> None:
        everything = (objects.KINDS, "--selector", objects.selector(self._environment))
        self._delete(*everything, what="remove an environment", wait=wait)

    def _delete(self, *words: str, what: str, wait: bool = True) -> None:
        limit = ("--wait=true", f"--timeout={_REMOVAL_TIMEOUT}s") if wait else ("--wait=false",)
        # A deletion that is waited for is one long request.
        command = self.cluster.command("delete", *words, "--ignore-not-found", *limit, timeout=None)
        self.cluster.run_command(command, what=what, timeout=_REMOVAL_TIMEOUT + _IN_FLIGHT_TIMEOUT)

    def _create(self, recipe: ServiceRecipe, *, pod_alone: bool = False) -> None:
        """Create the objects of a service, or after its pod was removed only that one."""
        if self._is_inside and (variable := recipe.container.host_variable):
            environment = {**recipe.container.environment, variable: self._internal_host(recipe.name)}
            recipe = replace(recipe, container=replace(recipe.container, environment=environment))
        made = objects.session_objects(recipe, self._owner, self._lease, self._settings)
        create_patiently(
            self.cluster,
            made[-1:] if pod_alone else made,
            what=f"create the pod of {recipe.title}",
            is_cancelled=self._starts.cancelled.is_set,
        )
        self._looks.forget()

    def _wait_for_container(self, recipe: ServiceRecipe, report: Report) -> None:
        """Wait until the container runs, whose image may have to be pulled and whose node may have to be found."""
        access = self.access(recipe.name)
        deadline = time.monotonic() + self._settings.triton_pull_timeout
        said, beginning = "", Beginning(recipe, access)
        while True:
            self._check_cancelled()
            pod = self._looks.recent(access.pod)
            if pod is not None and pods.runs(pod):
                return
            self._check_alive(recipe, pod)
            words = beginning.look(pod)
            if words and words != said:
                report(Phase.CREATE, words)
                said = words
            if time.monotonic() > deadline:
                raise not_begun(recipe, words, access)
            self._starts.cancelled.wait(_LOOK)

    def _forward(self, recipe: ServiceRecipe, ports: Mapping[str, int]) -> bool:
        """Forward the ports of a pod that runs; whether they were free here."""
        if self._is_inside:
            return True
        access = self.access(recipe.name)
        numbers = {ports[port.name]: port.number for port in recipe.ports}
        self._agent.forward(access.pod, self._address, numbers)
        deadline = time.monotonic() + recipe.timeout
        while True:
            self._check_cancelled()
            state = self._agent.state(access.pod)
            if state.up:
                return True
            if state.taken:
                _log.debug("the ports %s of %s are taken: %s", ports, recipe.name, state.words)
                self._agent.drop(access.pod)
                return False
            if self._agent.is_gone or time.monotonic() > deadline:
                raise self._not_forwarded(recipe, state)
            self._starts.cancelled.wait(_LOOK)

    def _not_forwarded(self, recipe: ServiceRecipe, state: Forwarding) -> TritonError:
        gone = "the process that forwards them has ended" if self._agent.is_gone else ""
        place = self.access(recipe.name)
        self._check_alive(recipe, self._looks.now(place.pod))
        return not_forwarded(recipe, gone or state.words, place)

    def _wait(self, recipe: ServiceRecipe, placement: Placement, probe: Probe) -> None:
        access = self.access(recipe.name)

        def check_alive() -> None:
            self._check_cancelled()
            self._check_alive(recipe, self._looks.recent(access.pod))

        try:
            wait_until_ready(
                lambda: probe(placement),
                timeout=recipe.timeout,
                interval=self._settings.triton_poll_interval,
                check_alive=check_alive,
                cancelled=self._starts.cancelled,
            )
        except DeadlineExceeded as error:
            raise failures.service_not_ready(
                recipe, error, where=access.place, log=access.logs(failures.LOG_LINES)
            ) from error.last_error

    def _check_alive(self, recipe: ServiceRecipe, pod: Mapping[str, Any] | None) -> None:
        """Raise if the pod will never run, or has ended."""
        if problem := problem_of(recipe, pod, self.access(recipe.name)):
            self._check_cancelled()
            raise problem

    def _check_cancelled(self) -> None:
        if self._starts.cancelled.is_set():
            raise StartCancelled("The start was cancelled.")

    def _internal_host(self, service: str) -> str:
        return f"{self.access(service).pod}.{self.cluster.namespace}.svc"

    def _ports(self, recipe: ServiceRecipe) -> dict[str, int]:
        fixed = self._settings.triton_ports == "fixed"
        return {port.name: port.fixed if fixed else free_port(self._address) for port in recipe.ports}

    def _placement(self, recipe: ServiceRecipe, ports: Mapping[str, int]) -> Placement:
        host = self._internal_host(recipe.name)
        internal = {port.name: Endpoint(host, port.number) for port in recipe.ports}
        here = {name: Endpoint(self._address, number) for name, number in ports.items()}
        return Placement(endpoints=internal if self._is_inside else here, internal=internal)


def _how_to_restart(service: str) -> str:
    return f'env.restart("{service}") makes a new pod, without data; {_ALL_ANEW}'


def _check_reach(recipe: ServiceRecipe) -> None:
    """See that others in the cluster cannot connect to a server whose password they know, or that has none."""
    if variable := recipe.known_password:
        raise InvalidSetting(
            f"{recipe.title} would be open to every pod of the cluster: {variable} is empty or the default.",
            where="TRITON_PASSWORDS=fixed",
            hint=f"set {variable} to a password of your own, or TRITON_PASSWORDS=random",
        )


def loopback(address: str) -> str:
    """The address of this machine to which ports are forwarded.

    Raises:
        InvalidSetting: others could connect to the one that was asked for.
    """
    if address and not ip_address(address).is_loopback:
        raise InvalidSetting(
            f"The ports of a cluster are forwarded to this machine's loopback only, not to {address}.",
            where="TRITON_BIND_ADDRESS",
            hint="leave TRITON_BIND_ADDRESS empty",
        )
    return address or _LOOPBACK
