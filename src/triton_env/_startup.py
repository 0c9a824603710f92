"""One start of an environment: the services on their way, each in a thread of its own."""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, InvalidStateError, wait
from contextlib import AbstractContextManager, suppress
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

from triton_env.core import spare
from triton_env.core.interrupts import wait_unless_hurried
from triton_env.core.model import Placement
from triton_env.core.readiness import Refused, check_listening
from triton_env.core.shortages import exhausted, is_behind
from triton_env.core.timeline import Phase, Recorder
from triton_env.errors import StartCancelled, TritonError
from triton_env.liveness import Liveness
from triton_env.modes.base import Mode
from triton_env.progress.open import open_display
from triton_env.runtimes.base import Runtime
from triton_env.services import SERVICES, Service, boot_order
from triton_env.settings import Settings
from triton_env.settings.unknown_variables import warn_of_misspelt
from triton_env.state import restarts

if TYPE_CHECKING:
    from triton_env.backup.recovery import Recovery
    from triton_env.isolation.isolator import Isolator
    from triton_env.sharing.listing import Listed

_log = logging.getLogger(__name__)

_WAIT = 1.0
"""Seconds of one wait for the services. A signal that comes in the last moment before a wait is handled after it."""
_THREADS_TIMEOUT = 10
"""Seconds that `end` waits for start threads to notice that they were cancelled."""
_OPENING_TIMEOUT = 5
"""Seconds that `end` waits for a runtime that is being opened. An engine that does not answer takes longer."""

_LISTED_AFTER = 1.0
"""Seconds after which a start is seen by other processes."""
_LISTED_TIMEOUT = 1.0
"""Seconds that `end` waits until it is not."""


class Startup:
    """One start of an environment: the services on their way, in the mode that it has.

    Args:
        names: of its services.
        lazy: whether the user's code runs during the start.
        held_by: what this process is; see `Record`.
    """

    def __init__(self, mode: Mode, names: Sequence[str], *, lazy: bool = False, held_by: str = "python") -> None:
        self.process = os.getpid()
        self.held_by = held_by
        self.mode = mode
        self.names = tuple(names)
        self._recipes = {name: SERVICES[name].recipe(mode.settings) for name in boot_order(names)}
        mode.check(self._recipes.values())
        self._display = mode.display or open_display(mode.settings.triton_progress, self.names, lazy=lazy)
        self.recorder = Recorder(self._display.show)
        self.runtime: Future[Runtime] = Future()
        self.said: list[str] = []
        """What the display has said of the runtime."""
        self._opener: threading.Thread | None = None
        self._has_spare = False
        self._has_waited = False
        self._lazy = lazy
        self._listing = threading.Lock()
        self._may_be_listed = mode.lists_itself
        self._interrupted: float | None = None
        """When the start was interrupted whose end is shown, on the monotonic clock; None where none is."""
        self._is_over = threading.Event()
        """Whether it is under way no more, for other processes."""
        self._shower: threading.Thread | None = None
        self.listed: Listed | None = None
        """Where other processes see it; None where they do not."""
        self._recovery: Recovery | None = None
        self.services: dict[str, Future[Service]] = {name: Future() for name in self._recipes}
        self.liveness = Liveness(self.runtime, self._recipes)
        self._restarts = {name: threading.Lock() for name in self._recipes}
        """One at a time for each server: other processes ask for them too."""
        self.on_restart: Callable[[str], None] = lambda name: None
        """Called with the name of a service that was restarted."""
        self.on_stop: Callable[[], None] | None = None
        """Ends the environment where its process goes on without it; None where that would end, too."""

    def begin(self) -> None:
        """Open the runtime and start all services, without waiting for either."""
        spare.hold()
        self._has_spare = True
        self._display.open()
        for future in self.services.values():
            future.add_done_callback(self._note_the_last)
        # Daemons: a start that hangs may not keep the interpreter from ending.
        self._opener = threading.Thread(target=self._start, name=f"triton-{self.id}", daemon=True)
        try:
            if self.mode.lists_start:
                self._shower = threading.Thread(target=self._show, name=f"triton-{self.id}-list", daemon=True)
                self._shower.start()
            self._opener.start()
        except RuntimeError as error:  # no thread is available: a limit, or the interpreter is shutting down
            self._give_up(error)

    def wait(self) -> None:
        """Wait until all services are ready, or raise what the first to fail raised."""
        try:
            while True:
                done, waiting = wait(self.services.values(), _WAIT, return_when=FIRST_EXCEPTION)
                errors = _errors(done)
                if errors or not waiting:
                    break
            if errors and all(isinstance(error, StartCancelled) for error in errors):
                # A service that was cancelled failed because of another; that one is to blame.
                done, _ = wait(self.services.values(), timeout=_THREADS_TIMEOUT)
                errors = _errors(done)
        except BaseException as error:
            if self.mode.lists_start and not isinstance(error, Exception):
                # Its end takes a while in some places, and follows at once. It is shown as the start is.
                self._interrupted = time.monotonic()
                self._display.say("interrupted; ending what was started ...")
            raise
        finally:
            # Here and not only with the last service: what the caller prints next comes after the display's last line.
            self._close_display()
        errors.sort(key=lambda error: isinstance(error, StartCancelled))
        if errors:
            raise errors[0]
        self._list()
        self._is_over.set()
        self.mode.note_start(self.recorder.timeline())
        self.mode.wait_until_listed()

    @property
    def settings(self) -> Settings:
        """Those in force."""
        return self.mode.settings

    @property
    def id(self) -> str:
        """In names and labels."""
        return self.mode.id

    def isolator(self) -> "Isolator":
        """What makes namespaces in these services, in this process. Waits until it is known where they run."""
        from triton_env.isolation.isolator import Isolator
        from triton_env.isolation.target import IsolationTarget

        self.runtime.result()
        environment = IsolationTarget(
            self.id,
            self.settings,
            self.names,
            lambda name: self.services[name].result(),
            lasting=self.mode.data_is_yours,
            # A forked child stops nothing.
            outlives=self.mode.outlives_us or self.process != os.getpid(),
            is_shared=self.mode.has_others,
            liveness=self.liveness,
            between_restores=self.between_restores,
        )
        return Isolator(environment)

    def restart(self, name: str) -> None:
        """End a server that was ready, start it again in its place, and wait until it is ready.

        Raises:
            TritonError: it is not this process's to restart, or does not come up again.
        """
        noted = restarts.noted(self.settings, self.id, name)
        with self._restarts[name], noted, self.liveness.restarting(name):
            probe = _Probe(SERVICES[name], self.settings, self._see_ready)
            self.runtime.result().restart(self._recipes[name], probe)
            self.on_restart(name)

    def end(self) -> None:
        """Stop the services, also those that are still starting. Shared ones are given back."""
        was_opening = False
        self._unlist()
        try:
            if was_opening := self.runtime.cancel():
                # Still being opened: an engine that does not answer is not waited for long. `_start` closes it.
                self._fail_services(StartCancelled("The start was cancelled."))
            # If opening it failed, `wait` or the first use has already raised the error.
            elif self.runtime.exception() is None:
                self.runtime.result().stop()
            self._forget_restore()
            if self._interrupted is not None:
                self._display.say(f"ended in {time.monotonic() - self._interrupted:.1f} s")
        finally:
            # Also where no runtime came of it.
            self.mode.leave()
            if was_opening:
                # If this process ends now: directories are there before the guard that removes them.
                wait_unless_hurried(lambda: not self._is_opening(), _OPENING_TIMEOUT)
            if not self._has_waited:
                # What hung the first time is not waited for again.
                self._has_waited = True
                wait_unless_hurried(lambda: all(each.done() for each in self.services.values()), _THREADS_TIMEOUT)
            self._display.close()
            self._is_over.set()
            if self._shower is not None and self._shower.is_alive():
                self._shower.join(_LISTED_TIMEOUT)
            if self._has_spare:
                self._has_spare = False
                spare.drop()

    def _is_opening(self) -> bool:
        return self._opener is not None and self._opener.is_alive()

    def _forget_restore(self) -> None:
        """Of servers that have ended, no restore can be finished."""
        # Without it there was none: no session pays for it.
        if not self.mode.outlives_us and (journal := sys.modules.get("triton_env.backup.journal")):
            journal.Place(self.settings, self.id, lasting=False).remove()

    def _start(self) -> None:
        try:
            if self.mode.settings_are_our_own:
                warn_of_misspelt(lambda words: self._display.say(f"warning: {words}"))
            for words in self.mode.notices:
                self._display.say(f"warning: {words}")
            self._recovery = self._unfinished_restore()
            runtime = self.mode.open(tuple(self._recipes.values()), self._say)
        except BaseException as error:
            self._give_up(error)
            return
        try:
            self.runtime.set_result(runtime)
        except InvalidStateError:  # cancelled by then
            runtime.stop()
            return
        for name, future in self.services.items():
            thread = threading.Thread(
                target=self._start_service,
                args=(name,),
                name=f"triton-{self.id}-{name}",
                daemon=True,
            )
            try:
                thread.start()
            except RuntimeError as error:
                future.set_exception(exhausted(error, f"{SERVICES[name].title} could not be started.") or error)
        if self.mode.lists_itself:
            # While servers boot, so that nothing waits for it afterwards.
            import_module("triton_env.sharing.listing")

    def _say(self, words: str) -> None:
        self.said.append(words)
        self._display.say(words)

    def _unfinished_restore(self) -> "Recovery | None":
        """What is to be done about a restore into these services that was interrupted."""
        if not self.mode.outlives_us or self.mode.only_looks:
            return None
        from triton_env.backup.journal import Place

        place = Place(self.settings, self.id, lasting=self.mode.data_is_yours)
        if not place.path.exists():
            return None
        from triton_env.backup.recovery import recovery

        return recovery(place, tuple(self._recipes), self._display.say)

    def between_restores(self) -> AbstractContextManager[None]:
        """While a block lasts, no restore into these services is unfinished, and none begins."""
        from triton_env.backup.journal import Place

        place = Place(self.settings, self.id, lasting=self.mode.data_is_yours)

        def settle() -> None:
            # Loads the drivers of all services.
            from triton_env.backup import recovery

            running = {name: service.result() for name, service in self.services.items()}
            recovery.settle(place, running, self._display.say)

        return place.between_restores(settle)

    def _give_up(self, error: BaseException) -> None:
        error = exhausted(error, "The environment could not be started.") or error
        with suppress(InvalidStateError):  # cancelled by then
            self.runtime.set_exception(error)
            self._fail_services(error)

    def _fail_services(self, error: BaseException) -> None:
        for future in self.services.values():
            future.set_exception(error)

    def _start_service(self, name: str) -> None:
        kind = SERVICES[name]
        try:
            probe = _Probe(kind, self.settings, self._see_ready)
            placement = self.runtime.result().start(
                self._recipes[name],
                probe,
                lambda phase, words: self.recorder.report(name, phase, words),
            )
            service = probe.service_at(placement)
            if self._recovery:
                self._recovery.ready(service)
                self._see_ready(service)
            self.mode.note_ready(service)
        except BaseException as error:
            if self._recovery:
                self._recovery.failed(name)
            try:
                self.recorder.report(name, Phase.FAILED, "cancelled" if isinstance(error, StartCancelled) else "")
            finally:
                self.services[name].set_exception(exhausted(error, f"{kind.title} could not be started.") or error)
        else:
            service._watched_by(partial(self.liveness.died, name))
            self.services[name].set_result(service)

    def _see_ready(self, service: Service) -> None:
        """See that a service is ready. A missing database or bucket is made where the mode may."""
        if self.mode.may_create:
            service.ensure_ready()
        elif self._recovery and self._recovery.concerns(service.name):
            # What a restore has set aside is there again once that is settled.
            service.server_version()
        else:
            service.check_ready()

    def _note_the_last(self, _: "Future[Service]") -> None:
        if all(future.done() for future in self.services.values()):
            self._close_display()
            # Otherwise `wait` does, before the environment is handed out.
            if self._lazy and not _errors(self.services.values()):
                self._list()
                self._is_over.set()

    def _close_display(self) -> None:
        """Show no more, unless the end is still to be shown."""
        if self._interrupted is None:
            self._display.close()

    def _show(self) -> None:
        """Have other processes see that it is under way, where it takes a while: most starts are over before."""
        if not self._is_over.wait(_LISTED_AFTER):
            from triton_env.sharing.starting import show

            show(self, self._is_over)

    def _list(self) -> None:
        """Have other processes see it, where its mode wants that. It works as well if they cannot."""
        with self._listing:
            if not self._may_be_listed:
                return
            self._may_be_listed = False
            try:
                from triton_env.sharing.listing import Listed

                self.listed = Listed(self)
            except (TritonError, OSError) as error:
                _log.debug("the environment %s is not listed: %s", self.id, error)

    def _unlist(self) -> None:
        with self._listing:
            self._may_be_listed = False
            listed, self.listed = self.listed, None
        if listed:
            listed.end()


class _Probe:
    """A service's readiness probe, which remembers how far it has come at a placement.

    Args:
        see_ready: raises while a service is not ready.
    """

    def __init__(self, kind: type[Service], settings: Settings, see_ready: Callable[[Service], None]) -> None:
        self._kind = kind
        self._settings = settings
        self._see_ready = see_ready
        self._service: Service | None = None
        self._steps: list[Callable[[], None]] = []

    def service_at(self, placement: Placement) -> Service:
        """The service that was probed there, which may know how it was at its start."""
        if self._service is not None and self._service.placement == placement:
            return self._service
        return self._kind(self._settings, placement)

    def __call__(self, placement: Placement) -> None:
        # Another placement means another try on other ports.
        service = self._service
        if service is None or service.placement != placement:
            self._service = service = self._kind(self._settings, placement)
            self._steps = [partial(check_listening, service.host, service.port), service.prepare]
        try:
            self._try(service)
        except Exception as error:
            if service.refuses(error) or is_behind(error):
                raise Refused(str(error)) from error
            raise

    def _try(self, service: Service) -> None:
        # Each of these has to succeed once.
        while self._steps:
            self._steps[0]()
            del self._steps[0]
        self._see_ready(service)


def _errors(done: "Iterable[Future[Service]]") -> list[BaseException]:
    return [error for future in done if (error := future.exception())]
