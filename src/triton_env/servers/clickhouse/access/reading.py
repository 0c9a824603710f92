"""What a statement reads, from its syntax tree as `parseQueryToJSON` writes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from triton_env.servers.clickhouse.errors import UNKNOWN_QUERY_PARAMETER, ServerError

Parts = tuple[str, ...]
"""A name with its database, or without."""

HARMLESS: Final = frozenset(
    {
        "numbers", "numbers_mt", "zeros", "zeros_mt", "null", "values", "sqlstandardvalues", "generaterandom",
        "generateseries", "generate_series", "primes", "format", "input", "view", "viewifpermitted", "fuzzjson",
    }
)  # fmt: skip
"""Table functions that give nothing of tables or of other servers, apart from queries in their arguments."""
_OF_PARTS: Final = frozenset({"mergetreeindex", "mergetreeprojection", "mergetreetextindex"})
_OF_TABLE: Final = _OF_PARTS | {"loop"}
_IN: Final = "in"
_DICTIONARY: Final = ("dictget", "dicthas", "dictisin")
_TABLE_OF_FUNCTION: Final = frozenset({"joinget", "joingetornull", "hascolumnintable"})


@dataclass(slots=True)
class Reading:
    """What was found.

    Attributes:
        parameters: the values of `{name:Type}`.
        source_of: gives the privilege for a table function that reads from elsewhere, empty for others.
        tables: what is read as a table; nothing of that name may be there.
        dictionaries: what is read as a dictionary; None for one that only the execution knows.
        functions: the names of all functions.
        privileges: what else is needed, everywhere.
        merged: databases whose tables `merge` reads; None for one that only the execution knows.
        is_unfiltered: whether a table function reads the parts of a table, which row policies do not filter.
        settings: names and values of settings that are changed; None for a default or what is not a plain value.
    """

    parameters: Mapping[str, str]
    source_of: Callable[[str], str]
    tables: set[Parts] = field(default_factory=set)
    dictionaries: set[Parts | None] = field(default_factory=set)
    functions: set[str] = field(default_factory=set)
    privileges: set[str] = field(default_factory=set)
    merged: set[str | None] = field(default_factory=set)
    is_unfiltered: bool = False
    settings: list[tuple[str, str | None]] = field(default_factory=list)

    def add(self, node: Any, hidden: frozenset[str] = frozenset()) -> None:
        """Add what is below `node`; `hidden` are the names that WITH gives to subqueries there."""
        if isinstance(node, list):
            for each in node:
                self.add(each, hidden)
        elif isinstance(node, dict):
            kind = node.get("type")
            if kind == "Literal":  # lists of values may be long
                return
            if kind == "SelectQuery":
                hidden = self._with(node, hidden)
                node = {key: value for key, value in node.items() if key != "with"}
            elif kind == "TableIdentifier":
                self._table(self.parts(node), hidden)
            elif kind == "SetQuery":
                self._settings(node)
            elif kind == "Function":
                self._function(node, hidden)
            elif kind == "TableExpression" and "table_function" in node:
                self.add_table_function(node["table_function"], hidden)
                return
            for value in node.values():
                if isinstance(value, (dict, list)):
                    self.add(value, hidden)

    def _with(self, node: Mapping[str, Any], hidden: frozenset[str]) -> frozenset[str]:
        for element in node.get("with", {}).get("children", ()):
            if element.get("type") == "WithElement":
                own = frozenset({element["name"]})
                self.add(element.get("subquery"), hidden | own if node.get("recursive_with") else hidden)
                hidden |= own
            else:
                self.add(element, hidden)
        return hidden

    def _table(self, parts: Parts, hidden: frozenset[str]) -> None:
        if len(parts) > 1 or parts[0] not in hidden:
            self.tables.add(parts)

    def parts(self, node: Mapping[str, Any]) -> Parts:
        """The parts of an identifier, with parameters replaced by their values."""
        values = [self._parameter(child.get("name", "")) for child in node.get("children", ())]
        parts = node.get("name_parts") or [node.get("name", "")]
        return tuple(part or (values.pop(0) if values else "") for part in parts)

    def _parameter(self, name: str) -> str:
        if name not in self.parameters:
            raise ServerError(UNKNOWN_QUERY_PARAMETER, f"Substitution `{name}` is not set")
        return self.parameters[name]

    def _settings(self, node: Mapping[str, Any]) -> None:
        self.settings += [(name, None) for name in node.get("default_settings", ())]
        for change in node.get("changes", ()):
            value = change.get("value")
            plain = value.get("value") if isinstance(value, dict) else None
            text = _text(plain) if isinstance(plain, (str, int, float)) else None
            self.settings.append((change.get("name", ""), text))
        known = {"type", "is_standalone", "default_settings", "changes"}
        self.settings += [(name, None) for name in sorted(node.keys() - known) if node[name]]

    def _function(self, node: Mapping[str, Any], hidden: frozenset[str]) -> None:
        name = node.get("name", "")
        lower = name.lower()
        self.functions.add(name)
        arguments = node.get("arguments", {}).get("children", [])
        if _IN in lower and lower.removeprefix("global").removeprefix("not").removeprefix("null").startswith("in"):
            # Whether it is a table, only its being there shows.
            for argument in arguments[1:2]:
                if argument.get("type") == "Identifier":
                    self._table(self.parts(argument), hidden)
        elif lower.startswith(_DICTIONARY):
            self.dictionaries.add(self._named(arguments[:1]))
        elif lower in _TABLE_OF_FUNCTION:
            named = self._named(arguments[:2] if lower.startswith("has") else arguments[:1])
            if named is None:
                self.merged.add(None)
            else:
                self.tables.add(named)
        elif lower == "file":
            self.privileges.add("FILE")

    def _named(self, arguments: list[Mapping[str, Any]]) -> Parts | None:
        """The table that literals name, or one identifier; None where the name is something else."""
        literals = [_literal(argument) for argument in arguments]
        if literals and all(literal is not None for literal in literals):
            return tuple(
                part for literal in literals if literal for part in literal.split(".", 1 if len(literals) == 1 else 0)
            )
        return None

    def add_table_function(self, node: Mapping[str, Any], hidden: frozenset[str] = frozenset()) -> None:
        """Add what a table function reads."""
        name = node.get("name", "")
        lower = name.lower()
        arguments = node.get("arguments", {}).get("children", [])
        source = self.source_of(name)
        if lower == "merge":
            first = _literal(arguments[0]) if len(arguments) > 1 else ""
            self.merged.add(first)
        elif lower == "dictionary":
            self.dictionaries.add(self._named(arguments[:1]))
            self.privileges.add("CREATE TEMPORARY TABLE")
        elif lower in _OF_TABLE:
            self._of_table(arguments)
            self.is_unfiltered |= lower in _OF_PARTS
        elif source:
            self.privileges |= {source, "CREATE TEMPORARY TABLE"} | ({"REMOTE"} if source == "CLUSTER" else set())
            self._of_table(arguments[1:])
        elif lower not in HARMLESS:
            # A view with parameters is called like a function.
            self.tables.add(tuple(name.split(".", 1)))
            self.privileges.add(f"?{name}")
        self.add(node.get("arguments"), hidden)
        self.add({key: value for key, value in node.items() if key not in ("arguments", "type", "name")}, hidden)

    def _of_table(self, arguments: list[Mapping[str, Any]]) -> None:
        if arguments and arguments[0].get("type") == "Identifier" and len(self.parts(arguments[0])) > 1:
            self.tables.add(self.parts(arguments[0]))
            return
        names = [self.parts(each)[0] if each.get("type") == "Identifier" else _literal(each) for each in arguments[:2]]
        if len(names) == 1 and names[0]:
            self.tables.add((names[0],))
        elif len(names) == 2 and names[0] and names[1]:
            self.tables.add((names[0], names[1]))
        elif names:
            self.merged.add(None)


def _literal(node: Mapping[str, Any]) -> str | None:
    """The string that a node is, None for anything else."""
    value = node.get("value")
    plain = value.get("value") if node.get("type") == "Literal" and isinstance(value, dict) else None
    return plain if isinstance(plain, str) else None


def _text(value: str | float) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)
