"""The keeper: a process that owns a shared environment, and stops it when it is no longer used."""

import signal
import time
import traceback
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from types import FrameType

from triton_env.environment import TritonEnvironment
from triton_env.errors import CleanupFailed, StartCancelled, TritonError
from triton_env.keeper.images import ImageWatch
from triton_env.modes.shared import Kept
from triton_env.runtimes.base import Runtime
from triton_env.services import Service
from triton_env.sharing.offering import offered
from triton_env.sharing.shared_registry import SharedInstance, SharedRegistry, is_kept
from triton_env.sharing.start_events import EventWriter

_INTERVAL = 0.2
"""Seconds between two looks at whether the environment is used."""
_PORTS_TIMEOUT = 30
"""Seconds to wait for another environment to give up its ports."""


def keep(folder: str) -> None:
    """Start what was ordered, keep it as long as it is used and a while longer, stop it, and remove the files."""
    instance = SharedInstance(Path(folder))
    try:
        _Keeper(instance).run()
    except CleanupFailed:
        # The evidence stays, until the next newcomer finds that its keeper is dead.
        traceback.print_exc()
    except BaseException:
        instance.remove()
        raise
    else:
        instance.remove()


class _Keeper:
    def __init__(self, instance: SharedInstance) -> None:
        self._instance = instance
        self._spec = instance.spec()
        self._settings = self._spec.theirs()
        self._registry = SharedRegistry(self._settings)
        self._writer = EventWriter(instance.events, instance.spare)
        self._environment = TritonEnvironment(
            self._settings, services=self._spec.services, runtime=self._spec.runtime, lazy=True
        )._in_modes(lambda: Kept(self._environment.settings, self._spec.id, self._writer))
        self._environment._held_as("reuse")
        self._is_asked_to_stop = False
        self._ended: set[str] = set()

    def run(self) -> None:
        # A terminal that closes or is interrupted is that of one of those who use it.
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._ask_to_stop)
        try:
            self._start()
        except BaseException as error:
            self._fail(error)
            return
        try:
            self._hold()
        finally:
            self._stop()

    def _stop(self) -> None:
        try:
            with self._registry.turn():
                self._instance.close()
        finally:
            self._environment.stop()

    def _ask_to_stop(self, number: int, frame: FrameType | None) -> None:
        # A flag and no event: a handler runs in between the lines of the code that waits for it.
        self._is_asked_to_stop = True

    def _start(self) -> None:
        self._wait_for_ports()
        self._environment.start()
        startup = self._environment._running()
        startup.runtime.add_done_callback(self._report_runtime)
        for name, service in startup.services.items():
            service.add_done_callback(partial(self._report_ready, name))
        while True:
            done, waiting = wait(startup.services.values(), timeout=_INTERVAL, return_when=FIRST_EXCEPTION)
            if not waiting or any(future.exception() for future in done):
                break
            self._check_wanted()
        startup.wait()

    def _wait_for_ports(self) -> None:
        """Wait until unused environments with needed ports have ended. Ports of others are an error of the start."""
        deadline = time.monotonic() + _PORTS_TIMEOUT
        for before in (SharedInstance(Path(folder)) for folder in self._spec.after):
            while before.is_alive() and not before.is_used() and time.monotonic() < deadline:
                self._check_wanted()
                time.sleep(_INTERVAL)

    def _check_wanted(self) -> None:
        """Raise `StartCancelled` where no process waits for the start any longer."""
        if self._is_asked_to_stop:
            raise StartCancelled("The keeper of the shared environment was asked to stop.")
        if not self._instance.is_used() and self._closed_unless_used():
            raise StartCancelled("No process waits for the shared environment any longer.")

    def _report_runtime(self, future: "Future[Runtime]") -> None:
        if not future.cancelled() and future.exception() is None:
            runtime = future.result()
            access = {name: runtime.access(name) for name in self._spec.services}
            self._writer.write_runtime(runtime.name, runtime.reason, access)

    def _report_ready(self, name: str, future: "Future[Service]") -> None:
        if future.exception() is None:
            self._writer.write_ready(name, future.result().placement)

    def _fail(self, error: BaseException) -> None:
        """Stop what was begun, then report the failure: when it is read, nothing is left."""
        blamed = self._blamed(error)
        try:
            self._stop()
        except TritonError as failed:
            error.add_note(str(failed))
        self._writer.write_failure(blamed, error)

    def _blamed(self, error: BaseException) -> str:
        """The service that failed; empty where it was the whole."""
        startup = self._environment._startup
        if startup is None or not startup.runtime.done() or startup.runtime.cancelled() or startup.runtime.exception():
            return ""
        return next((name for name, each in startup.services.items() if each.done() and each.exception() is error), "")

    def _hold(self) -> None:
        """Hold the environment until it has been unused for a while, or a signal asks for the end."""
        with ExitStack() as stack:
            spec = self._spec
            stack.enter_context(
                offered(self._environment, held_by="reuse", project=spec.project, asked_runtime=spec.runtime)
            )
            images = stack.enter_context(ImageWatch.of(self._environment))
            self._environment._running().on_restart = self._report_restart
            self._writer.write_up()
            unused_since: float | None = None
            while not self._is_asked_to_stop:
                time.sleep(_INTERVAL)
                self._report_endings()
                if images.changed():
                    with self._registry.turn():
                        self._instance.close()
                if self._instance.is_used():
                    unused_since = None
                    continue
                now = time.monotonic()
                unused_since = now if unused_since is None else unused_since
                # One that newcomers cannot join has nothing to linger for.
                enough = now - unused_since >= self._spec.linger or not self._instance.is_open()
                if enough and self._closed_unless_used():
                    return

    def _report_endings(self) -> None:
        """Report which servers have just ended. The engine reports those of containers itself."""
        startup = self._environment._running()
        for name in set(self._environment.services) - self._ended:
            if ending := startup.liveness.ending(name, look=False):
                self._ended.add(name)
                # Where the disk is full all the same, the other servers go on. This is written with what comes next.
                with suppress(OSError):
                    self._writer.write_ending(name, ending)

    def _report_restart(self, name: str) -> None:
        """Report that a server runs again. It may have died before."""
        self._ended.discard(name)
        with suppress(OSError):
            self._writer.write_restarted(name)

    def _closed_unless_used(self) -> bool:
        with self._registry.turn():
            self._instance.forget_the_dead()
            if self._instance.is_used() or is_kept(self._settings, self._spec.id):
                return False
            self._instance.close()
            return True
