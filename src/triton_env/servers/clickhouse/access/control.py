"""Who may log in, and what each statement of a user may do."""

from __future__ import annotations

import datetime
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from triton_env.servers.clickhouse import sql
from triton_env.servers.clickhouse.accounts import as_user, is_of_access, names_tables
from triton_env.servers.clickhouse.engine import Engine
from triton_env.servers.clickhouse.errors import (
    READONLY,
    SET_NON_GRANTED_ROLE,
    TOO_DEEP_RECURSION,
    UNKNOWN_SETTING,
    ServerError,
)
from triton_env.servers.clickhouse.request import QueryRequest
from triton_env.servers.clickhouse.sessions import Lease
from triton_env.servers.clickhouse.sql import InsertData

from . import showing
from .answers import Answers, select
from .entities import BUILT_IN, Setting, State
from .granting import refused
from .login import is_from
from .member import Anyone, Member
from .needs import OF_ACCESS, Analysis, formatted, parse_values
from .reader import Reader, plain
from .rights import Privileges, scope_text
from .settings import Limits
from .statements import Changes

_LARGE: Final = "SET max_query_size = 1000000000, max_parser_backtracks = 100000000, log_queries = 0"
"""For statements of any size, which may have passwords in them."""
_FILTERS: Final = "additional_table_filters"
_EXPRESSIONS: Final = (
    "input_format_values_interpret_expressions",
    "input_format_values_deduce_templates_of_expressions",
)
_SOURCES: Final = frozenset({b"READ", b"WRITE"})
_MOST_VALUES: Final = 1 << 18
"""Bytes of VALUES that are parsed."""
_RESERVED: Final = frozenset(
    {
        *_EXPRESSIONS, _FILTERS, "additional_result_filter", "ast_fuzzer_runs", "database", "dialect", "filter",
        "implicit_table_at_top_level", "order", "parallel_replicas_custom_key", "query_parameters", "select", "sort",
        "use_query_cache",
    }
)  # fmt: skip
"""Settings by which a statement would read something else than what it says, or what was read for another user."""


class Control:
    """The users, roles and the like of one server."""

    def __init__(self, engine: Engine, file: Path, config_users: Iterable[str]) -> None:
        """Read them from `file`, where it is there."""
        self._engine, self._file = engine, file
        self._lock = threading.RLock()
        # One at a time uses it, under the lock.
        self._catalog = engine.connect()
        self._catalog.run(_LARGE)
        # The names in what follows are literals of this file, or quoted.
        rows = self._catalog.rows("SELECT privilege, parent_group, level FROM system.privileges")
        self._privileges = Privileges((name, parent, level) for name, parent, level in rows)
        names = ", ".join(map(sql.quote, OF_ACCESS))
        self._structures = dict(
            self._catalog.rows(
                "SELECT table, arrayStringConcat(groupArray(concat('`', name, '` ', type)), ', ') FROM "  # noqa: S608
                "(SELECT table, name, type FROM system.columns WHERE database = 'system' "
                f"AND table IN ({names}) ORDER BY table, position) GROUP BY table"
            )
        )
        changes = Changes(State(tuple(config_users)), self._privileges, Anyone("default"))
        for line in file.read_text(encoding="utf-8", errors="surrogateescape").splitlines() if file.exists() else ():
            changes.apply(line.encode("utf-8", "surrogateescape"))
        self._state = changes.state
        self._is_published = False

    def close(self) -> None:
        """Close its connection."""
        with self._lock:
            self._catalog.close()

    @property
    def has_policies(self) -> bool:
        """Whether there are row policies, which may hold for users of the configuration too."""
        return bool(list(self._state.policies))

    def login(self, name: str, password: str, address: str | None) -> bool:
        """Whether a user of SQL may log in from the IP `address`."""
        user = self._state.users.find(name)
        if user is None or not any(is_from(kind, pattern, address) for kind, pattern in user.hosts):
            return False
        now = datetime.datetime.now(datetime.UTC)
        return any(
            each.accepts(password) and not (each.valid_until and self._time(each.valid_until) < now)
            for each in user.authentications
        )

    def _time(self, text: str) -> datetime.datetime:
        if text.lower() == "infinity":
            return datetime.datetime.max.replace(tzinfo=datetime.UTC)
        with self._lock:
            seconds = self._catalog.rows(f"SELECT toUnixTimestamp(parseDateTimeBestEffort({sql.quote(text)}))")[0][0]
        return datetime.datetime.fromtimestamp(seconds, datetime.UTC)

    def member(self, name: str, chosen: tuple[str, ...] | None = None) -> Member:
        """The user of SQL of that name, who may have been dropped since the login."""
        state = self._state
        user = state.users.find(name)
        if user is None:
            raise state.users.missing(name)
        return Member(user, state, self._privileges, chosen)

    def prepared(self, name: str, request: QueryRequest, *, is_limited: bool) -> QueryRequest:
        """A request with the settings, the database and the limits of its user.

        Raises:
            ServerError: it asks for roles or settings that the user may not have.
        """
        for role in request.roles:
            if role not in self._state.roles:
                raise self._state.roles.missing(role)
            if not is_limited or role not in self.member(name).user.roles:
                raise ServerError(SET_NON_GRANTED_ROLE, f"Role {role} should be granted to set current")
        if not is_limited:
            policies = self._policies(name, ())
            settings = dict(request.settings) | ({_FILTERS: _map(policies)} if policies else {})
            return replace(request, settings=settings)
        member = self.member(name, request.roles or None)
        limits = self._limits(member)
        for setting, value in request.settings.items():
            limits.check(setting, value)
        if "readonly" in request.parameters:
            limits.check("readonly", request.parameters["readonly"])
        # Of all roles: a session may choose others than these, and is not known here.
        anything = self.member(name, tuple(member.user.roles))
        filters = anything.filters() | self._policies(name, [role.name for role in anything.roles])
        level = limits.readonly
        return replace(
            request,
            settings=dict(request.settings) | ({_FILTERS: _map(filters)} if filters else {}),
            defaults=limits.values,
            parameters=dict(request.parameters) | ({"readonly": level} if level else {}),
            home=member.user.default_database,
        )

    def _limits(self, member: Member) -> Limits:
        """The settings of a user: of profiles, then of its roles, then its own."""
        state = self._state
        found: list[Setting] = []

        def add(settings: Iterable[Setting], above: tuple[str, ...] = ()) -> None:
            for each in settings:
                if not each.is_profile:
                    found.append(each)
                elif each.name not in above:
                    profile = state.profiles.find(each.name)
                    add(BUILT_IN.get(each.name, ()) if profile is None else profile.settings, (*above, each.name))

        names = [holder.name for holder in member.holders]
        for profile in state.profiles:
            if any(name in profile.to for name in names):
                add(profile.settings, (profile.name,))
        for holder in [*member.roles, member.user]:
            add(holder.settings)
        return Limits(member.name, found, _RESERVED)

    def _policies(self, name: str, roles: Iterable[str]) -> dict[str, str]:
        """For each table with row policies, the condition for what this user sees."""
        mine = [each for each in self._state.policies if any(one in each.to for one in (name, *roles))]
        if not mine:
            return {}
        with self._lock:
            rows = self._catalog.rows(
                "SELECT database, name FROM system.tables WHERE database IN "  # noqa: S608
                f"({', '.join(sql.quote(each.database) for each in mine)})"
            )
        found = {}
        for database, table in rows:
            here = [each for each in mine if each.database == database and each.table in ("", table)]
            some = [f"({each.condition})" for each in here if each.condition and not each.is_restrictive]
            every = [f"({each.condition})" for each in here if each.condition and each.is_restrictive]
            parts = ([f"({' OR '.join(some)})"] if some else []) + every
            if parts:
                condition = as_user(" AND ".join(parts).encode("utf-8", "surrogateescape"), name)
                found[f"{database}.{table}"] = condition.decode("utf-8", "surrogateescape")
        return found

    def admit(self, name: str, lease: Lease, request: QueryRequest, text: bytes, *, is_limited: bool) -> bytes | None:
        """Execute a statement about access, or check another one.

        Returns:
            What the engine is to execute for it, None where it is done.

        Raises:
            ServerError: it fails, or the user may not.
        """
        chosen = request.roles or (lease.session.roles if lease.session is not None else None)
        member = self.member(name, chosen) if is_limited else None
        with self._lock:
            if is_of_access(text):
                return self._of_access(member or Anyone(name), lease, request, text)
            if not self._is_published and names_tables(text, request.database):
                self._publish()
        if member is not None:
            self._check(member, lease, request, text)
        return text

    def roles(self, name: str, lease: Lease, request: QueryRequest) -> dict[bytes, Sequence[str]]:
        """What the functions about roles answer to a user, by their names in lower case."""
        chosen = request.roles or (lease.session.roles if lease.session is not None else None)
        member = self.member(name, chosen)
        return {
            b"currentroles": sorted(member.current),
            b"enabledroles": sorted(role.name for role in member.roles),
            b"defaultroles": sorted(role for role in member.user.roles if role in member.user.default_roles),
        }

    def guarded(self, request: QueryRequest, text: bytes, insert: InsertData, *, is_whole: bool) -> QueryRequest:
        """An INSERT request for which VALUES are not expressions, unless all of them can be checked before.

        Such an expression may read other tables, and the engine evaluates it while it reads the data.
        """
        if insert.format.lower() != "values":
            return request
        if is_whole and self._values(text, insert) is not None:
            return request
        return replace(request, settings=dict(request.settings) | dict.fromkeys(_EXPRESSIONS, "0"))

    def check_insert(self, name: str, lease: Lease, request: QueryRequest, text: bytes, insert: InsertData) -> None:
        """Check an INSERT that brings data; see `admit`."""
        chosen = request.roles or (lease.session.roles if lease.session is not None else None)
        # Where they cannot be parsed, `guarded` has seen to it that they are not expressions.
        values = self._values(text, insert) if insert.format.lower() == "values" else None
        self._check(self.member(name, chosen), lease, request, text[: insert.head_end] + b" FORMAT Null", values)

    def _values(self, text: bytes, insert: InsertData) -> Any:
        """The syntax tree of VALUES, None where they are large or have another form than most."""
        data = text[insert.data_start :]
        if len(data) > _MOST_VALUES:
            return None
        with self._lock, suppress(ServerError):
            return parse_values(self._catalog, data)
        return None

    def _check(self, member: Member, lease: Lease, request: QueryRequest, text: bytes, values: Any = None) -> None:
        database = lease.connection.rows("SELECT currentDatabase()")[0][0]
        temporary = [row[0] for row in lease.connection.rows("SELECT name FROM system.tables WHERE is_temporary")]
        analysis = Analysis(self._catalog, self._privileges, database, temporary, request.query_parameters)
        try:
            with self._lock:
                needs = analysis.of(text, values)
        except RecursionError:
            raise ServerError(TOO_DEEP_RECURSION, "The query is nested too deeply") from None
        limits = self._limits(member)
        for setting, value in analysis.reading.settings:
            limits.check(setting, value)
        reading = analysis.reading
        is_past_policies = reading.merged or reading.is_unfiltered
        if is_past_policies and self._policies(member.name, [role.name for role in member.roles]):
            what = "merge(), mergeTreeIndex() and the like, or a function with a computed name of a table,"
            raise refused(f"{what} for a user with row policies")
        for need in needs:
            if not member.allows(need):
                # Not under the lock: to name the columns, the engine executes scalar subqueries.
                found = ", ".join(map(plain, analysis.columns(need, text, lease.connection)))
                columns = f"({found})" if found else ""
                raise member.denied(f"{need.flag}{columns} ON {scope_text(need.scope)}")

    def _of_access(self, actor: Anyone | Member, lease: Lease, request: QueryRequest, text: bytes) -> bytes | None:
        line = formatted(self._catalog, text)
        # The form of a grant on one source, such as READ ON URL('...'), is that of a grant on all of its kind.
        if not _SOURCES & _words(line) and _SOURCES & (words := _words(text)) and {b"GRANT", b"REVOKE"} & words:
            raise refused("A grant to read or write one source")
        reader = Reader(line, request.query_parameters)
        if reader.accept("SET ROLE"):
            self._set_role(actor, lease, reader)
            return None
        if reader.accept("SHOW"):
            database = lease.connection.rows("SELECT currentDatabase()")[0][0]
            return Answers(self._state, self._privileges, actor).show(reader, database)
        if reader.accept("CHECK GRANT"):
            database = lease.connection.rows("SELECT currentDatabase()")[0][0]
            return Answers(self._state, self._privileges, actor).check_grant(reader, database)
        if request.readonly:
            raise ServerError(READONLY, f"{actor.name}: Cannot execute query in readonly mode")
        database = lease.connection.rows("SELECT currentDatabase()")[0][0]
        changes = Changes(self._state, self._privileges, actor, database, self._check_settings)
        changes.apply(line, request.query_parameters)
        self._save(changes.state)
        self._state, self._is_published = changes.state, False
        return None

    def _check_settings(self, names: Iterable[str]) -> None:
        known = {name for name, _, _ in self._catalog.settings(names)}
        for name in names:
            if name not in known:
                raise ServerError(UNKNOWN_SETTING, f"Unknown setting '{name}'")
            if name in _RESERVED:
                raise refused(f"The setting {name} of a user, role or profile")

    def _set_role(self, actor: Anyone | Member, lease: Lease, reader: Reader) -> None:
        if isinstance(actor, Anyone):
            granted: dict[str, bool] = {}
        else:
            granted = actor.user.roles
        if reader.accept("DEFAULT"):
            chosen: tuple[str, ...] | None = None
        elif reader.accept("NONE"):
            chosen = ()
        elif reader.accept("ALL EXCEPT"):
            left_out = reader.names()
            chosen = tuple(role for role in granted if role not in left_out)
        elif reader.accept("ALL"):
            chosen = tuple(granted)
        else:
            chosen = tuple(reader.names())
            for role in chosen:
                if role not in self._state.roles:
                    raise self._state.roles.missing(role)
                if role not in granted:
                    raise ServerError(SET_NON_GRANTED_ROLE, f"Role {role} should be granted to set current")
        if lease.session is not None:
            lease.session.roles = chosen

    def _save(self, state: State) -> None:
        """Write the state whole, or not at all."""
        lines = [f"{line}\n" for line in showing.dump(state, self._privileges)]
        self._file.parent.mkdir(mode=0o700, exist_ok=True)
        new = self._file.with_suffix(".new")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "wb") as file:
            file.write("".join(lines).encode("utf-8", "surrogateescape"))
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._file)

    def _publish(self) -> None:
        """Have the tables of `system` show the state: the database is in memory, and takes views in their place."""
        for name, rows in showing.tables(self._state).items():
            query = select(self._structures[name], rows).decode("utf-8", "surrogateescape")
            self._catalog.run(f"CREATE OR REPLACE VIEW system.{name} AS {query}")
        self._is_published = True


def _words(text: bytes) -> set[bytes]:
    return {token.group().upper() for token in sql.tokens_of(text) if token.lastgroup == "word"}


def _map(filters: Mapping[str, str]) -> str:
    """The value of a setting that is a map."""
    return "{" + ", ".join(f"{sql.quote(name)}: {sql.quote(text)}" for name, text in sorted(filters.items())) + "}"
