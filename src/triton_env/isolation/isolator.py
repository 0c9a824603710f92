"""Namespaces, reset and snapshots of one environment: what `TritonEnvironment` hands its calls to."""

import os
import re
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, TypeVar

from triton_env.core.programming_errors import PROGRAMMING_ERRORS
from triton_env.errors import (
    CleanupFailed,
    InvalidSetting,
    IsolationFailed,
    NotOffered,
    ServiceDied,
    SnapshotFailed,
    UsageError,
)
from triton_env.isolation import state
from triton_env.isolation.building import TemplateBuilder
from triton_env.isolation.ledger import FrozenSpace, SpaceLedger
from triton_env.isolation.namespace import Namespace
from triton_env.isolation.pool import Pool
from triton_env.isolation.spaces import SpaceManager
from triton_env.isolation.target import IsolationTarget
from triton_env.isolation.template import Template
from triton_env.services import SERVICES
from triton_env.services.base_isolation import NAMESPACE, OWN, SNAPSHOT, ContentLost
from triton_env.services.selection import selected
from triton_env.settings import Settings
from triton_env.settings.process import current_test

if TYPE_CHECKING:
    TemplateLike = Template | Callable[[Namespace], object] | Path | str

_Answer = TypeVar("_Answer")

_NAME = re.compile(r"[a-z0-9]([a-z0-9_]{0,22}[a-z0-9])?")
"""What databases and buckets alike can have in their names."""
_OWN = FrozenSpace(OWN, ())
"""The environment's own space, as what is copied."""
_BUILDS = 3
"""How often a template is built for one namespace, where a test wipes the servers at the same time."""
_WIPING = "FLUSHALL, dropping all databases, deleting all buckets"
_SNAPSHOT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class Isolator:
    """Makes namespaces of one running environment, in one process. Making it costs nothing."""

    def __init__(self, environment: IsolationTarget) -> None:
        self.process = os.getpid()
        self._environment = environment
        self._lock = threading.Lock()
        self._session: _IsolationSession | None = None
        self._is_closed = False

    @property
    def settings(self) -> Settings:
        """Those of the environment."""
        return self._environment.settings

    def namespace(
        self,
        name: str | None,
        template: "TemplateLike | None",
        *,
        services: Sequence[str] | None,
        keep_on_error: bool,
    ) -> Namespace:
        """See `TritonEnvironment.namespace`."""
        if name is not None and not _NAME.fullmatch(name):
            raise UsageError(
                f"A namespace cannot be named {name!r}.",
                hint="use 1 to 24 of a to z, 0 to 9 and, between these, _; or no name, and one is made up",
            )
        names = self._named(services)
        # One from the pool was made before, so it asks no server.
        self._environment.liveness.check(names)
        session = self._open()
        namespace = self._again(session, template, partial(self._taken, session, name, names))
        session.ledger.hand_out(namespace.held, names, current_test())
        namespace.keep_on_error = keep_on_error
        session.living[namespace.id] = namespace
        return namespace

    def reset(self) -> None:
        """See `TritonEnvironment.reset`."""
        self._check_all("reset")
        self._environment.liveness.check(self._environment.isolated)
        session = self._open()
        with session.pool.paused() as unused, self._environment.between_restores():
            session.spaces.clear([namespace.space for namespace in unused])

    def snapshot(self, name: str) -> None:
        """See `TritonEnvironment.snapshot`."""
        if not _SNAPSHOT_NAME.fullmatch(name):
            raise UsageError(
                f"A snapshot cannot be named {name!r}.",
                hint="use at most 64 letters, digits, dots, - and _, beginning with a letter or digit",
            )
        self._environment.liveness.check(self._environment.isolated)
        session = self._open()
        spaces, ledger = session.spaces, session.ledger
        with self._environment.between_restores(), ledger.making(f"snapshot-{name}"):
            before = ledger.snapshot(name)
            space, held = spaces.make(SNAPSHOT + token_hex(4) + spaces.suffix, spaces.services, _OWN, is_new=True)
            try:
                finished = spaces.finish(space, spaces.services)
                spaces.keep(space, spaces.services)
                # Before its name leads to another, so that a sweep finds it if this process is killed.
                old = ledger.take(before.space.id, before.services) if before else None
                ledger.publish_snapshot(name, finished)
            except BaseException:
                spaces.remove(space, spaces.services, held)
                raise
            held.release(remove=True)
            if before and old:
                spaces.remove(before.space, before.services, old)

    def snapshots(self) -> tuple[str, ...]:
        """See `TritonEnvironment.snapshots`."""
        return tuple(self._open().ledger.snapshots())

    def delete_snapshot(self, name: str) -> None:
        """See `TritonEnvironment.delete_snapshot`."""
        session = self._open()
        ledger = session.ledger
        with ledger.making(f"snapshot-{name}"):
            snapshot = session.snapshot(name)
            held = ledger.take(snapshot.space.id, snapshot.services)
            ledger.forget_snapshot(name)
            if held:
                session.spaces.remove(snapshot.space, snapshot.services, held)

    def restore(self, name: str) -> None:
        """See `TritonEnvironment.restore`."""
        self._check_all("restore")
        session = self._open()
        snapshot = session.snapshot(name)
        missing = [each for each in session.spaces.services if each not in snapshot.services]
        if missing:
            raise SnapshotFailed(f"The snapshot {name!r} was taken without {', '.join(missing)}.")
        try:
            with self._environment.between_restores():
                session.spaces.replace(OWN, snapshot, session.spaces.services, f"restore the snapshot {name!r}")
        except ContentLost as lost:
            raise _lost(name, lost) from lost

    def close(self) -> None:
        """End the background thread, the connections, and what belongs to the environment alone.

        Of servers that go on, all namespaces of this process are removed first; servers that end take them along.
        """
        with self._lock:
            session, self._session, self._is_closed = self._session, None, True
        if self.process != os.getpid():
            return
        if session is None:
            if not self._environment.outlives:
                # Other processes may have made namespaces here: forked ones, or those that share it.
                state.remove_session(self._environment.settings, self._environment.id)
            return
        try:
            with ExitStack() as steps:  # each of them is done, whatever becomes of the others
                steps.callback(session.ledger.close, remove=not self._environment.outlives)
                steps.callback(session.spaces.close)
                steps.callback(self._let_go, session)
        except PROGRAMMING_ERRORS:
            raise
        except Exception as error:
            raise CleanupFailed(
                "Some of the environment's namespaces could not be removed.",
                where=str(session.ledger.path),
                cause=str(error),
                hint="look at it with: python -m triton_env prune --dry-run",
            ) from error

    def _let_go(self, session: "_IsolationSession") -> None:
        drain = self._environment.outlives
        while session.living:
            _, namespace = session.living.popitem()
            if drain and not namespace.is_kept:
                session.pool.put_away(namespace)
            else:
                namespace.held.release(remove=namespace.is_kept)
        for namespace in session.pool.end(drain=drain):
            namespace.held.release()

    # What a namespace asks of its maker.

    def verify_namespace(self, namespace: Namespace, services: tuple[str, ...]) -> None:
        """See that it still has what it begins with in these services; what a test has wiped is made again."""
        session = self._of(namespace)
        if lost := session.spaces.lost(namespace.space, namespace.source, services):
            self._replace(session, namespace, lost)

    def reset_namespace(self, namespace: Namespace) -> None:
        """Bring it back to what it was when it was handed out."""
        self._replace(self._of(namespace), namespace, namespace.services)

    def _replace(self, session: "_IsolationSession", namespace: Namespace, services: tuple[str, ...]) -> None:
        def replace(source: FrozenSpace | None) -> None:
            namespace.source = source
            session.spaces.replace(namespace.space, source, services, "reset a namespace")

        try:
            replace(namespace.source)
        except ContentLost as lost:
            assert namespace.source is not None, "an empty space has nothing to lose"
            origin = session.origins[namespace.source.space.id]
            if isinstance(origin, str):
                raise _lost(origin, lost) from lost
            session.templates.forget(namespace.source)
            self._again(session, origin, replace)

    def keep_namespace(self, namespace: Namespace) -> None:
        """Have it outlive this process."""
        session = self._of(namespace)
        session.spaces.keep(namespace.space, namespace.services)
        session.ledger.keep(namespace.id, namespace.services)

    def close_namespace(self, namespace: Namespace) -> bool:
        """Remove it soon, unless it is kept."""
        with self._lock:
            session = self._session
        # Not where the environment has stopped, and taken it along.
        if session is not None and session.living.pop(namespace.id, None) is not None:
            if namespace.is_kept:
                namespace.held.release(remove=True)
            else:
                session.pool.put_away(namespace)
        return True

    def _of(self, namespace: Namespace) -> "_IsolationSession":
        if self.process != os.getpid():
            raise UsageError(
                f"The namespace {namespace.id} belongs to another process.",
                hint="make one in this process: env.namespace()",
            )
        return self._open()

    def _again(
        self,
        session: "_IsolationSession",
        template: "TemplateLike | None",
        act: "Callable[[FrozenSpace | None], _Answer]",
    ) -> "_Answer":
        """Do something with a template, also where a test has wiped it from the servers: then it is built again.

        Raises:
            SnapshotFailed: it is a snapshot, which cannot be taken again, and was wiped.
            IsolationFailed: it is wiped again and again.
        """
        for tries_left in reversed(range(_BUILDS)):
            source = self._source(template, session)
            try:
                return act(source)
            except ContentLost as lost:
                assert source is not None, "an empty space has nothing to lose"
                session.templates.forget(source)
                if isinstance(template, str) and session.ledger.snapshot(template):
                    raise _lost(template, lost) from lost
                if not tries_left:
                    raise IsolationFailed(
                        "The template was wiped from the servers each time that it was built.",
                        where=str(lost),
                        hint=f"look for a test that runs beside this one and uses {_WIPING}",
                    ) from lost
        raise AssertionError

    def _taken(
        self, session: "_IsolationSession", name: str | None, services: tuple[str, ...], source: FrozenSpace | None
    ) -> Namespace:
        make = partial(self._made, session, name, services, source)
        if name is not None:
            return make()
        return session.pool.take((source.space.id if source else "", services), make)

    def _made(
        self, session: "_IsolationSession", name: str | None, services: tuple[str, ...], source: FrozenSpace | None
    ) -> Namespace:
        identifier = NAMESPACE + (name if name is not None else token_hex(4)) + session.spaces.suffix
        space, held = session.spaces.make(identifier, services, source, is_new=name is None)
        return Namespace(self, space, session.spaces.bound(space, services), source, held)

    def _source(self, template: "TemplateLike | None", session: "_IsolationSession") -> FrozenSpace | None:
        if template is None:
            return None
        if isinstance(template, str):
            if snapshot := session.ledger.snapshot(template):
                session.origins[snapshot.space.id] = template
                return snapshot
            if not Path(template).is_dir():
                from triton_env.isolation.loading import folders

                raise UsageError(
                    f"{template!r} is neither a snapshot nor a folder.",
                    where=f"snapshots: {', '.join(session.ledger.snapshots()) or 'none'}; folder: {Path.cwd()}",
                    hint=f"env.snapshot({template!r}) takes one, or name a folder with {folders()}",
                )
        if not isinstance(template, Template):
            template = session.template(template)
        finished = session.templates.finished(template)
        session.origins[finished.space.id] = template
        return finished

    def _named(self, services: Sequence[str] | None) -> tuple[str, ...]:
        """The services that a namespace is to have."""
        able = self._environment.isolated
        if services is None:
            return able
        names = selected(services, self._environment.services)
        if unable := [SERVICES[name].title for name in names if name not in able]:
            raise NotOffered(
                f"{' and '.join(unable)} cannot be in a namespace: no isolation is offered.",
                where=f"environment {self._environment.id}",
                hint=f"leave it out: services={able!r}" if able else "",
            )
        return names

    def _open(self) -> "_IsolationSession":
        if self._session is not None:
            return self._session
        if not self._environment.isolated:
            raise NotOffered(
                "None of the services offers isolation, so there are no namespaces, no snapshots and no reset.",
                where=f"environment {self._environment.id}: {', '.join(self._environment.services)}",
            )
        if self._environment.lasting and self._environment.settings.triton_namespaces != "everywhere":
            raise InvalidSetting(
                "Namespaces, templates and snapshots would be written to servers that hold your data.",
                where=f"environment {self._environment.id}; they would get names that begin with triton_",
                hint="set TRITON_NAMESPACES=everywhere to allow it, or use a session: TritonEnvironment()",
            )
        with self._lock:
            if self._session is None:
                if self._is_closed:
                    raise UsageError("The environment was stopped.", hint="call env.start() again")
                self._session = _IsolationSession(self._environment)
        return self._session

    def _check_all(self, what: str) -> None:
        """Raise where not only this process would lose its data."""
        if self._environment.lasting:
            raise UsageError(
                f"Refusing to {what}: these services hold your data.",
                where=f"environment {self._environment.id}",
                hint="take a namespace, which has reset(), or destroy the data: python -m triton_env reset",
            )
        if self._environment.is_shared():
            raise UsageError(
                f"Refusing to {what}: other processes use the environment.",
                where=f"environment {self._environment.id}",
                hint="take a namespace, which has reset(): env.namespace()",
            )


def _lost(snapshot: str, lost: ContentLost) -> SnapshotFailed:
    return SnapshotFailed(
        f"The snapshot {snapshot!r} has lost what it held, so it is not used.",
        where=str(lost),
        cause=f"something that reaches the whole server wiped it: {_WIPING}",
        hint=f"fill the environment again, and take it again: env.snapshot({snapshot!r})",
    )


class _IsolationSession:
    """What there is once an environment's isolation is in use."""

    def __init__(self, environment: IsolationTarget) -> None:
        self.ledger = SpaceLedger(environment.settings, environment.id, lasting=environment.lasting)
        self.spaces = SpaceManager(environment, self.ledger)
        self.templates = TemplateBuilder(self.spaces)
        self.origins: dict[str, Template | str] = {}  # of templates and snapshots that were used, by their space
        self.living: dict[str, Namespace] = {}  # those that were handed out and not closed
        self._settings = environment.settings
        self._is_lasting = environment.lasting
        self.pool = Pool(environment.settings.triton_pool_size, self._remove, self._sweep)
        self._made: dict[object, Template] = {}

    def template(self, build: "Callable[[Namespace], object] | Path | str") -> Template:
        """The template of a function or folder, one for each: it remembers what it has read."""
        if isinstance(build, (str, Path)):
            build = Path(build).resolve()  # the current folder may be another one next time
        try:
            made = self._made.get(build)
        except TypeError:  # a callable that cannot be a key
            return Template(build)
        return made or self._made.setdefault(build, Template(build))

    def snapshot(self, name: str) -> FrozenSpace:
        """The snapshot of that name.

        Raises:
            UsageError: there is none.
        """
        if found := self.ledger.snapshot(name):
            return found
        raise UsageError(
            f"The snapshot {name!r} does not exist.",
            where=f"there are: {', '.join(self.ledger.snapshots()) or 'none'}",
            hint=f"env.snapshot({name!r}) takes one",
        )

    def _remove(self, namespace: Namespace) -> None:
        # What a server held that has died is gone, or is there for the next sweep once it is back.
        with suppress(ServiceDied):
            self.spaces.remove(namespace.space, namespace.services, namespace.held)

    def _sweep(self) -> None:
        self.spaces.sweep()
        if self._is_lasting:
            self.templates.expire()
        state.remove_dead_sessions(self._settings)
