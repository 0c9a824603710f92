"""The queries that run, by the ids that their clients gave them: over HTTP and over the native protocol."""

from __future__ import annotations

from .engine import Engine
from .errors import QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING, ServerError
from .sessions import Lease


class RunningQueries:
    """For the event loop only, except where it is said."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._leases: dict[str, Lease] = {}

    def check(self, query_id: str) -> None:
        """Refuse an id that a running query has.

        Raises:
            ServerError: QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING.
        """
        if query_id in self._leases:
            raise ServerError(QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING, f"Query with id = {query_id} is already running.")

    def get(self, query_id: str) -> Lease | None:
        """What runs under an id."""
        return self._leases.get(query_id)

    def add(self, query_id: str, lease: Lease) -> None:
        """Note a query that begins."""
        self._leases[query_id] = lease

    def remove(self, query_id: str) -> None:
        """Forget a query that has ended."""
        del self._leases[query_id]

    def resolve(self, query_id: bytes) -> bytes:
        """The engine's own id for the id of a running query; anything else as it is. Blocks; from any thread."""
        lease = self._leases.get(query_id.decode("utf-8", "replace"))
        found = self._engine.running_id(lease.connection.tag) if lease is not None else None
        return query_id if found is None else found.encode()
