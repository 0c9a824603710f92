"""What the protocols of one server have in common."""

from __future__ import annotations

import functools
from collections.abc import Sized
from typing import Final

from .accounts import Access, Account
from .auth import Authenticator, Credentials
from .config import ServerConfig
from .engine import Engine
from .pool import ConnectionPool
from .running import RunningQueries
from .workers import Workers

_STOP_TIMEOUT: Final = 2.0


class Shared:
    """One of each, for HTTP and for the native protocol."""

    def __init__(self, config: ServerConfig, engine: Engine) -> None:
        self.config, self.engine = config, engine
        self.access = Access(engine, config.path, [user.name for user in config.users])
        self._authenticator = Authenticator(config.users, self.access)
        self.workers = Workers(config.workers)
        self.pool = ConnectionPool(engine, config.idle_connections)
        self.running = RunningQueries(engine)
        self.of_http: Sized = ()
        self.of_native: Sized = ()

    def connections(self) -> dict[str, int]:
        """How many connections clients have, by the names of ClickHouse's metrics. From any thread."""
        return {"HTTPConnection": len(self.of_http), "TCPConnection": len(self.of_native)}

    async def authenticated(self, credentials: Credentials, address: str | None) -> Account:
        """The account that a client at that IP address has.

        Raises:
            ServerError: it has none.
        """
        if self._authenticator.blocks(credentials):
            return await self.workers.control(functools.partial(self._authenticator.check, credentials, address))
        return self._authenticator.check(credentials, address)

    def close(self) -> bool:
        """Stop what the grace of the shutdown has not seen end; whether everything has ended. Blocks."""
        self.engine.cancel_all()
        idle = self.workers.close(_STOP_TIMEOUT)
        if idle:
            self.pool.close()
            self.access.close()
        return idle
