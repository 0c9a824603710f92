"""The persistent Docker runtime: the services of `docker-compose.yml`, found running or started."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import ClassVar

from triton_env.core.ending import Ending
from triton_env.core.model import Placement, Probe, Program, ServiceRecipe
from triton_env.core.redaction import redacted
from triton_env.core.threads import in_thread
from triton_env.core.timeline import Phase
from triton_env.errors import ComposeFailed, StartCancelled, TritonError
from triton_env.persistent.docker.containers import ProjectContainer
from triton_env.persistent.docker.cut_off import Healing
from triton_env.persistent.docker.stack import DockerStack
from triton_env.persistent.docker.volume_check import check_volumes
from triton_env.persistent.docker.volume_stamps import stamp_volume
from triton_env.persistent.fitting import check_given, explain_login_failure
from triton_env.persistent.runtime import OTHER_PROJECT, LastingRuntime
from triton_env.persistent.stack import not_persistent
from triton_env.persistent.stamps import Stamp, last_checkout
from triton_env.runtimes import failures
from triton_env.runtimes.base import Report
from triton_env.runtimes.docker.access import ContainerAccess
from triton_env.runtimes.docker.pulling import ensure_image
from triton_env.runtimes.docker.watch import Watch
from triton_env.runtimes.ports import listener_on
from triton_env.runtimes.start_tracker import check_usable
from triton_env.settings import Settings

_STOP_TIMEOUT = 300
"""Seconds that `stop` takes at most where the engine answers: servers get time to write what they hold."""
_BOOT_TIMEOUT = 20
"""Seconds that `stop` waits for servers that are still booting."""


class PersistentRuntime(LastingRuntime[DockerStack]):
    """See `LastingRuntime`.

    Args:
        say: called where the data was last used from another checkout.

    Raises:
        RuntimeUnavailable: Compose cannot be used.
        ProjectTaken: the project is that of another checkout or program.
        NotOffered: the data of a service has no volume.
    """

    name: ClassVar[str] = "docker"

    def __init__(
        self,
        stack: DockerStack,
        recipes: Sequence[ServiceRecipe],
        *,
        apply: bool,
        say: Callable[[str], None],
    ) -> None:
        if without := [recipe.title for recipe in recipes if recipe.data is None]:
            raise not_persistent(without, stack.project)
        super().__init__(stack, recipes, apply=apply)
        self._say = say
        self._settings, self._engine, self._project = stack.settings, stack.engine, stack.on_engine
        self._addresses, self._compose = stack.addresses, stack.compose
        with self._first_look():
            found = stack.found()
            running = _running(found)
            self._wanted = {recipe.name: recipe for recipe in recipes if apply or recipe.container.alias not in running}
            if self._wanted:
                # Before images are pulled for it.
                self._compose.check()
        self._up = _Gate(set(self._wanted))
        self._containers: dict[str, ProjectContainer] = {
            recipe.name: found[recipe.container.alias] for recipe in recipes if recipe.name not in self._wanted
        }
        self._booting: dict[str, Probe] = {}
        self._stamps: dict[str, Stamp] = {}

    def start(self, recipe: ServiceRecipe, probe: Probe, report: Report) -> Placement:
        with self._starts.track(recipe), self._boot(recipe, probe):
            if recipe.name in self._wanted:
                self._pass_gate(recipe, report)
            else:
                self._check_settings(recipe)
            report(Phase.BOOT, "")
            container = self._containers[recipe.name]
            placement = container.placement(recipe, self._addresses.host)
            self._project.wait_for(
                recipe,
                container,
                lambda: probe(placement),
                explain=lambda error: self._explained(recipe, error),
                interval=self._settings.triton_poll_interval,
                cancelled=self._starts.cancelled,
            )
            report(Phase.READY, "" if recipe.name in self._wanted else "it was running")
            return placement

    def access(self, service: str) -> ContainerAccess:
        return ContainerAccess(self._engine.url, self._containers[service].name)

    def logs(self, service: str, lines: int, since: float | None = None) -> str:
        container = self._containers.get(service)
        return redacted(self._project.log_tail(container.id, lines, since), self._starts.secrets) if container else ""

    def log_position(self, service: str) -> float:
        return time.time()

    def ending(self, service: str, *, look: bool = True) -> Ending | None:
        container = self._containers.get(service)
        if container is None or not look or self._starts.cancelled.is_set():
            return None
        where = f"container {container.name}, image {container.image}"
        # By its name: `up` may have put another in its place.
        ending = self._engine.ending(
            container.name,
            container.placement(self._recipes[service], self._addresses.host),
            where=where,
            hint="python -m triton_env up, which starts it again",
        )
        if ending and ending.returns:
            logs = f"python -m triton_env logs {service}"
            return replace(ending, hint=f"the engine is starting it again; what it writes: {logs}")
        return ending

    def program(self, service: str, argv: Sequence[str], environment: Mapping[str, str]) -> Program:
        recipe = self._recipes[service]
        placement = self._containers[service].placement(recipe, self._addresses.host)
        return self.access(service).program(recipe, placement, argv, environment)

    def note(self, service: str, version: str) -> None:
        recipe, container = self._recipes[service], self._containers[service]
        with self._starts.track(recipe):
            checkout = str(self._compose.file.parent)
            stamp_volume(self._engine, self._project.name, container.id, recipe, version, checkout)

    def stop(self) -> None:
        self._starts.cancel()
        self._up.fail(StartCancelled("The start was cancelled."))
        ending = in_thread(self._end)
        try:
            if given_up := Watch(self._engine.ping, _STOP_TIMEOUT).wait(ending):
                self._compose.end()
                raise self._not_stopped(self._engine.url, given_up)
            if error := ending.exception():
                if not isinstance(error, TritonError):
                    raise error
                raise self._not_stopped(error.where, error.cause or error.what) from error
        finally:
            self._leases.release()
            self._stack.close()

    def _stop_began(self) -> None:
        found, started = self._project.containers(), self._began
        self._finish_boots({name: found[name] for name in started if name in found and found[name].running})
        if set(found) <= set(started):
            self._compose.down()
        else:
            self._compose.remove(started)

    @contextmanager
    def _boot(self, recipe: ServiceRecipe, probe: Probe) -> Iterator[None]:
        """Know that a service boots, until it is ready or fails. One that is cancelled goes on booting."""
        self._booting[recipe.name] = probe
        try:
            yield
        except StartCancelled:
            raise
        except BaseException:
            del self._booting[recipe.name]
            raise
        del self._booting[recipe.name]

    def _finish_boots(self, containers: Mapping[str, ProjectContainer]) -> None:
        """Give servers that are still booting a while to get ready.

        One that is stopped while it makes its data directory may not heed that until it is killed, and leaves half of
        the directory in the volume.
        """
        deadline = time.monotonic() + _BOOT_TIMEOUT
        for name, probe in tuple(self._booting.items()):
            recipe = self._recipes[name]
            if (container := containers.get(recipe.container.alias)) is None:
                continue
            with suppress(TritonError):
                self._project.wait_for(
                    replace(recipe, timeout=max(0.1, deadline - time.monotonic())),
                    container,
                    partial(probe, container.placement(recipe, self._addresses.host)),
                    interval=self._settings.triton_poll_interval,
                    cancelled=threading.Event(),
                )

    def _pass_gate(self, recipe: ServiceRecipe, report: Report) -> None:
        """Have the image; the last to arrive here starts all containers in one run of Compose."""
        try:
            report(Phase.PULL, "")
            check_usable((recipe,))
            ensure_image(
                self._engine,
                recipe.container.image,
                recipe.container.image_variable,
                self._settings,
                lambda words: report(Phase.PULL, words),
                self._starts.cancelled,
            )
            report(Phase.CREATE, "")
            if self._up.is_last(recipe.name):
                self._start_containers()
                self._up.open()
        except BaseException as error:
            self._up.fail(error)
            raise
        self._up.wait()

    def _start_containers(self) -> None:
        # One at a time: two processes may want to start the same services.
        with self._leases.turn():
            found = self._stack.found()
            down = {recipe.container.alias for recipe in self._wanted.values()} - _running(found)
            recipes = [recipe for recipe in self._wanted.values() if self._apply or recipe.container.alias in down]
            for recipe in recipes:
                self._check_ports(recipe, found.get(recipe.container.alias))
            if recipes:
                self._check_volumes(recipes)
            for recipe in recipes:
                if recipe.container.alias not in down and recipe.data and recipe.data.login_errors:
                    self._check_login(recipe, found[recipe.container.alias])
            self._began = tuple(down)
            if recipes:
                self._run_compose(recipes)
            found = self._project.containers()
        self._containers |= {recipe.name: found[recipe.container.alias] for recipe in self._wanted.values()}

    def _check_volumes(self, recipes: Sequence[ServiceRecipe]) -> None:
        healing = Healing(self._engine, self._project.name, self._say)
        stamps = check_volumes(self._engine, self._project.name, recipes, healing.heal)
        self._stamps |= stamps
        if other := last_checkout(stamps.values(), str(self._compose.file.parent)):
            self._say(f"the data of the project {self._project.name} was last used from {other}")

    def _check_login(self, recipe: ServiceRecipe, container: ProjectContainer) -> None:
        """See that a server which runs lets clients in with the settings, before it is replaced for them.

        Raises:
            VolumeMismatch: its data was initialised with others.
        """
        try:
            self._booting[recipe.name](container.placement(recipe, self._addresses.host))
        except Exception as error:
            # For everything else it is replaced.
            if refused := self._explained(recipe, error):
                raise refused from error

    def _explained(self, recipe: ServiceRecipe, error: BaseException) -> TritonError | None:
        # Inside the container no password is asked for, and Compose starts it without a look at the data.
        lost = f" (without the old password: docker compose up -d {recipe.container.alias})"
        return explain_login_failure(recipe, error, self._stamps.get(recipe.name), lost=lost)

    def _run_compose(self, recipes: Sequence[ServiceRecipe]) -> None:
        try:
            self._compose.up([recipe.container.alias for recipe in recipes])
        except ComposeFailed as error:
            if "rlimit" in error.cause:
                error.hint = hint_about_limits(self._settings, self._engine.info.name)
            # Another program was quicker, or it could not be seen which one listens there.
            for recipe in recipes:
                for port in recipe.ports:
                    if failures.is_port_conflict(error.cause) and f":{port.fixed}" in error.cause:
                        raise failures.port_taken(
                            recipe, self._addresses.bind, {port.fixed: ""}, instead=OTHER_PROJECT
                        ) from error
            raise

    def _check_ports(self, recipe: ServiceRecipe, container: ProjectContainer | None) -> None:
        """Say who has a port before Compose fails half-way.

        Raises:
            PortTaken: naming the container or process.
        """
        own = set(container.published.values()) if container and container.running else set()
        for port in recipe.ports:
            if port.fixed in own:
                continue
            holder = self._engine.publisher_of(port.fixed)
            if not holder and self._engine.is_local:
                holder = listener_on(port.fixed, self._addresses.bind)
            if holder:
                raise failures.port_taken(recipe, self._addresses.bind, {port.fixed: holder}, instead=OTHER_PROJECT)

    def _check_settings(self, recipe: ServiceRecipe) -> None:
        """Raise `InvalidSetting` if a service runs with other names or passwords than the settings have."""
        container = self._containers[recipe.name]
        wanted, given = recipe.container.environment, container.environment
        check_given(recipe, self._settings, wanted, given, where=f"container {container.name}")


def hint_about_limits(settings: Settings, engine: str) -> str:
    """What helps where an engine may not set the limits of a container.

    Args:
        engine: its name. Podman as root asks for limits of its own accord, as a user for those that the user has.
    """
    own = {name: field for name, field in settings.model_fields.items() if name.endswith("_nofile")}
    if engine == "Podman" and all(getattr(settings, name) == field.default for name, field in own.items()):
        return "root may not raise limits here, which Podman tries: systemctl --user start podman.socket, as a user"
    return f"this engine grants fewer open files: remove or lower {', '.join(map(str.upper, own))}"


class _Gate:
    """Opened by the last of several threads; a failure of one is that of all."""

    def __init__(self, names: set[str]) -> None:
        self._awaited = names
        self._lock = threading.Lock()
        self._opened: Future[None] = Future()

    def is_last(self, name: str) -> bool:
        """Count this one as arrived; whether no other is awaited."""
        with self._lock:
            self._awaited.discard(name)
            return not self._awaited

    def open(self) -> None:
        with suppress(InvalidStateError):
            self._opened.set_result(None)

    def fail(self, error: BaseException) -> None:
        with suppress(InvalidStateError):
            self._opened.set_exception(error)

    def wait(self) -> None:
        self._opened.result()


def _running(containers: Mapping[str, ProjectContainer]) -> set[str]:
    return {name for name, container in containers.items() if container.running}
