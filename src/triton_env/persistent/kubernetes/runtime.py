"""The persistent runtime in a cluster: pods of StatefulSets, found running or started."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import ClassVar

from triton_env.core.ending import Ending
from triton_env.core.model import Placement, Probe, Program, ServiceRecipe
from triton_env.core.timeline import Phase
from triton_env.errors import TritonError
from triton_env.persistent.fitting import check_given, explain_login_failure
from triton_env.persistent.kubernetes.claims import Claims
from triton_env.persistent.kubernetes.instances import ProjectPod
from triton_env.persistent.kubernetes.stack import KubernetesStack
from triton_env.persistent.kubernetes.waiting import Wait
from triton_env.persistent.runtime import OTHER_PROJECT, LastingRuntime, Once
from triton_env.persistent.stamps import Stamp
from triton_env.runtimes import failures
from triton_env.runtimes.base import Report
from triton_env.runtimes.kubernetes import pods
from triton_env.runtimes.kubernetes.access import PodAccess
from triton_env.runtimes.kubernetes.project import check_passwords
from triton_env.runtimes.ports import is_listened_on, listener_on
from triton_env.runtimes.start_tracker import check_usable


class PersistentPods(LastingRuntime[KubernetesStack]):
    """See `LastingRuntime`.

    Args:
        say: called with what a person should know.

    Raises:
        ProjectTaken: the project is that of another checkout.
        InvalidSetting: others in the cluster would know a password.
    """

    name: ClassVar[str] = "kubernetes"

    def __init__(
        self, stack: KubernetesStack, recipes: Sequence[ServiceRecipe], *, apply: bool, say: Callable[[str], None]
    ) -> None:
        super().__init__(stack, recipes, apply=apply)
        check_usable(recipes)
        check_passwords(recipes)
        with self._first_look():
            self._instances = dict(stack.instances())
        self._wanted = self._lacking()
        self._start_all = Once(self._start_lacking)
        self._claims = Claims(stack, self._starts.cancelled, say)
        self._stamps: Mapping[str, Stamp] = {}

    def start(self, recipe: ServiceRecipe, probe: Probe, report: Report) -> Placement:
        recipe = self._recipes[recipe.name]
        before = self._instances.get(recipe.name)
        with self._starts.track(recipe):
            is_new = recipe.name in self._wanted
            if is_new:
                report(Phase.CREATE, "")
                self._start_all()
            else:
                assert before is not None
                self._check_settings(recipe.name, before)
            runs = before is not None and before.running and not is_new
            placement = self._stack.placement(recipe.name, before.forwarded if before and runs else None)
            report(Phase.BOOT, "")
            Wait(self._stack, recipe, self._starts.cancelled).for_service(
                partial(probe, placement),
                before=before.restarts if before and not is_new else 0,
                forward=not runs,
                report=lambda words: report(Phase.BOOT, words),
                explain=lambda error: explain_login_failure(
                    recipe,
                    error,
                    self._stamps.get(recipe.name),
                    where=self._claim(recipe.name),
                    lost=self._stack.lost(recipe.name),
                ),
            )
            report(Phase.READY, "it was running" if runs else "")
            return placement

    def access(self, service: str) -> PodAccess:
        return self._stack.access(service)

    def program(self, service: str, argv: Sequence[str], environment: Mapping[str, str]) -> Program:
        recipe = self._recipes[service]
        return self.access(service).program(recipe, self._stack.placement(service, None), argv, environment)

    def ending(self, service: str, *, look: bool = True) -> Ending | None:
        if not look or self._starts.cancelled.is_set():
            return None
        access = self.access(service)
        hint = f"the cluster starts it again; what it writes: python -m triton_env logs --project {self._stack.project}"
        try:
            pod = self._stack.cluster.get("pod", access.pod, what=f"look at {access.pod}")
        except TritonError:
            return None
        return pods.ending(pod, where=access.place, hint=hint)

    def note(self, service: str, version: str) -> None:
        # What runs as it ran says so already, unless the process that started it was killed before.
        if self._apply or service in self._wanted:
            self._claims.note(service, version)

    def _stop_began(self) -> None:
        self._stack.delete(self._began)
        self._stack.forwarder.drop(self._began)

    def _lacking(self) -> tuple[str, ...]:
        """Those that are to be made, also in the place of others."""
        return tuple(
            name
            for name in self._recipes
            if (now := self._instances.get(name)) is None or (self._apply and now.digest != self._stack.digest(name))
        )

    def _start_lacking(self) -> None:
        # One at a time: two processes may want to start the same services.
        with self._leases.turn():
            self._start_in_turn()

    def _start_in_turn(self) -> None:
        self._instances = dict(self._stack.instances())
        lacking = [name for name in self._lacking() if name in self._wanted]
        for name in lacking:
            self._check_ports(name)
        if lacking:
            self._stamps = self._claims.check(lacking, self._stack.found())
            self._began = tuple(name for name in lacking if name not in self._instances)
            self._stack.create(lacking)

    def _check_ports(self, name: str) -> None:
        """Say who has a port before anything is made in the cluster.

        Raises:
            PortTaken: naming the process.
        """
        now = self._instances.get(name)
        if self._stack.is_inside or (now and now.forwarded):
            return
        address, ports = self._stack.address, self._stack.order(name).ports.values()
        if any(is_listened_on(address, port) for port in ports):
            holders = {port: listener_on(port, address) for port in ports}
            raise failures.port_taken(self._recipes[name], address, holders, instead=OTHER_PROJECT)

    def _check_settings(self, name: str, instance: ProjectPod) -> None:
        """Raise `InvalidSetting` if a service runs with other names or passwords than the settings have."""
        recipe, where = self._recipes[name], self._stack.access(name).place
        check_given(recipe, self._stack.settings, recipe.container.environment, instance.given, where=where)

    def _claim(self, name: str) -> str:
        return f"claim data-{self._stack.access(name).pod}, {self._stack.cluster.title}"
