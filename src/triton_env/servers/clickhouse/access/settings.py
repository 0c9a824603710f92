"""The settings of a user, and what may be made of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from triton_env.servers.clickhouse.errors import READONLY, SETTING_CONSTRAINT_VIOLATION, ServerError

from .entities import Setting


class Limits:
    """What the profiles, roles and own settings of a user amount to.

    Attributes:
        values: the settings with which its connections begin, without `readonly`.
        readonly: the value of that, empty where it has none.
    """

    def __init__(self, user: str, settings: Iterable[Setting], reserved: Collection[str]) -> None:
        """Of `settings`, later ones win. Those that are `reserved` cannot be changed."""
        self._user, self._reserved = user, reserved
        self.values: dict[str, str] = {}
        self._minimum: dict[str, str] = {}
        self._maximum: dict[str, str] = {}
        self._writability: dict[str, str] = {}
        for each in settings:
            for known, new in (
                (self.values, each.value), (self._minimum, each.minimum), (self._maximum, each.maximum),
                (self._writability, each.writability or None),
            ):  # fmt: skip
                if new is not None:
                    known[each.name] = new
        self.readonly = self.values.pop("readonly", "")
        self.readonly = "" if self.readonly == "0" else self.readonly
        if self.values.get("allow_ddl") == "0":
            self._writability["allow_ddl"] = "CONST"

    def check(self, name: str, value: str | None) -> None:
        """Refuse a change of a setting to `value`; None: to something that is not known here.

        Raises:
            ServerError: the user may not do it.
        """
        if name in self._reserved:
            raise ServerError(SETTING_CONSTRAINT_VIOLATION, f"Setting {name} should not be changed")
        if value is not None and value == (self.readonly or "0" if name == "readonly" else self.values.get(name)):
            return
        writability = self._writability.get(name, "")
        if name == "readonly" and self.readonly:
            raise ServerError(READONLY, f"Cannot modify '{name}' setting in readonly mode")
        if self.readonly == "1" and writability != "CHANGEABLE_IN_READONLY":
            raise ServerError(READONLY, f"Cannot modify '{name}' setting in readonly mode")
        if writability == "CONST":
            raise ServerError(SETTING_CONSTRAINT_VIOLATION, f"Setting {name} should not be changed")
        for limits, word, sign in ((self._minimum, "less", 1), (self._maximum, "greater", -1)):
            if name in limits and (value is None or _number(value) * sign < _number(limits[name]) * sign):
                raise ServerError(
                    SETTING_CONSTRAINT_VIOLATION, f"Setting {name} shouldn't be {word} than {limits[name]}"
                )


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
