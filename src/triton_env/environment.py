"""`TritonEnvironment`: chooses the runtime, starts the services together, hands them out, stops them."""

import asyncio
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, InvalidStateError, wait
from contextlib import suppress
from functools import partial
from secrets import token_hex
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, cast, overload

from triton_env import interrupts
from triton_env.errors import (
    CleanupFailed,
    InvalidSetting,
    NotStarted,
    RuntimeUnavailable,
    ServiceNotSelected,
    StartCancelled,
    UnknownRuntime,
    UnknownService,
)
from triton_env.model import Placement
from triton_env.progress import open_display
from triton_env.readiness import check_listening
from triton_env.runtimes.base import Runtime
from triton_env.runtimes.choice import open_runtime
from triton_env.services import (
    S3,
    SERVICES,
    START_ORDER,
    ClickHouse,
    Postgres,
    Redis,
    Service,
)
from triton_env.settings import RUNTIME_NAMES, Settings
from triton_env.timeline import Phase, Recorder, Timeline

_THREADS_TIMEOUT = 10
"""Seconds that `stop` waits for start threads to notice that they were called off."""

_ServiceT = TypeVar("_ServiceT", bound=Service)


class _Attribute(Generic[_ServiceT]):
    """`env.NAME`: the running service, waited for where it is still starting."""

    def __init__(self, service: type[_ServiceT]) -> None:
        self._service = service
        self.__doc__ = f"{service.title}; waits for it where it is still starting."

    @overload
    def __get__(self, environment: None, owner: type) -> Self: ...
    @overload
    def __get__(self, environment: "TritonEnvironment", owner: type) -> _ServiceT: ...
    def __get__(self, environment: "TritonEnvironment | None", owner: type) -> Self | _ServiceT:
        if environment is None:
            return self
        return cast(_ServiceT, environment.service(self._service.name))


class TritonEnvironment:
    """Real backing services: fresh, isolated, started together, gone afterwards.

    >>> with TritonEnvironment(services=("postgres", "redis")) as env, env.postgres.connect() as connection:
    ...     connection.execute("select 1").fetchone()
    (1,)

    Args:
        settings: names, images, timeouts; by default read from the process environment and `.env`.
        services: which of `postgres`, `clickhouse`, `redis`, `s3` to start; all by default.
        runtime: `auto`, `docker`, `embedded` or `external`; None takes TRITON_RUNTIME. A runtime that was named and
            cannot run is an error, never a fallback.
        persistent: the services of daily development instead of a session of its own.
        reuse: share a warm environment with other processes.
        lazy: `start` returns at once, and each service is waited for where it is first used.

    Raises:
        UnknownService, UnknownRuntime, InvalidSetting: wrong arguments or variables.
    """

    postgres = _Attribute(Postgres)
    clickhouse = _Attribute(ClickHouse)
    redis = _Attribute(Redis)
    s3 = _Attribute(S3)

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        services: Sequence[str] = tuple(SERVICES),
        runtime: str | None = None,
        persistent: bool = False,
        reuse: bool = False,
        lazy: bool = False,
    ) -> None:
        self._settings = settings or Settings()
        self._services = _checked_services(services)
        self._runtime_name = _checked_runtime(runtime or self._settings.triton_runtime)
        if persistent or reuse:
            asked = "persistent=True" if persistent else "reuse=True"
            raise RuntimeUnavailable(
                f"{asked} is not available in this version.",
                hint="leave it out to get a session of its own",
            )
        self._lazy = lazy
        self._run: _Run | None = None
        self._recorder: Recorder | None = None
        self._state = "not started"

    @property
    def id(self) -> str:
        """The id in the names and labels of everything that belongs to the running environment."""
        return self._running().id

    @property
    def runtime(self) -> str:
        """Where the services run: "docker", "embedded" or "external"."""
        return self._running().runtime.result().name

    @property
    def runtime_reason(self) -> str:
        """Why they run there, in words that go on after "since"."""
        return self._running().runtime.result().reason

    @property
    def services(self) -> tuple[str, ...]:
        """The names of the services in this environment."""
        return self._services

    @property
    def settings(self) -> Settings:
        """The settings in force: while running, with the credentials of this session."""
        return self._run.settings if self._run else self._settings

    @property
    def timeline(self) -> Timeline:
        """How the start went, as data. After `stop` it is still that of the last start.

        Raises:
            NotStarted: there was no start yet.
        """
        if self._recorder is None:
            raise NotStarted(self._state)
        return self._recorder.timeline()

    def start(self) -> Self:
        """Start the services; return when all are ready, or with `lazy` at once. Does nothing while running.

        Raises:
            TritonError: the runtime cannot be used, or a service does not come up. Nothing is left behind then.
        """
        if self._run is not None:
            return self
        try:
            run = self._begin()
            if not self._lazy:
                run.wait()
        except BaseException as error:
            self._stop_after(error)
            raise
        return self

    def stop(self) -> None:
        """Remove everything that was started. Does nothing where nothing runs.

        Raises:
            CleanupFailed: something may be left behind; the message says what and how to remove it.
        """
        try:
            # Shielded from the first line on: a Ctrl-C in between would leave containers that nobody knows of.
            with interrupts.shielded():
                run, self._run = self._run, None
                if run is None:
                    return
                self._state = "stopped"
                # Otherwise a forked child ends, and its parent still uses the services.
                if run.process == os.getpid():
                    run.end()
        finally:
            interrupts.forget(self)

    def service(self, name: str) -> Service:
        """The running service of that name, waited for where it is still starting.

        Raises:
            UnknownService, ServiceNotSelected, NotStarted: there is no such running service.
            TritonError: it did not come up (with `lazy`).
        """
        self._check_selected(name)
        return self._running().services[name].result()

    def environ(self, *, internal: bool = False) -> dict[str, str]:
        """The connection variables of all services, by the names of `.env.example`.

        Args:
            internal: the values for other containers on the shared network instead of this machine.
        """
        variables: dict[str, str] = {}
        for name in self._services:
            variables |= self.service(name).environ(internal=internal)
        return variables

    def logs(self, service: str, lines: int = 100) -> str:
        """The last `lines` lines that a service wrote, without secrets."""
        self._check_selected(service)
        return self._running().runtime.result().logs(service, lines)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        if self._run is not None:
            return self
        try:
            # Begun here, not in a thread: Python lets the main thread alone handle signals.
            run = self._begin()
            if not self._lazy:
                await asyncio.to_thread(run.wait)
        except BaseException as error:
            await asyncio.to_thread(self._stop_after, error)
            interrupts.forget(self)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await asyncio.to_thread(self.stop)
        finally:
            interrupts.forget(self)

    def __repr__(self) -> str:
        state = f"{self._run.id} running" if self._run else self._state
        return f"<TritonEnvironment {state}: {', '.join(self._services)}>"

    def _begin(self) -> "_Run":
        run = _Run(self._settings, self._services, self._runtime_name, lazy=self._lazy)
        self._recorder = run.recorder
        self._run = run
        self._state = "running"
        interrupts.stop_at_exit(self)
        run.begin()
        return run

    def _stop_after(self, error: BaseException) -> None:
        try:
            self.stop()
        except CleanupFailed as failed:
            error.add_note(str(failed))

    def _check_selected(self, service: str) -> None:
        if service not in SERVICES:
            raise UnknownService(service, tuple(SERVICES))
        if service not in self._services:
            raise ServiceNotSelected(service, self._services)

    def _running(self) -> "_Run":
        if self._run is None:
            raise NotStarted(self._state)
        return self._run


class _Run:
    """One start of an environment: its id, credentials and runtime, and the services on their way."""

    def __init__(self, settings: Settings, names: Sequence[str], runtime_name: str, *, lazy: bool) -> None:
        self.id = token_hex(4)
        self.process = os.getpid()
        fresh: dict[str, Any] = {"triton_runtime": runtime_name}
        for name in names:
            fresh |= SERVICES[name].fresh_credentials()
        self.settings = settings.updated(**fresh)
        self._runtime_name = runtime_name
        self._recipes = {name: SERVICES[name].recipe(self.settings) for name in START_ORDER if name in names}
        progress = settings.triton_progress
        # The user's code runs and prints during a lazy start, which a display that redraws would garble.
        self._display = open_display("plain" if lazy and progress == "auto" else progress, tuple(names))
        self.recorder = Recorder(self._display.show)
        self.runtime: Future[Runtime] = Future()
        self.services: dict[str, Future[Service]] = {name: Future() for name in self._recipes}

    def begin(self) -> None:
        """Open the runtime and start all services, without waiting for either."""
        self._display.open()
        for future in self.services.values():
            future.add_done_callback(self._close_display_with_the_last)
        # Daemons: a start that hangs may not keep the interpreter from ending.
        thread = threading.Thread(target=self._start, name=f"triton-{self.id}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # no thread to be had: a limit, or the interpreter is on its way out
            self._give_up(error)

    def wait(self) -> None:
        """Wait until all services are ready, or raise what the first to fail raised."""
        try:
            done, _ = wait(self.services.values(), return_when=FIRST_EXCEPTION)
        finally:
            # Here and not only with the last service: what the caller prints next comes after the display's last line.
            self._display.close()
        errors = [error for future in done if (error := future.exception())]
        # A service that was called off failed because of another; that one is to blame.
        errors.sort(key=lambda error: isinstance(error, StartCancelled))
        if errors:
            raise errors[0]

    def end(self) -> None:
        """Stop the services, also those that are still starting."""
        try:
            if self.runtime.cancel():
                # Still being opened: an engine that does not answer is not waited for. `_start` closes it.
                self._fail_services(StartCancelled("The start was called off."))
            # Where it could not be opened, `wait` or the first use has said so.
            elif self.runtime.exception() is None:
                self.runtime.result().stop()
        finally:
            wait(self.services.values(), timeout=_THREADS_TIMEOUT)
            self._display.close()

    def _start(self) -> None:
        try:
            runtime = open_runtime(
                self._runtime_name, self.settings, self.id, tuple(self._recipes.values()), self._display.say
            )
        except BaseException as error:
            self._give_up(error)
            return
        try:
            self.runtime.set_result(runtime)
        except InvalidStateError:  # called off meanwhile
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
                future.set_exception(error)

    def _give_up(self, error: BaseException) -> None:
        with suppress(InvalidStateError):  # called off meanwhile
            self.runtime.set_exception(error)
            self._fail_services(error)

    def _fail_services(self, error: BaseException) -> None:
        for future in self.services.values():
            future.set_exception(error)

    def _start_service(self, name: str) -> None:
        kind = SERVICES[name]
        try:
            placement = self.runtime.result().start(
                self._recipes[name],
                _Probe(kind, self.settings),
                lambda phase, words: self.recorder.report(name, phase, words),
            )
        except BaseException as error:
            try:
                self.recorder.report(name, Phase.FAILED, "called off" if isinstance(error, StartCancelled) else "")
            finally:
                self.services[name].set_exception(error)
        else:
            self.services[name].set_result(kind(self.settings, placement))

    def _close_display_with_the_last(self, _: "Future[Service]") -> None:
        if all(future.done() for future in self.services.values()):
            self._display.close()


class _Probe:
    """A service's readiness probe, which remembers how far it has come at a placement."""

    def __init__(self, kind: type[Service], settings: Settings) -> None:
        self._kind = kind
        self._settings = settings
        self._service: Service | None = None
        self._steps: list[Callable[[], None]] = []

    def __call__(self, placement: Placement) -> None:
        # Another placement means another try on other ports.
        if self._service is None or self._service.placement != placement:
            self._service = self._kind(self._settings, placement)
            self._steps = [partial(check_listening, self._service.host, self._service.port), self._service.prepare]
        # Each of these has to succeed once.
        while self._steps:
            self._steps[0]()
            del self._steps[0]
        self._service.ensure_ready()


def _checked_services(services: Sequence[str]) -> tuple[str, ...]:
    names = [name.strip() for name in services.split(",")] if isinstance(services, str) else list(services)
    for name in names:
        if name not in SERVICES:
            raise UnknownService(name, tuple(SERVICES))
    if not names:
        raise InvalidSetting(
            "An environment needs at least one service.",
            hint=f"services={tuple(SERVICES)!r}",
        )
    # In the order in which people read them, whatever the order in the call.
    return tuple(name for name in SERVICES if name in names)


def _checked_runtime(name: str) -> str:
    if name not in RUNTIME_NAMES:
        raise UnknownRuntime(name, RUNTIME_NAMES)
    return name
