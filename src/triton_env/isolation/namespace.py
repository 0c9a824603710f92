"""`Namespace`: all services of an environment, not shared."""

import os
import sys
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, cast

from triton_env.core.commands import runnable
from triton_env.errors import UsageError
from triton_env.services import S3, ClickHouse, Postgres, Redis, Service
from triton_env.services.base_isolation import Space
from triton_env.services.selection import check_selected
from triton_env.settings import Settings, variables

if TYPE_CHECKING:
    from triton_env.isolation.ledger import FrozenSpace
    from triton_env.state.locks import Held


class Keeper(Protocol):
    """What has made a namespace, and removes it."""

    @property
    def settings(self) -> Settings:
        """Those of the environment."""

    def verify_namespace(self, namespace: "Namespace", services: tuple[str, ...]) -> None:
        """See that it still has what it begins with in these services, before a client first uses them."""

    def reset_namespace(self, namespace: "Namespace") -> None:
        """Bring it back to what it was when it was handed out."""

    def keep_namespace(self, namespace: "Namespace") -> None:
        """Have it outlive this process."""

    def close_namespace(self, namespace: "Namespace") -> bool:
        """Remove it, unless it is kept; whether it is closed now."""


class Namespace:
    """A part of an environment of one's own, with the attributes that the environment has.

    >>> def migrate(namespace):
    ...     with namespace.postgres.connect() as connection:
    ...         connection.execute("create table claims (id int)")
    >>> with env.namespace(template=migrate) as namespace, namespace.postgres.connect() as connection:
    ...     connection.execute("select count(*) from claims").fetchone()
    (0,)

    It has a database in PostgreSQL and in ClickHouse, a logical database in Redis, and buckets in S3. `env.namespace`
    makes it, and it is gone after `close`, the end of its block or the end of this process.

    Attributes:
        is_kept: whether it stays.
    """

    is_kept: bool

    def __init__(
        self, keeper: Keeper, space: Space, bound: Mapping[str, Service], source: "FrozenSpace | None", held: "Held"
    ) -> None:
        self._keeper = keeper
        self._bound = bound
        self._process = os.getpid()
        self._closed = False
        self._lock = threading.Lock()
        self._unverified: set[str] = set()
        self.space = space
        self.source = source
        self.held = held
        self.is_kept = False
        self.keep_on_error = False

    @property
    def id(self) -> str:
        """Its name on the servers, such as "triton_ns_3f2a91bc"."""
        return self.space.id

    @property
    def services(self) -> tuple[str, ...]:
        """The names of its services."""
        return tuple(self._bound)

    @property
    def postgres(self) -> Postgres:
        """PostgreSQL, with a database of its own."""
        return cast(Postgres, self.service("postgres"))

    @property
    def clickhouse(self) -> ClickHouse:
        """ClickHouse, with a database of its own."""
        return cast(ClickHouse, self.service("clickhouse"))

    @property
    def redis(self) -> Redis:
        """Redis, with a logical database of its own. Channels of pub/sub are shared: see `Redis.channel_prefix`."""
        return cast(Redis, self.service("redis"))

    @property
    def s3(self) -> S3:
        """S3, with buckets of its own."""
        return cast(S3, self.service("s3"))

    def service(self, name: str) -> Service:
        """The service of that name.

        Raises:
            UnknownService, ServiceNotSelected: there is none here.
            UsageError: the namespace was closed.
        """
        check_selected(name, self.services)
        self._check_is_there()
        self._verify((name,))
        return self._bound[name]

    def __getitem__(self, name: str) -> Service:
        """The service of that name, such as `namespace["notes"]`: see `service`."""
        return self.service(name)

    def _verify(self, names: tuple[str, ...]) -> None:
        if self._unverified.isdisjoint(names) or self._process != os.getpid():
            return
        with self._lock:
            if waiting := tuple(name for name in names if name in self._unverified):
                self._keeper.verify_namespace(self, waiting)
                self._unverified.difference_update(waiting)

    def _verify_before_use(self) -> None:
        """See, when a service is first asked for, that nothing has wiped it from the server."""
        self._unverified = set(self._bound)

    def environ(self, *, internal: bool = False) -> dict[str, str]:
        """The connection variables of its services: by the names of `.env.example`, and those of TRITON_VARIABLES.

        Args:
            internal: the values for other containers on the shared network instead of this machine.
        """
        self._check_is_there()
        self._verify(self.services)  # at once, which takes the time of the slowest
        services = {name: self.service(name) for name in self.services}
        return variables.of_services(services, self._keeper.settings.triton_variables, internal=internal)

    def reset(self) -> None:
        """Bring it back to what it was when it was handed out. Clients may have to connect again.

        Raises:
            UsageError: it was closed, or belongs to another process.
            IsolationFailed: a server refused.
        """
        self._check_is_there()
        self._keeper.reset_namespace(self)
        self._unverified = set()

    def keep(self) -> None:
        """Have it stay after `close` and after this process, as long as the servers have their data.

        Raises:
            UsageError: it was closed, or belongs to another process.
        """
        self._check_is_there()
        self._keeper.keep_namespace(self)
        self.is_kept = True

    def close(self) -> None:
        """Remove it, also where clients are connected; their next command fails. May be called again.

        It is removed in the background, so this returns at once. A forked child does not remove its parent's.
        """
        if not self._closed and self._process == os.getpid():
            self._closed = self._keeper.close_namespace(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None and self.keep_on_error:
            self.keep()
            print(self.directions(), file=sys.stderr)
        self.close()

    def directions(self) -> str:
        """How to get into it and how to remove it, in words. It holds passwords."""
        urls = "\n".join(f"  {self._bound[name].title:<11} {self._bound[name].address}" for name in self._bound)
        return (
            f"The namespace {self.id} is kept:\n{urls}\nRemove it with: {runnable('python -m triton_env prune --kept')}"
        )

    def _check_is_there(self) -> None:
        if self._closed and not self.is_kept:
            raise UsageError(f"The namespace {self.id} is closed.", hint="take another one: env.namespace()")

    def __repr__(self) -> str:
        state = "kept" if self.is_kept else "closed" if self._closed else "open"
        return f"<Namespace {self.id} {state}: {', '.join(self.services)}>"
