"""What PostgreSQL reports about itself: sessions, slow statements, databases, tables and their first rows."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from triton_env.errors import ServiceDied, UsageError
from triton_env.services.base_insight import (
    ROWS,
    Column,
    Insight,
    Metric,
    Panel,
    Row,
    Table,
    Totals,
    cut,
    dotted,
    mark_of,
    names_in,
    room,
    table_of,
)
from triton_env.services.base_isolation import PREFIX
from triton_env.services.postgres.server import INSIGHT, UNLIMITED, break_off, is_over
from triton_env.services.postgres.service import Postgres

if TYPE_CHECKING:
    import psycopg
    from psycopg import sql

    Connection = psycopg.Connection[Any]

_MAINTENANCE = "postgres"
_MARK = f"/* {INSIGHT} */"
"""How its statements begin, so that none of them is shown."""
_COUNTERS = ("transactions_total", "blocks_hit_total", "blocks_read_total", "deadlocks_total")
_NUMBERS = """
select datid::bigint, xact_commit + xact_rollback, blks_hit, blks_read, deadlocks from pg_stat_database
"""
_GAUGES = """
select (select count(*) from pg_stat_activity where backend_type = 'client backend' and application_name <> %(name)s),
    (select pg_database_size(oid) from pg_database where datname = %(own)s)
"""
_SESSIONS = """
select pid, datname, usename, application_name, state,
    case when state = 'active' and wait_event is not null then wait_event_type || ': ' || wait_event end,
    case when wait_event_type = 'Lock' then array_to_string(pg_blocking_pids(pid), ', ') end,
    extract(epoch from clock_timestamp() - xact_start)::float8,
    extract(epoch from case when state = 'active' then clock_timestamp() else state_change end - query_start)::float8,
    query
from pg_stat_activity where backend_type = 'client backend' and application_name <> %(name)s
order by state = 'idle', xact_start, query_start limit %(limit)s
"""
_SESSION_COLUMNS = (
    Column("pid", "number"),
    Column("database"),
    Column("user"),
    Column("application"),
    Column("state"),
    Column("waits for"),
    Column("blocked by"),
    Column("in transaction", "seconds"),
    Column("statement took", "seconds"),
    Column("statement", "code"),
)
_LAST_STATEMENTS = """
select extract(epoch from case when state = 'active' then clock_timestamp() else state_change end - query_start)::float8
    as seconds, state, datname, usename, application_name, query
from pg_stat_activity
where backend_type = 'client backend' and application_name <> %(name)s and query <> '' and query_start is not null
order by seconds desc nulls last limit %(limit)s
"""
_LAST_COLUMNS = (
    Column("took", "seconds"),
    Column("state"),
    Column("database"),
    Column("user"),
    Column("application"),
    Column("statement", "code"),
)
_STATEMENTS = """
select (s.total_exec_time / 1000)::float8, s.calls, (s.mean_exec_time / 1000)::float8, (s.max_exec_time / 1000)::float8,
    s.rows, d.datname, pg_get_userbyid(s.userid), left(s.query, %(length)s)
from {} s left join pg_database d on d.oid = s.dbid
where not starts_with(s.query, %(mark)s) order by s.total_exec_time desc limit %(limit)s
"""
_STATEMENT_COLUMNS = (
    Column("total", "seconds"),
    Column("calls", "number"),
    Column("mean", "seconds"),
    Column("longest", "seconds"),
    Column("rows", "number"),
    Column("database"),
    Column("user"),
    Column("statement", "code"),
)
_EXTENSION = """
select n.nspname from pg_extension e join pg_namespace n on n.oid = e.extnamespace
where e.extname = 'pg_stat_statements' and has_schema_privilege(n.oid, 'usage')
    and exists (select from pg_settings where name = 'pg_stat_statements.max')
"""
_DATABASE = "select from pg_database where datname = %s and datallowconn"
_DATABASES = """
select d.datname, pg_get_userbyid(d.datdba),
    case when has_database_privilege(d.oid, 'connect') then pg_database_size(d.oid) end, s.numbackends,
    s.xact_commit + s.xact_rollback, d.datallowconn
from (select * from pg_database order by datname limit %(limit)s) d left join pg_stat_database s on s.datid = d.oid
order by d.datname <> %(own)s, d.datname
"""
_DATABASE_COLUMNS = (
    Column("database"),
    Column("owner"),
    Column("size", "bytes"),
    Column("sessions", "number"),
    Column("transactions", "number"),
)
_TABLES = """
select c.nspname, c.relname, c.kind,
    case when not exists (
        select from pg_locks l where l.relation = c.oid and l.mode = 'AccessExclusiveLock'
            and l.database = (select oid from pg_database where datname = current_database())
    ) then pg_total_relation_size(c.oid) end as size,
    pg_stat_get_live_tuples(c.oid), coalesce(pg_stat_get_numscans(c.oid), 0),
    nullif(greatest(extract(epoch from pg_stat_get_last_analyze_time(c.oid)),
                    extract(epoch from pg_stat_get_last_autoanalyze_time(c.oid))), 0)::float8
from (
    select c.oid, n.nspname, c.relname, case c.relkind
        when 'r' then 'table' when 'p' then 'partitioned table' when 'm' then 'materialized view'
        when 'v' then 'view' when 'f' then 'foreign table' end as kind
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'm', 'v', 'f') and n.nspname not in ('pg_catalog', 'information_schema')
        and n.nspname not like 'pg\\_toast%%' and n.nspname not like 'pg\\_temp\\_%%'
    order by c.relpages desc, c.relname limit 2000
) c
order by size desc nulls last, c.nspname, c.relname limit %(limit)s
"""
"""A size waits for who changes the table, also for who waits to, so there is none then."""
_TABLE_COLUMNS = (
    Column("schema"),
    Column("name"),
    Column("kind"),
    Column("size", "bytes"),
    Column("rows (estimate)", "number"),
    Column("scans", "number"),
    Column("analyzed", "time"),
)
_SIZES = "select datname, pg_database_size(oid) from pg_database where starts_with(datname, %(prefix)s)"
_TABLE = "select n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = %s"
_COLUMNS = """
select attname from pg_attribute where attrelid = %s and attnum > 0 and not attisdropped order by attnum limit 101
"""


class PostgresInsight(Insight[Postgres]):
    """Looks at a PostgreSQL server, in transactions that only read."""

    metrics = (
        Metric("connections", "Connections", "Sessions of clients, without those that look."),
        Metric("transactions_total", "Transactions", "Transactions that were committed or rolled back.", "counter"),
        Metric("blocks_hit_total", "Cache hits", "Blocks that were found in the server's own cache.", "counter"),
        Metric("blocks_read_total", "Cache misses", "Blocks that were read from outside of its cache.", "counter"),
        Metric("deadlocks_total", "Deadlocks", "Deadlocks that the server ended.", "counter"),
        Metric("database_size_bytes", "Database", "Size of the environment's own database.", unit="bytes"),
    )
    panels = (
        Panel("sessions", "Sessions", "No client is connected."),
        Panel("statements", "Slow statements", "No statement has run in a session that is still there."),
        Panel("databases", "Databases", "The server has no database."),
        Panel("tables", "Tables", "This database has no table: a migration makes them, or CREATE TABLE.", "database"),
        Panel("rows", "First rows", "This table is empty.", "table", needs_argument=True),
    )

    _kept: "Connection | None" = None

    def _sample(self) -> Mapping[str, float]:
        with self._reading() as connection:
            counters = _ask(connection, _NUMBERS).fetchall()
            ((connections, size),) = _ask(
                connection, _GAUGES, {"name": INSIGHT, "own": self._service.database}
            ).fetchall()
        if self._totals is None:
            self._totals = Totals(_COUNTERS)
        totals = self._totals.after({str(datid): values for datid, *values in counters})
        sizes = {} if size is None else {"database_size_bytes": size}  # a client may have dropped it
        return {**totals, "connections": connections, **sizes}

    def _sizes(self) -> Mapping[str, int]:
        with self._reading() as connection:
            return {name: size for name, size in connection.execute(_SIZES, {"prefix": PREFIX}).fetchall() if size}

    def _table(self, panel: str, argument: str) -> Table:
        match panel:
            case "sessions":
                return self._sessions()
            case "statements":
                return self._statements()
            case "databases":
                return self._databases()
            case "tables":
                return self._tables(argument or self._service.database)
            case _:
                return self._rows(argument)

    def _errors(self) -> tuple[type[Exception], ...]:
        import psycopg

        return (psycopg.Error, OSError)

    def _sessions(self) -> Table:
        with self._reading() as connection:
            found = _ask(connection, _SESSIONS, {"name": INSIGHT, "limit": ROWS + 1}).fetchall()
        return table_of(_SESSION_COLUMNS, [Row(tuple(row), mark=mark_of(row[1] or "")) for row in found])

    def _statements(self) -> Table:
        # The extension is in the user's own database.
        with self._reading(self._service.database) as connection:
            schema = _ask(connection, _EXTENSION).fetchone()
            if schema:
                from psycopg import sql

                query = sql.SQL(_STATEMENTS).format(sql.Identifier(schema[0], "pg_stat_statements"))
                found = _ask(connection, query, {"length": room(1), "mark": _MARK, "limit": ROWS + 1}).fetchall()
                return table_of(_STATEMENT_COLUMNS, [Row(tuple(row), mark=mark_of(row[5] or "")) for row in found])
            found = _ask(connection, _LAST_STATEMENTS, {"name": INSIGHT, "limit": ROWS + 1}).fetchall()
        note = (
            "The last statement of each session. For all of them: "
            "TRITON_POSTGRES_OPTIONS=shared_preload_libraries=pg_stat_statements, and CREATE EXTENSION "
            f"pg_stat_statements in the database {self._service.database}"
        )
        return table_of(_LAST_COLUMNS, [Row(tuple(row), mark=mark_of(row[2] or "")) for row in found], note)

    def _databases(self) -> Table:
        with self._reading() as connection:
            found = _ask(connection, _DATABASES, {"own": self._service.database, "limit": ROWS + 1}).fetchall()
        rows = [
            Row(tuple(cells), "tables" if is_open else "", cells[0] if is_open else "", mark=mark_of(cells[0]))
            for *cells, is_open in found
        ]
        return table_of(_DATABASE_COLUMNS, rows)

    def _tables(self, database: str) -> Table:
        with self._reading(database) as connection:
            found = _ask(connection, _TABLES, {"limit": ROWS + 1}).fetchall()
        rows = [Row(tuple(row), "rows", dotted(database, row[0], row[1])) for row in found]
        is_locked = any(row[3] is None for row in found)
        note = "A table without a size is locked by a client that changes it." if is_locked else ""
        return table_of(_TABLE_COLUMNS, rows, note)

    def _rows(self, argument: str) -> Table:
        from psycopg import sql

        names = names_in(argument)
        if not 1 <= len(names) <= 3:
            raise UsageError("Name a table.", hint="users, app.users, or a database before it: triton.app.users")
        database = names[0] if len(names) == 3 else self._service.database
        with self._reading(database) as connection:
            identifier = sql.Identifier(*names[-2:]).as_string(connection)
            if "\0" in argument:
                raise UsageError("A name cannot contain the character NUL.", hint="see the panel 'tables'")
            ((oid,),) = _ask(connection, "select to_regclass(%s)::oid", [identifier]).fetchall()
            if oid is None:
                words = f"The database {database} has no table {cut(identifier, 80)}."
                raise UsageError(words, hint="see the panel 'tables'")
            ((schema, name),) = _ask(connection, _TABLE, [oid]).fetchall()
            columns = [column for (column,) in _ask(connection, _COLUMNS, [oid]).fetchall()]
            is_wide = len(columns) > 100
            columns = columns[:100]
            length = room(len(columns))
            cells = sql.SQL(", ").join(
                sql.SQL("left({}::text, {})").format(sql.Identifier(column), sql.Literal(length + 1))
                for column in columns
            )
            query = sql.SQL("select {} from {} limit {}").format(
                cells, sql.Identifier(schema, name), sql.Literal(ROWS + 1)
            )
            found = _ask(connection, query).fetchall() if columns else []
        rows = [Row(tuple(cut(cell, length) if cell is not None else None for cell in row)) for row in found]
        note = "Of its columns, the first 100 are shown." if is_wide else ""
        return table_of(tuple(Column(column) for column in columns), rows, note)

    @contextmanager
    def _reading(self, database: str = "") -> Iterator["Connection"]:
        """A transaction that only reads.

        Args:
            database: in which it is, by a connection of its own; empty for any, by the connection that is kept.
        """
        if database:
            self._check_database(database)
        connection = self._connect(database) if database else self._usual_connection()
        # A server that is held up answers nothing, and the client would wait without end.
        watchdog = threading.Timer(self._timeout + 1, break_off, [connection])
        watchdog.daemon = True
        watchdog.start()
        try:
            with connection.transaction(force_rollback=True):
                milliseconds = int(self._timeout * 1000)
                connection.execute(
                    f"set local statement_timeout = {milliseconds}; set local lock_timeout = {milliseconds // 4 or 1}"
                )
                yield connection
        finally:
            watchdog.cancel()
            if database:
                with suppress(OSError):
                    connection.close()

    def _check_database(self, name: str) -> None:
        with self._reading() as connection:
            # No database has such a name, and a client would take the rest of it for something else.
            if "\0" in name or not _ask(connection, _DATABASE, [name]).fetchall():
                raise UsageError(
                    f"The database {cut(name, 80)!r} does not exist, or is closed to clients.",
                    hint="see the panel 'databases'",
                )

    def _usual_connection(self) -> "Connection":
        if self._kept is not None and is_over(self._kept):
            self.close()
        if self._kept is None:
            from psycopg import OperationalError, errors

            try:
                # Not in the user's own database, nor in the template of others: neither could be copied or dropped.
                self._kept = self._connect(_MAINTENANCE)
            except OperationalError as error:
                if isinstance(error, ServiceDied | errors.ConnectionTimeout):
                    raise
                # It may be dropped, or not be for this user.
                self._kept = self._connect(self._service.database)
        return self._kept

    def _connect(self, database: str) -> "Connection":
        connection = self._service.connect(
            dbname=database,
            connect_timeout=max(2, int(self._timeout)),
            application_name=INSIGHT,
            prepare_threshold=None,
            autocommit=True,
        )
        connection.execute(UNLIMITED)
        connection.read_only = True
        if connection.info.parameter_status("server_encoding") == "SQL_ASCII":
            # Such a database holds any bytes, and would refuse to send those that are not UTF-8.
            connection.execute("set client_encoding = 'SQL_ASCII'")
        for kind in ("text", "name", "varchar", "bpchar"):
            connection.adapters.register_loader(kind, _loader())
        return connection


def _ask(connection: "Connection", query: "str | sql.Composed", values: Any = None) -> "psycopg.Cursor[Any]":
    text = query if isinstance(query, str) else query.as_string(connection)
    return connection.execute(f"{_MARK} {text}", values)


def _loader() -> Any:
    from psycopg.adapt import Loader

    class Lenient(Loader):
        """Text of a database whose encoding allows what is not UTF-8."""

        def load(self, data: Any) -> str:
            return bytes(data).decode(errors="backslashreplace")

    return Lenient
