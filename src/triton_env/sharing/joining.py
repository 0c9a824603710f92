"""Joining a shared environment: the one that is there, or one that is started for it."""

import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

from triton_env.core.forms import Form, form_of
from triton_env.core.readiness import listens
from triton_env.core.shortages import in_log
from triton_env.core.threads import in_thread
from triton_env.errors import KeeperEnded, ResourceExhausted, RuntimeUnavailable
from triton_env.services import SERVICES
from triton_env.services.credentials import credentials
from triton_env.settings import Settings
from triton_env.settings.project_folders import project_root
from triton_env.sharing.key import key_of, settings_as_data
from triton_env.sharing.reuse import Reuse
from triton_env.sharing.shared_registry import LaunchSpec, SharedInstance, SharedRegistry, is_kept
from triton_env.sharing.start_events import StartEvents
from triton_env.state import locks, restarts
from triton_env.state.locks import Held

_TRIES = 5
"""How often to look for an environment whose services answer, before the next one is taken as it is."""
_END_TIMEOUT = 15.0
"""Seconds to wait for the end of a keeper whose start failed: after the error nothing is left."""
_NEWS_TIMEOUT = 2
"""Seconds to wait for the keeper's word about a server that no longer listens; it looks five times a second."""
_RESTART_TIMEOUT = 60.0
"""Seconds that a newcomer waits for a server that is being restarted."""
_KEEPER = Path(__file__).parents[1] / "keeper" / "bootstrap.py"


class Joined:
    """What one process has of a shared environment: a lease, and the events that its keeper writes.

    Attributes:
        id: the environment's id.
        settings: the process's own, with the environment's credentials.
        events: what the keeper reports.
        words: what a person should know about how it was joined.
    """

    def __init__(
        self,
        registry: SharedRegistry,
        instance: SharedInstance,
        lease: Held,
        events: StartEvents,
        settings: Settings,
        words: tuple[str, ...],
    ) -> None:
        self.id = instance.id
        self.settings = settings
        self.events = events
        self.words = words
        self._registry = registry
        self._instance = instance
        self._lease = lease
        self._leaving = threading.Lock()

    def has_others(self) -> bool:
        """Whether other processes, or other environments of this one, use it too."""
        with self._registry.turn():
            self._instance.forget_the_dead()
            return self._instance.is_used(besides=self._lease)

    def have_it_replaced(self) -> None:
        """Have no newcomer join it, since it is no longer complete. It ends once it is unused."""
        with self._registry.turn():
            self._instance.close()

    def how_it_ended(self, service: str) -> str:
        """How a server ended that does not answer, in brackets; empty where the keeper does not know."""
        if form_of(self.events.state.runtime) is Form.PROCESS:
            self.events.wait_for_ending(service, _NEWS_TIMEOUT)
        ending = self.events.state.endings.get(service)
        return f" ({ending.words})" if ending else ""

    def wait_until_listed(self) -> None:
        """Wait until other processes can see the environment too, once its services are ready.

        Raises:
            KeeperEnded, ResourceExhausted: it ended just then.
        """
        if not self.events.wait_for(lambda state: state.up) and self.events.lost:
            raise self.lost()

    def lost(self) -> KeeperEnded | ResourceExhausted:
        """The error about a keeper that ended without a word, or about the shortage that ended it."""
        what = f"The process that keeps the shared environment {self.id} ended while it started it."
        log = self.events.log_tail()
        return in_log(what, "", log, str(self._registry.folder)) or KeeperEnded(
            what, log_tail=log, hint="start it again; or leave out reuse=True to get a session of its own"
        )

    def hand_over(self) -> None:
        """Have a program that this process becomes hold the lease until it ends."""
        self._lease.outlive_exec()

    def leave(self) -> None:
        """Release the lease, and wake what waits for events. Does nothing where that was done."""
        with self._leaving:
            self.events.stop()
            if not self._lease.is_locked:
                return
            self._lease.release(remove=True)
            if self.events.state.failed is not None:
                self.events.wait_for_end(_END_TIMEOUT)
            self.events.close()
            if self.events.lost:
                # Its keeper could not.
                self._registry.sweep()


def join(settings: Settings, names: Sequence[str], runtime: str, reuse: Reuse) -> Joined:
    """Hold a lease on the environment of that description. Where there is none, a keeper is started for it.

    One that runs is looked at first: where a service no longer responds, another environment is started in its place.

    Raises:
        TritonError: it cannot be described, or no keeper can be started.
    """
    settings = settings.updated(triton_runtime=runtime)
    key = key_of(settings, names, runtime, reuse.key_suffix)
    registry = SharedRegistry(settings)
    words: list[str] = []
    for tries_left in reversed(range(_TRIES)):
        joined, is_new = _joined(registry, key, settings, tuple(names), reuse, tuple(words))
        try:
            joined.events.read()
            silent = [] if is_new or not joined.events.state.up or not tries_left else _silent(joined)
            if silent:
                joined.have_it_replaced()
        except BaseException:
            joined.leave()
            raise
        if not silent:
            return joined
        words.append(
            f"{SERVICES[silent[0]].title} of the shared environment {joined.id} no longer responds"
            f"{joined.how_it_ended(silent[0])}; starting a new environment"
        )
        joined.leave()
    raise AssertionError("unreachable: the last try is taken as it is")


def join_instance(settings: Settings, identity: str) -> Joined:
    """Hold a lease on the environment of that id, whatever it was asked for.

    Args:
        settings: the process's own.

    Raises:
        KeeperEnded: it has ended.
    """
    registry = SharedRegistry(settings)
    with registry.turn():
        for instance in registry.instances():
            if instance.id != identity or not instance.is_alive():
                continue
            with suppress(OSError, ValueError):  # it is about to end
                spec, events = instance.spec(), StartEvents(instance)
                events.read()
                return Joined(registry, instance, instance.lease(), events, spec.of(settings), ())
    raise KeeperEnded(
        f"The shared environment {identity} has just ended.", hint="start one with: python -m triton_env serve --reuse"
    )


def _joined(
    registry: SharedRegistry, key: str, settings: Settings, names: tuple[str, ...], reuse: Reuse, words: tuple[str, ...]
) -> tuple[Joined, bool]:
    """A part in the environment of that key, and whether it was started for it."""
    group = _group(reuse)
    lease: Held | None = None
    with registry.turn():
        found = _found(registry, key)
        instance = found[0] if found else registry.instance(key, token_hex(4))
        try:
            if found:
                spec = found[1]
            else:
                _make_room(registry, key, group, settings)
                spec = _spec(registry, instance, group, settings, names, reuse)
                instance.write(spec)
            lease = instance.lease()
            if not found:
                _start_keeper(instance)
            events = StartEvents(instance)
        except BaseException:
            if lease:
                lease.release(remove=True)
            # Such as Ctrl-C before there was a keeper; one that is there sees that it is unused.
            if not instance.is_alive():
                instance.remove()
            raise
    return Joined(registry, instance, lease, events, spec.of(settings), words), found is None


def _found(registry: SharedRegistry, key: str) -> tuple[SharedInstance, LaunchSpec] | None:
    """The environment that newcomers join. In passing the files of dead keepers are removed."""
    found: tuple[SharedInstance, LaunchSpec] | None = None
    for instance in registry.instances():
        if not instance.is_alive():
            registry.remove_dead(instance)
        elif instance.key == key and instance.is_open():
            try:
                found = instance, instance.spec()
            except (OSError, ValueError):  # it cannot be joined
                instance.close()
    return found


def _make_room(registry: SharedRegistry, key: str, group: str, settings: Settings) -> None:
    """Have environments end that only linger, and that settings were changed for since."""
    for instance in registry.instances():
        if instance.key == key or not instance.is_open() or instance.is_used() or is_kept(settings, instance.id):
            continue
        # Those of other versions end by themselves.
        with suppress(OSError, ValueError):
            if instance.spec().group == group:
                instance.close()


def _group(reuse: Reuse) -> str:
    return f"{reuse.key_suffix}\0{Path.cwd()}"


def _spec(
    registry: SharedRegistry,
    instance: SharedInstance,
    group: str,
    settings: Settings,
    names: tuple[str, ...],
    reuse: Reuse,
) -> LaunchSpec:
    fresh = credentials(settings, names)
    return LaunchSpec(
        id=instance.id,
        group=group,
        services=names,
        runtime=settings.triton_runtime,
        linger=settings.triton_linger if reuse.linger is None else reuse.linger,
        project=str(project_root(Path.cwd())),
        settings=settings_as_data(settings.updated(**fresh)),
        credentials=tuple(fresh),
        path=tuple(sys.path),
        after=tuple(str(each.folder) for each in registry.instances() if not each.is_open())
        if settings.triton_ports == "fixed"
        else (),
    )


def _start_keeper(instance: SharedInstance) -> None:
    # Held from here on, by the file that the keeper inherits: no newcomer may take it for dead.
    alive = locks.hold(instance.alive)
    try:
        with instance.log.open("ab") as log:
            # It forks and returns: what ends long after its starter should not be a child of it.
            starter = subprocess.Popen(  # noqa: S603 - our own interpreter and script
                [sys.executable, "-I", "-S", str(_KEEPER), str(instance.folder), str(alive.descriptor)],
                pass_fds=(alive.descriptor,),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C in a terminal reaches all of its processes.
                start_new_session=True,
            )
            starter.wait()
    except OSError as error:
        raise RuntimeUnavailable(
            "The process that keeps the shared environment cannot be started.",
            where=sys.executable or "this interpreter does not know its own path",
            cause=str(error),
        ) from error
    finally:
        alive.close_without_unlocking()


def _silent(joined: Joined) -> list[str]:
    """The services that have stopped listening, and are not being restarted."""
    placements = joined.events.state.placements
    for name in placements:
        restarts.wait(joined.settings, joined.id, name, _RESTART_TIMEOUT)
    answers = {name: in_thread(listens, placement) for name, placement in placements.items()}
    return [name for name, answer in answers.items() if not answer.result()]
