"""Why a database cannot be copied at present."""

from triton_env.errors import SnapshotFailed


def in_transaction(database: str, client: tuple[int, str | None, str, str], count: int) -> SnapshotFailed:
    """The error that clients are in transactions, the first of them as pg_stat_activity has it."""
    pid, state, query, application = client
    others = f", and {count - 1} more" if count > 1 else ""
    return SnapshotFailed(
        f"The database {database} cannot be copied while a client is in a transaction.",
        where=f"server process {pid}{f' of {application}' if application else ''} is {state or 'starting'}{others}",
        cause=f"its last query: {query}",
        hint=f"commit, roll back or close that connection, or end it: select pg_terminate_backend({pid})",
    )


def has_prepared(database: str, gid: str) -> SnapshotFailed:
    """The error that a transaction is prepared in a database."""
    return SnapshotFailed(
        f"The database {database} cannot be copied while a transaction is prepared in it.",
        where=f"the prepared transaction {gid!r}",
        hint=f"end it in that database: rollback prepared '{gid}', or commit prepared '{gid}'",
    )
