"""The persistent services of a project on a Docker engine."""

import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from triton_env.core.model import ServiceRecipe
from triton_env.core.redaction import redacted
from triton_env.core.threads import in_thread
from triton_env.core.usage import Usage
from triton_env.errors import CleanupFailed, RuntimeUnavailable, TritonError
from triton_env.persistent.compose_file import OUR_LABEL, used_file
from triton_env.persistent.docker.compose import EVERY_PROFILE, SERVICE_LABEL, VOLUME_LABEL, Compose
from triton_env.persistent.docker.containers import Project, ProjectContainer
from triton_env.persistent.instance import Instance
from triton_env.persistent.stack import Belongings, Stack, Words
from triton_env.runtimes.docker import child
from triton_env.runtimes.docker.access import ContainerAccess
from triton_env.runtimes.docker.address import AddressPlan
from triton_env.runtimes.docker.engine import Engine
from triton_env.runtimes.docker.usage import usage_of
from triton_env.runtimes.docker.watch import while_engine_answers
from triton_env.services import SERVICES, Service
from triton_env.settings import Settings

if TYPE_CHECKING:
    from triton_env.persistent.docker.runtime import PersistentRuntime

_SIZE_TIMEOUT = 2.0


class DockerStack(Stack):
    """The persistent services of a project on one engine; see `Stack`.

    Attributes:
        file: the compose file.
        engine: the engine that has them.

    Args:
        settings, any_checkout: see `Stack`.

    Raises:
        InvalidSetting: settings that disagree.
        RuntimeUnavailable: no engine can be used.
    """

    runtime = "docker"

    def __init__(self, settings: Settings, *, any_checkout: bool = False) -> None:
        super().__init__(settings, any_checkout=any_checkout)
        self.file = used_file(self.settings)
        self.engine = Engine()
        if self.engine.way != self.engine.url:
            self.close()
            raise _not_behind_ssh(self.engine.url)
        self.on_engine = Project(self.engine, self.project)

    def close(self) -> None:
        self.engine.close()

    @property
    def place(self) -> str:
        return f"Compose file: {self.file}"

    def open(self, recipes: Sequence[ServiceRecipe], *, apply: bool, say: Callable[[str], None]) -> "PersistentRuntime":
        from triton_env.persistent.docker.runtime import PersistentRuntime

        return PersistentRuntime(self, recipes, apply=apply, say=say)

    def found(self) -> dict[str, ProjectContainer]:
        """All containers of the project by their service's name in the compose file, running or not.

        Raises:
            ProjectTaken: the project is that of another checkout or program.
        """
        found = self.on_engine.containers()
        self.on_engine.check_ours(found.values(), self.file, any_checkout=self._any_checkout)
        return found

    def instances(self) -> Mapping[str, ProjectContainer]:
        found = self.found()
        names = {recipe.container.alias: name for name, recipe in self._recipes.items()}
        return {names[alias]: container for alias, container in found.items() if alias in names}

    def _down(self) -> None:
        """Stop and remove the containers and the network. Volumes stay.

        Raises:
            ComposeFailed: it could not be done.
        """
        with self._turn():
            self.compose.down()

    def belongings(self, names: Sequence[str] = ()) -> Belongings:
        # Everything in it has the label of triton-env with the project's name.
        self.instances()
        aliases = {self._recipes[name].container.alias for name in names}
        ask = self.engine.ask
        filters = {"label": [f"{OUR_LABEL}={self.project}"]}
        with self.engine.translated("list what belongs to the project", f"project {self.project}"):
            containers = ask("/containers/json", all=True, filters=filters)
            networks = [] if names else ask("/networks", filters=filters)
            volumes = ask("/volumes", filters=filters)["Volumes"] or []
        return Belongings(
            servers={
                # One that is being removed may have lost its name.
                each["Id"]: (each["Names"] or [each["Id"][:12]])[0].lstrip("/")
                for each in containers
                if self._is_ours(each) and (not names or each["Labels"].get(SERVICE_LABEL) in aliases)
            },
            networks={each["Id"]: each["Name"] for each in networks if self._is_ours(each)},
            data=tuple(
                sorted(
                    each["Name"]
                    for each in volumes
                    # The compose file names volumes by their service.
                    if self._is_ours(each)
                    and (not names or each["Labels"].get(VOLUME_LABEL, "").partition("_")[0] in aliases)
                )
            ),
            server=Words("container", "containers"),
            holder=Words("volume", "volumes"),
        )

    def with_data(self, names: Sequence[str] = ()) -> tuple[str, ...]:
        volumes = {volume.partition("_")[0] for volume in self.on_engine.volumes()}
        return tuple(name for name in names or SERVICES if self._recipes[name].container.alias in volumes)

    def sizes(self, data: Sequence[str]) -> dict[str, int]:
        try:
            usage: Mapping[str, Any] = in_thread(self.engine.ask, "/system/df").result(_SIZE_TIMEOUT)
        except Exception:  # whatever it is, the list is as good without sizes
            return {}
        sizes = {each["Name"]: (each.get("UsageData") or {}).get("Size", -1) for each in usage.get("Volumes") or ()}
        return {name: sizes[name] for name in data if sizes.get(name, -1) >= 0}

    def _remove(self, names: Sequence[str]) -> Belongings:
        from triton_env.persistent.docker.volume_files import remove_leftovers

        api = self.engine.client.api
        problems: list[str] = []

        def tried(what: str, action: Callable[..., object], *arguments: object) -> None:
            try:
                with self.engine.translated(f"remove {what}"):
                    action(*arguments)
            except TritonError as error:
                if not _is_gone(error):
                    problems.append(f"{what}: {error.cause}")

        def remove_container(identity: str) -> None:
            # Killed: what a server would save on its way out is removed next. v: its anonymous volumes as well.
            api.remove_container(identity, force=True, v=True)

        if self._any_checkout:
            self.on_engine.check_folder(self.found().values(), self.file)
        # Of a process that was killed while it looked into the volumes: the engine would not remove these.
        with self.engine.translated("remove what a killed process left", f"project {self.project}"):
            remove_leftovers(self.engine, self.project)
        belongings = self.belongings(names)
        # Waited for where a signal can end it, and not by the interpreter's end.
        for removal in [
            in_thread(tried, f"container {name}", remove_container, identity)
            for identity, name in belongings.servers.items()
        ]:
            removal.result()
        for identity, name in belongings.networks.items():
            tried(f"network {name}", api.remove_network, identity)
        for name in belongings.data:
            tried(f"volume {name}", api.remove_volume, name)
        if problems:
            raise CleanupFailed(
                f"Not everything of the project {self.project} could be removed.",
                where=f"project {self.project}",
                cause="\n".join(problems),
                hint=f"docker ps --all --filter label={OUR_LABEL}={self.project}",
            )
        return belongings

    def access(self, name: str) -> ContainerAccess:
        return ContainerAccess(self.engine.url, self.instances()[name].name)

    def show_logs(
        self, names: Sequence[str], *, follow: bool, tail: int | None, color: bool, show: Callable[[str], None]
    ) -> bool:
        words = [*EVERY_PROFILE, "--ansi", "always" if color else "never", "logs"]
        words += ["--follow"] if follow else []
        words += ["--tail", str(tail)] if tail is not None else []
        words += [self._recipes[name].container.alias for name in names]
        argv, environment = self.compose.command(words)
        secrets = self.secrets()
        process = child.begin(argv, environment, stdout=subprocess.PIPE)
        assert process.stdout is not None
        answering = while_engine_answers(process, self.engine.ping, self.engine.url)
        with process.stdout, answering, child.killed(process):
            for line in process.stdout:
                show(redacted(line, secrets))
            return process.wait() == 0

    @cached_property
    def compose(self) -> Compose:
        """Compose, for this project on this engine."""
        addresses = self.addresses
        return Compose(self.settings, self.engine.url, addresses.bind, addresses.name, ping=self.engine.ping)

    @cached_property
    def addresses(self) -> AddressPlan:
        """Where the services are published, and where this process reaches them."""
        with self.engine.translated("say where this process runs"):
            return self.engine.addresses(self.settings)

    def _service(self, name: str, instance: Instance) -> Service:
        container = _container(instance)
        placement = container.placement(self._recipes[name], self.addresses.host)
        return SERVICES[name](self.settings_of(container), placement)

    def _usage(self, instance: Instance) -> Usage | None:
        return usage_of(self.engine, instance.id)

    def _restart(self, names: Sequence[str]) -> None:
        self.compose.restart([self._recipes[name].container.alias for name in names])

    def _wait_for(self, name: str, instance: Instance, probe: Callable[[], None], cancelled: threading.Event) -> None:
        self.on_engine.wait_for(
            self._recipes[name],
            _container(instance),
            probe,
            interval=self.settings.triton_poll_interval,
            cancelled=cancelled,
        )

    def _given(self, instance: Instance) -> Mapping[str, str]:
        return {name.lower(): value for name, value in _container(instance).environment.items()}

    def _is_ours(self, described: Mapping[str, Any]) -> bool:
        return bool((described.get("Labels") or {}).get(OUR_LABEL) == self.project)


def _not_behind_ssh(url: str) -> RuntimeUnavailable:
    return RuntimeUnavailable(
        "Persistent services cannot be run on an engine behind ssh.",
        where=url,
        cause="they mount configuration files of this machine, which the other one does not have",
        hint="run them there: python -m triton_env up; and reach them with ssh -N -L 5432:127.0.0.1:5432 HOST",
    )


def _container(instance: Instance) -> ProjectContainer:
    assert isinstance(instance, ProjectContainer)
    return instance


def _is_gone(error: TritonError) -> bool:
    return getattr(getattr(error.__cause__, "response", None), "status_code", None) == 404
