"""Which privileges a statement needs, and on what."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from triton_env.servers.clickhouse import sql
from triton_env.servers.clickhouse.engine import Connection
from triton_env.servers.clickhouse.errors import SYNTAX_ERROR, ServerError

from .reader import Reader
from .reading import Parts, Reading
from .rights import Privileges, Scope

_OPEN: Final = frozenset(
    {
        "one", "numbers", "numbers_mt", "zeros", "zeros_mt", "primes", "contributors", "licenses", "time_zones",
        "build_options", "formats", "table_functions", "functions", "aggregate_function_combinators", "table_engines",
        "database_engines", "data_type_families", "data_skipping_index_types", "collations", "codecs", "keywords",
        "completions", "documentation", "privileges", "settings", "merge_tree_settings", "settings_changes",
        "dashboards", "unicode", "tokenizers", "current_roles", "enabled_roles", "quota_usage",
    }
)  # fmt: skip
"""Tables of `system` that need no grant."""
FILTERED: Final = {
    "databases": ("name", ""), "tables": ("database", "name"), "columns": ("database", "table"),
    "dictionaries": ("database", "name"), "parts": ("database", "table"), "parts_columns": ("database", "table"),
    "mutations": ("database", "table"), "merges": ("database", "table"), "data_skipping_indices": ("database", "table"),
    "projections": ("database", "table"), "constraints": ("database", "table"),
}  # fmt: skip
"""Tables of `system` of which a user sees what it may use, with their columns for database and table."""
OF_ACCESS: Final = (
    "users", "roles", "role_grants", "grants", "settings_profiles", "settings_profile_elements", "row_policies",
    "quotas",
)  # fmt: skip
"""Tables of `system` about what SQL makes, which need the privileges to show it."""
_ALWAYS: Final = frozenset({"information_schema", "INFORMATION_SCHEMA"})
_ALTER: Final = {
    "DELETE": "ALTER DELETE", "DROP_PARTITION": "ALTER DELETE", "DROP_DETACHED_PARTITION": "ALTER DELETE",
    "REPLACE_PARTITION": "ALTER DELETE", "ATTACH_PARTITION": "INSERT", "MOVE_PARTITION": "ALTER MOVE PARTITION",
    "FREEZE_ALL": "ALTER FREEZE PARTITION", "MODIFY_SETTING": "ALTER SETTINGS", "RESET_SETTING": "ALTER SETTINGS",
    "MODIFY_TTL": "ALTER TTL", "REMOVE_TTL": "ALTER TTL", "MODIFY_QUERY": "ALTER VIEW MODIFY QUERY",
    "MODIFY_DATABASE_SETTING": "ALTER DATABASE SETTINGS", "MODIFY_SAMPLE_BY": "ALTER SAMPLE BY",
    "MODIFY_ORDER_BY": "ALTER ORDER BY",
}  # fmt: skip
"""The privileges for commands of ALTER that have another name."""
_MERGE_TREE: Final = "MergeTree"
_OTHER_ENGINES: Final = frozenset({"Memory", "Null", "Set", "Join", "Log", "TinyLog", "StripeLog"})
_DATABASE_ENGINES: Final = frozenset({"Atomic", "Memory"})
_POWERFUL: Final = ("sql_security", "has_attach_from_path", "has_uuid_clause", "is_time_series_table")
"""What may give to a table or view what belongs to another one, or the rights of another user."""
_FREE: Final = frozenset(
    {"SelectWithUnionQuery", "SelectQuery", "SelectIntersectExceptQuery", "ExplainQuery", "SetQuery", "ShowTablesQuery",
     "ShowColumnsQuery", "ShowIndexesQuery"}
)  # fmt: skip
"""Statements that need nothing but what they read."""
_CHANGES: Final = frozenset({"AlterQuery", "DeleteQuery", "UpdateQuery"})
"""Statements that read in the database of their table what they name without one, whatever the current database is."""
_SHOW: Final = frozenset(
    {"TABLES", "DATABASES", "DICTIONARIES", "COLUMNS", "FIELDS", "INDEX", "INDEXES", "INDICES", "KEYS", "FUNCTIONS",
     "SETTINGS", "SETTING", "ENGINES", "PRIVILEGES"}
)  # fmt: skip
EVERYTHING: Final = "ALL"


@dataclass(frozen=True, slots=True)
class Need:
    """One privilege that a statement needs; `sufficient` are others that do as well."""

    flag: str
    scope: Scope = ()
    sufficient: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """A table that is there."""

    database: str
    name: str
    engine: str
    query: str
    definition: str

    @property
    def scope(self) -> Scope:
        """Where it is."""
        return self.database, self.name


class Analysis:
    """One statement of a user whose privileges are limited."""

    def __init__(
        self,
        catalog: Connection,
        privileges: Privileges,
        database: str,
        temporary: Collection[str],
        parameters: Mapping[str, str],
    ) -> None:
        """`catalog` sees everything; `database` and the `temporary` tables are those of the user's connection."""
        self._catalog, self._privileges, self._database = catalog, privileges, database
        self._temporary = frozenset(temporary)
        self.reading = Reading(parameters, privileges.source_of)
        self._needs: list[Need] = []
        self._inserted: list[str] = []

    def of(self, text: bytes, values: Any = None) -> list[Need]:
        """What a statement needs, in the order in which a server asks for it.

        Args:
            text: the statement.
            values: the tree of the VALUES that come with it; see `parse_values`.

        Raises:
            ServerError: it cannot be parsed.
        """
        self.reading.add(values)
        try:
            tree = parsed(self._catalog, text.decode("utf-8", "surrogateescape"))
        except ServerError as error:
            if "does not support JSON" not in error.message:
                raise
            self._unparsed(formatted(self._catalog, text))
        else:
            self._statement(tree)
        return self._needs

    def _need(self, flag: str, scope: Scope = (), *sufficient: str) -> None:
        # Everyone has something in there, and sees it.
        if not (flag.startswith("SHOW ") and scope[:1] and scope[0] in (*_ALWAYS, "system")):
            self._needs.append(Need(flag, scope, sufficient))

    def _everything(self) -> None:
        self._need(EVERYTHING)

    def _statement(self, tree: Mapping[str, Any]) -> None:
        kind = tree["type"]
        statement: dict[str, Callable[[Mapping[str, Any]], None]] = {
            "InsertQuery": self._insert, "CreateQuery": self._create, "DropQuery": self._drop,
            "AlterQuery": self._alter, "RenameQuery": self._rename,
        }  # fmt: skip
        simple = {
            "OptimizeQuery": "OPTIMIZE", "DeleteQuery": "ALTER DELETE", "UpdateQuery": "ALTER UPDATE",
            "CheckTableQuery": "CHECK", "CreateIndexQuery": "ALTER ADD INDEX", "DropIndexQuery": "ALTER DROP INDEX",
        }  # fmt: skip
        if kind in statement:
            statement[kind](tree)
        elif kind in simple:
            self._need(simple[kind], self._target(tree))
        elif kind == "UseQuery":
            self._need("SHOW DATABASES", (self.reading.parts(tree["database"])[0],))
        elif kind == "SystemQuery":
            self._system(tree["query_type"].replace("_", " "))
        elif kind == "CreateSQLFunctionQuery":
            self._need("CREATE FUNCTION")
        elif kind == "KillQueryQuery" and tree.get("kill_type") == "Query":
            self._need("KILL QUERY")
        elif kind not in _FREE:
            self._everything()
        if kind != "DropQuery":  # the tables in it are not read
            self.reading.add(tree)
        if kind in _CHANGES and (scope := self._target(tree)):
            self._database = scope[0]
        self._read()

    def _target(self, tree: Mapping[str, Any]) -> Scope:
        """The table that a statement is about, empty for a temporary one."""
        place = self._place(tree)
        is_qualified = tree.get("database_ast") or tree.get("database")
        return () if not is_qualified and place[-1:] and place[-1] in self._temporary else place

    def _place(self, tree: Mapping[str, Any], prefix: str = "") -> Scope:
        """The table that a statement names; CREATE and RENAME never mean a temporary one by a name alone."""
        found = []
        for part in ("database", "table"):
            node = tree.get(f"{prefix}{part}_ast", tree.get(f"{prefix}{part}"))
            found.append(self.reading.parts(node)[0] if isinstance(node, dict) else node or "")
        database, table = found
        return tuple(part for part in (database or self._database, table) if part)

    def _insert(self, tree: Mapping[str, Any]) -> None:
        if function := tree.get("table_function"):
            self.reading.add_table_function(function)
            self._need("CREATE TEMPORARY TABLE")
        elif scope := self._target(tree):
            self._need("INSERT", scope)
            self._inserted = [self.reading.parts(each)[-1] for each in (tree.get("columns") or {}).get("children", ())]

    def _create(self, tree: Mapping[str, Any]) -> None:
        place = self._place(tree)
        if tree.get("is_temporary"):
            self._need("CREATE TEMPORARY TABLE")
        elif not tree.get("table_ast"):
            self._need("CREATE DATABASE", place)
        else:
            is_view = tree.get("is_ordinary_view") or tree.get("is_materialized_view")
            kind = "DICTIONARY" if tree.get("is_dictionary") else "VIEW" if is_view else "TABLE"
            self._need(f"CREATE {kind}", place)
            if tree.get("create_or_replace") or tree.get("replace_table") or tree.get("replace_view"):
                self._need(f"DROP {kind}", place)
        if tree.get("select") and not tree.get("is_ordinary_view") and not tree.get("is_temporary"):
            self._need("INSERT", place)
        if any(tree.get(each) for each in _POWERFUL):
            self._everything()
        engine = (tree.get("storage") or {}).get("engine", {}).get("name", "")
        of_tables = tree.get("table_ast") and (engine.endswith(_MERGE_TREE) or engine in _OTHER_ENGINES)
        if engine and not of_tables and engine not in _DATABASE_ENGINES:
            # Engines that lead to other tables, servers or files.
            self._everything()
        if tree.get("is_dictionary"):
            self._need("SELECT")  # its source may be any table
        if tree.get("as_table"):
            scope = (tree.get("as_database") or self._database, tree["as_table"])
            self._need("SELECT" if tree.get("is_clone_as") else "SHOW COLUMNS", scope)
        if function := tree.get("as_table_function"):
            self.reading.add_table_function(function)
        for target in (tree.get("targets") or {}).get("targets", ()):
            if target.get("table_name"):
                self._need("INSERT", (target.get("table_database") or self._database, target["table_name"]))

    def _drop(self, tree: Mapping[str, Any]) -> None:
        listed = (tree.get("database_and_tables") or {}).get("children", ())
        scopes = [self._scope(self.reading.parts(each)) for each in listed] or [self._target(tree)]
        if tree.get("is_temporary"):
            return
        for scope in scopes:
            if len(scope) == 1:
                self._need("TRUNCATE" if tree.get("kind") == "Truncate" else "DROP DATABASE", scope)
            elif scope:
                kind = "VIEW" if tree.get("is_view") else "DICTIONARY" if tree.get("is_dictionary") else "TABLE"
                if kind == "TABLE" and any(table.engine.endswith("View") for table in self._tables([scope])):
                    kind = "VIEW"
                self._need("TRUNCATE" if tree.get("kind") == "Truncate" else f"DROP {kind}", scope)

    def _scope(self, parts: Parts) -> Scope:
        return parts if len(parts) > 1 else (self._database, *parts)

    def _alter(self, tree: Mapping[str, Any]) -> None:
        scope = self._target(tree)
        for command in tree.get("command_list", {}).get("children", ()):
            kind = command.get("command_type", "")
            flag = _ALTER.get(kind) or f"ALTER {kind.replace('_', ' ')}"
            self._need(flag if flag in self._privileges else EVERYTHING, scope if flag in self._privileges else ())
            if command.get("from_table"):
                self._need("SELECT", (command.get("from_database") or self._database, command["from_table"]))
                self._need("INSERT", scope)
            if command.get("to_table"):
                self._need("INSERT", (command.get("to_database") or self._database, command["to_table"]))

    def _rename(self, tree: Mapping[str, Any]) -> None:
        for element in tree["elements"]:
            source, target = self._place(element, "from_"), self._place(element, "to_")
            if tree.get("database"):
                self._needs += [Need("DROP DATABASE", source), Need("CREATE DATABASE", target), Need("SELECT", source)]
                continue
            for one, other in ((source, target), (target, source)) if tree.get("exchange") else ((source, target),):
                self._needs += [Need("SELECT", one), Need("DROP TABLE", one)]
                self._needs += [Need("CREATE TABLE", other), Need("INSERT", other)]

    def _system(self, words: str) -> None:
        """`SYSTEM FLUSH LOGS` needs a privilege of that name, or of its beginning."""
        parts = ["SYSTEM", *words.replace("START ", "").replace("STOP ", "").split()]
        names = (" ".join(parts[:count]) for count in range(len(parts), 0, -1))
        self._need(next((name for name in names if name in self._privileges), EVERYTHING))

    def _unparsed(self, text: bytes) -> None:
        """Statements that the engine does not write as JSON."""
        reader = Reader(text, self.reading.parameters)
        if reader.one_of("DESCRIBE TABLE", "DESCRIBE"):
            is_table = reader.next != "("
            rest = reader.text_before("FORMAT", "SETTINGS", "INTO")
            self._needs = []
            self.of(f"SELECT * FROM {rest}".encode("utf-8", "surrogateescape"))  # noqa: S608  (it is parsed alone)
            if is_table:
                read, self._needs = self._needs, []
                for need in read:
                    self._need("SHOW COLUMNS" if need.flag == "SELECT" else need.flag, need.scope, *need.sufficient)
        elif found := reader.one_of("EXISTS TEMPORARY", "EXISTS", "SHOW CREATE TEMPORARY", "SHOW CREATE"):
            kind = reader.one_of("TABLE", "VIEW", "DICTIONARY", "DATABASE")
            if kind == "DATABASE":
                self._need("SHOW DATABASES", (reader.name(),))
            elif not found.endswith("TEMPORARY"):
                database, table = reader.table("")
                if database or table not in self._temporary:
                    flag = "SHOW COLUMNS" if found.startswith("SHOW") else "SHOW TABLES"
                    self._need(flag, (database or self._database, table))
        elif reader.accept("DROP FUNCTION"):
            self._need("DROP FUNCTION")
        elif reader.accept("UNDROP TABLE"):
            self._need("UNDROP TABLE", reader.table(self._database))
        elif reader.accept("SHOW PROCESSLIST"):
            self._need("SHOW PROCESSES", (), "SELECT")
        elif reader.accept("SHOW"):
            while reader.one_of("FULL", "EXTENDED", "TEMPORARY", "CHANGED"):
                pass
            if reader.next not in _SHOW:
                self._everything()
        else:
            self._everything()

    def _read(self) -> None:
        """What is read, with what the views and functions in it read."""
        done: set[Scope] = set()
        waiting = True
        while waiting:
            waiting = False
            self._functions()
            found = self._tables(self.reading.tables)
            views = {table.name.lower() for table in found if table.engine == "View"}
            for privilege in sorted(self.reading.privileges):
                if not privilege.startswith("?"):
                    self._need(privilege, (), "SOURCES")
                elif privilege[1:].rpartition(".")[2].lower() not in views:
                    self._everything()
            self.reading.privileges.clear()
            for table in found:
                if table.scope not in done:
                    done.add(table.scope)
                    waiting |= self._table(table)
        for database in self.reading.merged:
            self._need("SELECT", (database or self._database,) if database is not None else ())
        for dictionary in self.reading.dictionaries:
            self._need("dictGet", () if dictionary is None else self._scope(dictionary))

    def _table(self, table: Table) -> bool:
        """What reading a table needs; whether that is a view, with more to read."""
        if table.database in _ALWAYS:
            return False
        if table.database == "system" and (table.name in _OPEN or table.name in FILTERED):
            return False
        if table.database == "system" and table.name in OF_ACCESS:
            self._need("SHOW ROLES" if "role" in table.name else "SHOW USERS")
            return False
        self._need("SELECT", table.scope)
        is_invoker = "SQL SECURITY DEFINER" not in table.definition and "SQL SECURITY NONE" not in table.definition
        if table.engine != "View" or table.database == "system" or not is_invoker:
            return False
        self.reading.add(parsed(self._catalog, table.query))
        return True

    def _functions(self) -> None:
        """Functions of SQL read what their bodies read."""
        done: set[str] = set()
        while names := sorted(self.reading.functions - done):
            done |= set(names)
            listed = ", ".join(map(sql.quote, names))
            found = self._catalog.rows(
                f"SELECT create_query FROM system.functions WHERE origin = 'SQLUserDefined' AND name IN ({listed})"  # noqa: S608
            )
            for (query,) in found:
                self.reading.add(parsed(self._catalog, query))

    def _tables(self, names: Iterable[Parts]) -> list[Table]:
        """Those of the names that are tables now."""
        scopes = {self._scope(parts) for parts in names if len(parts) > 1 or parts[0] not in self._temporary}
        if not scopes:
            return []
        pairs = ", ".join(f"({sql.quote(scope[0])}, {sql.quote('.'.join(scope[1:]))})" for scope in sorted(scopes))
        # Some tables of `system` are made when they are used first.
        found = [Table(*scope, "", "", "") for scope in scopes if scope[0] == "system" and len(scope) == 2]
        rows = self._catalog.rows(
            "SELECT database, name, engine, as_select, create_table_query FROM system.tables "  # noqa: S608
            f"WHERE (database, name) IN ({pairs})"
        )
        return found + [Table(*row) for row in rows]

    def columns(self, need: Need, text: bytes, connection: Connection) -> list[str]:
        """The columns of a table that a SELECT reads or an INSERT writes, for the message."""
        if len(need.scope) != 2 or need.flag not in ("SELECT", "INSERT"):
            return []
        if need.flag == "INSERT":
            return self._inserted or _insertable(connection, need.scope)
        try:
            lines = connection.query(b"EXPLAIN QUERY TREE run_passes = 1 " + text, "TSVRaw", self.reading.parameters)
        except ServerError:
            return []
        return _columns(lines.bytes().decode("utf-8", "replace").splitlines(), ".".join(need.scope))


def parsed(catalog: Connection, text: str) -> Any:
    """The syntax tree of a statement."""
    return json.loads(_parse(catalog, "parseQueryToJSON", text))


def parse_values(catalog: Connection, data: bytes) -> Any:
    """The syntax tree of what comes after VALUES.

    Raises:
        ServerError: it has another form than that of rows with commas between them.
    """
    rows = data.strip().removesuffix(b";").decode("utf-8", "surrogateescape")
    # Its own words must not become clauses of this query.
    tree = parsed(catalog, f"SELECT [{rows}\n]")
    (select,) = tree["list_of_selects"]["children"]
    if tree.keys() & {"format", "settings", "out_file"} or select.keys() - {"type", "select"}:
        raise ServerError(SYNTAX_ERROR, "Syntax error: cannot parse the values")
    return select["select"]


def formatted(catalog: Connection, text: bytes) -> bytes:
    """The one form that a statement has, whatever way it was written in."""
    line = _parse(catalog, "formatQuerySingleLine", text.decode("utf-8", "surrogateescape"))
    return line.encode("utf-8", "surrogateescape")


def _parse(catalog: Connection, function: str, text: str) -> str:
    try:
        return str(catalog.rows(f"SELECT {function}({sql.quote(text)})")[0][0])
    except ServerError as error:
        # What follows repeats the statement, and with it the password of a user.
        message = error.message.partition(": In scope SELECT")[0]
        raise ServerError((error.code, error.name), message) from None


def _insertable(connection: Connection, scope: Scope) -> list[str]:
    rows = connection.rows(
        f"SELECT name FROM system.columns WHERE database = {sql.quote(scope[0])} AND table = {sql.quote(scope[1])} "  # noqa: S608
        "AND default_kind NOT IN ('MATERIALIZED', 'ALIAS') ORDER BY position"
    )
    return [str(row[0]) for row in rows]


def _columns(lines: list[str], table: str) -> list[str]:
    ids = {line.split("TABLE id: ")[1].split(",")[0] for line in lines if "TABLE id: " in line and line.endswith(table)}
    found = [
        line.split("column_name: ")[1].split(", result_type")[0]
        for line in lines
        if "COLUMN id: " in line and line.rpartition("source_id: ")[2] in ids
    ]
    return list(dict.fromkeys(found))
