"""The persistent services of a project without Docker."""

import os
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from triton_env.core.ending import exit_words, times
from triton_env.core.files import size_of
from triton_env.core.model import Placement, ServiceRecipe
from triton_env.core.readiness import DeadlineExceeded, Explain, wait_until_ready
from triton_env.core.setting_types import plain_text
from triton_env.core.settings_group import LOGIN, Role
from triton_env.core.usage import Usage
from triton_env.errors import CleanupFailed, NotOffered, ProjectTaken, StartCancelled
from triton_env.persistent.compose_file import checkout
from triton_env.persistent.embedded.control import Supervisor
from triton_env.persistent.embedded.data import check
from triton_env.persistent.embedded.folder import ProjectFolder
from triton_env.persistent.embedded.instances import ProjectProcess, described
from triton_env.persistent.embedded.orders import Order, made_of, version_of
from triton_env.persistent.instance import Instance
from triton_env.persistent.stack import Belongings, Stack, Words
from triton_env.runtimes import failures
from triton_env.runtimes.embedded.access import FolderAccess
from triton_env.runtimes.embedded.runtime import loopback
from triton_env.runtimes.embedded.server import listens, log_tail
from triton_env.runtimes.embedded.usage import usage_of
from triton_env.services import SERVICES, Service
from triton_env.settings import Settings

if TYPE_CHECKING:
    from triton_env.persistent.embedded.runtime import PersistentProcesses

_GONE = "its supervisor has ended, by force or with the machine"


class EmbeddedStack(Stack):
    """The persistent services of a project as processes of this machine; see `Stack`.

    Attributes:
        folder: where their data is.
        supervisor: the process that runs them.
    """

    runtime = "embedded"
    _absent = "it was not started"

    def __init__(self, settings: Settings, *, any_checkout: bool = False) -> None:
        super().__init__(settings, any_checkout=any_checkout)
        self.folder = ProjectFolder.of(self.settings)
        self.supervisor = Supervisor(self.folder)
        self.host = loopback(self.settings.triton_bind_address)

    @property
    def place(self) -> str:
        return f"Data: {self.folder.path}"

    @cached_property
    def checkout(self) -> str:
        """The folder of the project that is at work; empty where it is any."""
        return "" if self._any_checkout else checkout()

    def offered(self) -> tuple[str, ...]:
        return tuple(name for name in SERVICES if self._recipes[name].process.lasting)

    def open(
        self, recipes: Sequence[ServiceRecipe], *, apply: bool, say: Callable[[str], None]
    ) -> "PersistentProcesses":
        from triton_env.persistent.embedded.runtime import PersistentProcesses

        return PersistentProcesses(self, [self.lasting(recipe) for recipe in recipes], apply=apply, say=say)

    def lasting(self, recipe: ServiceRecipe) -> ServiceRecipe:
        """A recipe whose process is of the form that keeps data.

        Raises:
            NotOffered: it has none.
        """
        if recipe.process.lasting is None:
            raise NotOffered(
                f"{recipe.title} cannot be persistent without Docker: {made_of(recipe.process)} keeps nothing on disk.",
                where=f"project {self.project}",
                hint=f"{recipe.process.instead}; or " * bool(recipe.process.instead)
                + "leave it out, such as python -m triton_env up "
                + " ".join(self.offered())
                + "; or set TRITON_RUNTIME=docker",
            )
        return replace(recipe, process=recipe.process.lasting)

    def instances(self) -> Mapping[str, ProjectProcess]:
        noted = self.supervisor.noted()
        if noted is None:
            return {}
        lives = self.supervisor.is_alive
        if lives and noted.checkout and self.checkout and not _is_same(noted.checkout, self.checkout):
            raise ProjectTaken(
                f"The persistent services {self.project!r} belong to another checkout.",
                where=f"process {noted.pid}, of {noted.checkout}",
                cause=f"this one is {self.checkout}",
                hint=f"run beside it: --project {self.project}2, or TRITON_PROJECT={self.project}2 in .env; or stop "
                f"those: python -m triton_env down, in {noted.checkout}",
            )
        return {
            name: described(name, each, "" if lives else _GONE)
            for name, each in noted.services.items()
            if name in SERVICES
        }

    def order(self, recipe: ServiceRecipe) -> Order:
        """What the supervisor is asked for, to run a service with the settings.

        Args:
            recipe: whose process is of the form that keeps data.
        """
        process = recipe.process
        ports = {port.name: port.fixed for port in recipe.ports if process.has_port(port.name)}
        group = SERVICES[recipe.name].settings_group
        given = {
            name: plain_text(getattr(self.settings.with_group(group), name))
            for name in group.names_of(*LOGIN, Role.USER, Role.DATABASE, Role.BUCKET, Role.REGION)
        }
        return Order(
            service=recipe.name,
            title=recipe.title,
            process=replace(process, unusable=None, lasting=None),
            host=self.host,
            ports=ports,
            timeout=recipe.timeout,
            given=given,
            made_of=made_of(process),
            version=version_of(process),
            facts=dict(recipe.data.init_values) if recipe.data else {},
            checkout=self.checkout,
        )

    def _down(self) -> None:
        self.instances()
        with self._turn():
            self.supervisor.end()

    def belongings(self, names: Sequence[str] = ()) -> Belongings:
        instances = self.instances()
        wanted = names or SERVICES.installed()
        return Belongings(
            servers={each.id: each.name for name, each in instances.items() if name in wanted and not each.reason},
            networks={},
            data=tuple(str(self.folder.data(name)) for name in self.folder.with_data() if not names or name in names),
            server=Words("server", "servers"),
            holder=Words("folder", "folders"),
        )

    def with_data(self, names: Sequence[str] = ()) -> tuple[str, ...]:
        there = self.folder.with_data()
        return tuple(name for name in names or SERVICES if name in there)

    def sizes(self, data: Sequence[str]) -> dict[str, int]:
        return {each: size_of(Path(each)) for each in data}

    def access(self, name: str) -> FolderAccess:
        return FolderAccess(self.folder.path, name)

    def wait_for(
        self,
        recipe: ServiceRecipe,
        process: ProjectProcess,
        probe: Callable[[], None],
        *,
        cancelled: threading.Event,
        explain: Explain = lambda error: None,
    ) -> None:
        """Wait until the service of a process answers.

        Args:
            recipe: the service's.
            process: as it was when it began to start.
            probe: raises while the service does not answer.
            cancelled: ends the wait early when set.
            explain: see `wait_until_ready`.

        Raises:
            TritonError: what `explain` returned, or that it does not answer.
        """
        log = self.access(recipe.name).log

        def try_once() -> None:
            # Another program may have taken the port while it was down, and would be taken for it.
            now = self.instances().get(recipe.name) or process
            if not listens(now.pid or 0, now.ports.values()):
                raise ConnectionError(f"{now.where}, does not listen on its ports yet")
            probe()

        def check_alive() -> None:
            if cancelled.is_set():
                raise StartCancelled("The start was cancelled.")
            now = self.instances().get(recipe.name)
            if now is None or not now.running or now.restarts > process.restarts:
                raise failures.service_exited(
                    recipe,
                    where=(now or process).where,
                    cause=_how_it_ended(now),
                    log=log_tail(log, failures.LOG_LINES),
                    hint=f"check the settings of {recipe.title}, or set TRITON_RUNTIME=docker",
                    place=str(self.folder.path),
                )

        try:
            wait_until_ready(
                try_once,
                timeout=recipe.timeout,
                interval=self.settings.triton_poll_interval,
                check_alive=check_alive,
                cancelled=cancelled,
                explain=explain,
            )
        except DeadlineExceeded as error:
            raise failures.service_not_ready(
                recipe,
                error,
                where=process.where,
                log=log_tail(log, failures.LOG_LINES),
                place=str(self.folder.path),
            ) from error.last_error

    def placement(self, name: str, process: ProjectProcess) -> Placement:
        """Where a service answers, with the Unix sockets of its server where it has any.

        Whichever process comes first through these sets the password: the one that started the server may be gone.
        """
        uses = any("{sockets}" in word for word in self._recipes[name].process.argv)
        return replace(process.placement(), sockets=self.folder.run / "run" if uses else None)

    def _service(self, name: str, instance: Instance) -> Service:
        process = _process(instance)
        return SERVICES[name](self.settings_of(process), self.placement(name, process))

    def _given(self, instance: Instance) -> Mapping[str, str]:
        return _process(instance).given

    def _usage(self, instance: Instance) -> Usage | None:
        pid = _process(instance).pid
        return usage_of(pid) if pid else None

    def _restart(self, names: Sequence[str]) -> None:
        if self.supervisor.is_alive:
            self.supervisor.restart(names)
        else:
            recipes = [self.lasting(self._recipes[name]) for name in names]
            for recipe in recipes:
                check(self.folder, recipe)
            self.folder.wait_for_servers()
            self.folder.make()
            self.supervisor.start([self.order(recipe) for recipe in recipes])

    def _wait_for(self, name: str, instance: Instance, probe: Callable[[], None], cancelled: threading.Event) -> None:
        self.wait_for(self._recipes[name], _process(instance), probe, cancelled=cancelled)

    def _remove(self, names: Sequence[str]) -> Belongings:
        gone = self.belongings(names)
        if names:
            self.supervisor.stop(names)
        else:
            self.supervisor.end()
        problems: list[str] = []
        for path in (*map(Path, gone.data), *([] if names else [self.folder.path])):
            try:
                shutil.rmtree(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                problems.append(f"{path}: {error.strerror or error}")
        if problems:
            raise CleanupFailed(
                f"Not everything of the project {self.project} could be removed.",
                where=str(self.folder.path),
                cause="\n".join(problems),
                hint=f"rm -rf {self.folder.path}",
            )
        return gone


def _is_same(one: str, other: str) -> bool:
    """Whether two checkouts are the same one; one that is gone gives up its project."""
    return not os.path.exists(one) or os.path.samefile(one, other)


def _how_it_ended(process: ProjectProcess | None) -> str:
    if process is None:
        return "it was stopped from outside"
    if process.reason:
        return process.reason
    how = [] if process.running else [exit_words(process.exit_code)]
    again = [f"its supervisor has restarted it {times(process.restarts)}"] if process.restarts else []
    return "; ".join(how + again)


def _process(instance: Instance) -> ProjectProcess:
    assert isinstance(instance, ProjectProcess)
    return instance
