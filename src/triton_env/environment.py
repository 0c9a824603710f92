"""`TritonEnvironment`: chooses the runtime, starts the services together, hands them out, stops them."""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Self

from triton_env._isolated import Isolated
from triton_env._startup import Startup
from triton_env.core import interrupts, spare
from triton_env.core.model import Program
from triton_env.core.shortages import explained
from triton_env.core.timeline import Recorder, Timeline
from triton_env.errors import CleanupFailed, KeeperEnded, NotStarted, UsageError
from triton_env.modes.arguments import Arguments
from triton_env.modes.base import Mode
from triton_env.modes.choice import mode_of
from triton_env.modes.persistent import Persistent
from triton_env.service_attribute import ServiceAttribute
from triton_env.services import S3, SERVICES, ClickHouse, Postgres, Redis, Service
from triton_env.services.selection import check_selected, selected, with_groups
from triton_env.settings import Settings, variables
from triton_env.sharing.reuse import Reuse
from triton_env.stopping import Action, Stopping, at_once, awaited, ended, run_at_once

if TYPE_CHECKING:
    from triton_env.errors import ServiceDied
    from triton_env.inspection import EnvironmentEntry
    from triton_env.isolation.isolator import Isolator

_TRIES = 3
"""How often to start where the keeper of a shared environment is killed while it starts."""


class TritonEnvironment(Isolated):
    """Real backing services: fresh, isolated, started together, gone afterwards.

    >>> with TritonEnvironment(services=("postgres", "redis")) as env, env.postgres.connect() as connection:
    ...     connection.execute("select 1").fetchone()
    (1,)

    Args:
        settings: names, images, timeouts; by default read from the process environment and `.env`.
        services: which to start: of `postgres`, `clickhouse`, `redis`, `s3`, and of those that other distributions
            bring; these four by default.
        runtime: `auto`, `docker`, `embedded`, `kubernetes` or `external`; None takes TRITON_RUNTIME. A runtime that was
            named and cannot run is an error, never a fallback.
        persistent: the services of daily development (`docker-compose.yml`) instead of a session of its own: those
            that run are attached to and left running, the others are started, and stopped at the end. Data stays.
            `Persistent.APPLY` (of `triton_env`) also replaces those that differ from the settings.
        reuse: share a warm environment with other processes that ask for the same: the first one in starts it, and it
            ends TRITON_LINGER seconds after the last one has stopped. What others write is seen. A `Reuse` (of
            `triton_env`) shares it among those alone who name the same word.
        lazy: `start` returns at once, and each service is waited for where it is first used.
        isolated: do not use the session that TRITON_SESSION names, such as that of `python -m triton_env run`.

    Raises:
        UnknownService, UnknownRuntime, InvalidSetting: wrong arguments or variables.
    """

    postgres = ServiceAttribute(Postgres)
    clickhouse = ServiceAttribute(ClickHouse)
    redis = ServiceAttribute(Redis)
    s3 = ServiceAttribute(S3)

    @explained("The environment could not be set up.")
    def __init__(
        self,
        settings: Settings | None = None,
        *,
        services: Sequence[str] = tuple(SERVICES),
        runtime: str | None = None,
        persistent: bool | Persistent = False,
        reuse: bool | Reuse = False,
        lazy: bool = False,
        isolated: bool = False,
    ) -> None:
        self._settings = settings or Settings()
        variables.check(self._settings.triton_variables, self._settings.origin("triton_variables"))
        self._services = selected(services)
        self._settings = with_groups(self._settings, self._services)
        taken = Persistent.ATTACH if persistent is True else persistent or None
        shared = Reuse() if reuse is True else reuse or None
        self._arguments = Arguments(self._settings, self._services, runtime, taken, shared, isolated)
        self._new_mode: Callable[[], Mode] = partial(mode_of, self._arguments)
        self._lazy = lazy
        self._held_by = "python"
        self._startup: Startup | None = None
        self._recorder: Recorder | None = None
        self._isolators: dict[int, Isolator] = {}
        self._stopping = Stopping()
        self._state = "not started"

    @property
    def id(self) -> str:
        """The id in the names and labels of everything that belongs to the running environment."""
        return self._running().id

    @property
    def runtime(self) -> str:
        """Where the services run: "docker", "embedded", "kubernetes" or "external"."""
        return self._running().runtime.result().name

    @property
    def runtime_reason(self) -> str:
        """Why this runtime was chosen; completes the sentence "since ..."."""
        return self._running().runtime.result().reason

    @property
    def services(self) -> tuple[str, ...]:
        """The names of the services in this environment."""
        return self._services

    @property
    def settings(self) -> Settings:
        """The settings in force: while running, with the credentials of this session."""
        return self._startup.settings if self._startup else self._settings

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
        run_at_once(self._started(at_once, at_once))
        return self

    @explained("The environment could not be stopped.")
    def stop(self) -> None:
        """Remove everything that was started. Does nothing where nothing runs, and nothing is left of an earlier end.

        Ctrl-C and SIGTERM during it take effect when it is done, within two seconds, or at the second one.

        Raises:
            CleanupFailed: something may be left behind; the message says what and how to remove it. It is tried again
                by the next call, when this process ends, and by a process in the background.
        """
        try:
            # From the first line on: a Ctrl-C in between would leave containers without a record.
            with interrupts.deferred(), spare.released():
                startup, self._startup = self._startup, None
                try:
                    if startup is not None:
                        self._state = "stopped"
                        self._end_isolation()
                finally:
                    self._stopping.end(startup)
        finally:
            self._forget_signals()

    def detach(self) -> None:
        """Leave persistent services running, and forget them. Does nothing where nothing runs.

        Raises:
            UsageError: this is a session, which would be left behind.
        """
        if not self._arguments.persistent:
            raise UsageError(
                "A session cannot be left running: nothing would remove it.",
                hint="TritonEnvironment(persistent=True) can, and so can: python -m triton_env up",
            )
        startup, self._startup = self._startup, None
        if startup is not None:
            self._state = "detached"
            self._end_isolation()
            startup.mode.let_stay()
            startup.end()
        self._forget_signals()

    def service(self, name: str) -> Service:
        """The running service of that name, waited for where it is still starting.

        Raises:
            UnknownService, ServiceNotSelected, NotStarted: the service is not running.
            TritonError: it did not come up (with `lazy`).
        """
        self._check_selected(name)
        return self._running().services[name].result()

    def __getitem__(self, name: str) -> Service:
        """The service of that name, such as `env["notes"]`: see `service`."""
        return self.service(name)

    def environ(self, *, internal: bool = False) -> dict[str, str]:
        """The connection variables of all services: by the names of `.env.example`, and those of TRITON_VARIABLES.

        Args:
            internal: the values for other containers on the shared network instead of this machine.
        """
        services = {name: self.service(name) for name in self._services}
        return variables.of_services(services, self._settings.triton_variables, internal=internal)

    @explained("The log could not be read.")
    def logs(self, service: str, lines: int = 100, *, since: float | None = None) -> str:
        """The last `lines` lines that a service wrote, without secrets.

        Args:
            service: the service's name.
            lines: how many at most.
            since: what `log_position` returned, for those that were written afterwards.
        """
        self._check_selected(service)
        running = self._running()
        last = running.liveness.last_line(service) if lines > 0 else ""
        return running.runtime.result().logs(service, lines - bool(last), since) + last

    def deaths(self) -> "Mapping[str, ServiceDied]":
        """The servers that have ended since they were ready, or are held up, by their services. It asks no server.

        `namespace`, `snapshot`, `reset` and clients that cannot connect raise the same errors by themselves.
        """
        running = self._running()
        ready = [name for name, future in running.services.items() if future.done() and not future.exception()]
        return {name: died for name in ready if (died := running.liveness.died(name))}

    @explained("The service could not be restarted.")
    def restart(self, service: str) -> None:
        """End a server, and start it again at the same address with the same credentials; return when it is ready.

        It may have died. Its clients lose their connections. What it has in memory alone is gone, as in a crash; with
        TRITON_STORAGE=memory or in a cluster that may be all. A database or bucket that is missing then is made again.

        Raises:
            UsageError: another process or others run the server.
            TritonError: it does not come up again.
        """
        self.service(service)
        self._running().restart(service)

    @explained("The environment could not be inspected.")
    def inspect(self, *, ask: bool = False, show_secrets: bool = False) -> "EnvironmentEntry":
        """What is known of this environment, as data: its services, its owner and users, what isolation has made.

        Args:
            ask: also what its servers and engine have to be asked for, such as health, version, memory and connections.
            show_secrets: whether URLs have their passwords.

        Raises:
            NotStarted: it does not run.
            TritonError: with `ask`, the engine does not answer.
        """
        from triton_env.inspection import of_startup

        return of_startup(self._running(), ask=ask, show_secrets=show_secrets)

    def log_position(self, service: str) -> float:
        """Where a service's log ends now, for `logs`. It costs next to nothing."""
        self._check_selected(service)
        return self._running().runtime.result().log_position(service)

    def program(self, service: str, argv: Sequence[str], environment: Mapping[str, str] | None = None) -> Program:
        """How to run a program that comes with a service, such as pg_dump, next to its server.

        Args:
            service: the service's name.
            argv: the program's name and its arguments, in which {host} and {port:NAME} stand for where the server
                listens, seen from where the program runs.
            environment: variables to add to its environment; these may be secret.

        Raises:
            TritonError: it cannot be run from here.
        """
        self.service(service)
        return self._running().runtime.result().program(service, argv, environment or {})

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
        await self._started(awaited, ended)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await ended(self.stop)
        finally:
            self._forget_signals()

    def __repr__(self) -> str:
        state = f"{self._startup.id} running" if self._startup else self._state
        words = self._startup.liveness.summary(self._services) if self._startup else ""
        return f"<TritonEnvironment {state}: {', '.join(self._services)}{f' ({words})' if words else ''}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: state, runtime, services and how the start went."""
        from triton_env.page import page

        timeline = self._recorder.timeline() if self._recorder else None
        return page(self._services, self._state, self._startup, timeline)

    @property
    def _mode(self) -> Mode:
        """The mode of the running environment."""
        return self._running().mode

    def _in_modes(self, new_mode: "Callable[[], Mode]") -> Self:
        """Have each start be in such a mode, whatever the arguments are; returns itself."""
        self._new_mode = new_mode
        return self

    def _held_as(self, held_by: str) -> Self:
        """Have other processes see that this process is such a thing (see `Record`); returns itself."""
        self._held_by = held_by
        return self

    async def _started(self, wait: Action, end: Action) -> None:
        """Start, unless it runs: begin, wait for the services, and remove what there is where that fails.

        Args:
            wait: how services are waited for.
            end: how the end of what was begun is waited for.
        """
        if self._startup is not None:
            return
        for tries_left in reversed(range(_TRIES)):
            try:
                # Begun here, not in a thread: Python lets the main thread alone handle signals.
                startup = self._begin()
                if not self._lazy:
                    await wait(startup.wait)
                return
            except BaseException as error:
                await end(partial(self._stop_after, error))
                self._forget_signals()
                if not (tries_left and isinstance(error, KeeperEnded)):
                    raise

    @explained("The environment could not be started.")
    def _begin(self) -> Startup:
        startup = Startup(self._new_mode(), self._services, lazy=self._lazy, held_by=self._held_by)
        self._recorder = startup.recorder
        self._startup = startup
        self._state = "running"
        interrupts.stop_at_exit(self)
        startup.begin()
        return startup

    def _isolation(self) -> "Isolator":
        # In a forked child it is another one: the connections of its parent's are the parent's.
        isolator = self._isolators.get(os.getpid())
        if isolator is None:
            isolator = self._isolators.setdefault(os.getpid(), self._running().isolator())
        return isolator

    def _end_isolation(self) -> None:
        if isolator := self._isolators.pop(os.getpid(), None):
            isolator.close()

    def _forget_signals(self) -> None:
        """Signals and the end of the process no longer matter, unless something has to be tried again then."""
        if self._startup is None and self._stopping.is_complete:
            interrupts.forget(self)

    def _stop_after(self, error: BaseException) -> None:
        try:
            self.stop()
        except CleanupFailed as failed:
            error.add_note(str(failed))

    def _check_selected(self, service: str) -> None:
        check_selected(service, self._services)

    def _running(self) -> Startup:
        if self._startup is None:
            raise NotStarted(self._state)
        return self._startup
