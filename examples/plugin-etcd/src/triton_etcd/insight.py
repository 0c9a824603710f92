"""What etcd reports about itself: its keys and how large it is."""

from base64 import b64decode, b64encode
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any

from triton_env.errors import UsageError
from triton_env.services.base_insight import (
    PREVIEW,
    ROWS,
    Column,
    Insight,
    Metric,
    Panel,
    Row,
    Table,
    cut,
    mark_of,
    raw,
    readable,
    table_of,
)
from triton_etcd.client import EtcdClient, EtcdError
from triton_etcd.service import Etcd


class EtcdInsight(Insight[Etcd]):
    """Counts keys, and shows them with their values."""

    metrics = (
        Metric("keys", "Keys", "Keys of the environment and of its namespaces."),
        Metric("database_size_bytes", "Size", "Size of the database's file.", unit="bytes"),
    )
    panels = (
        Panel("keys", "Keys", "No key begins like this.", "prefix"),
        Panel("value", "Value", "The value is empty.", "key", needs_argument=True),
    )

    _kept: EtcdClient | None = None

    def _sample(self) -> Mapping[str, float]:
        counted = self._ask("kv/range", {**_from(b""), "count_only": True})
        status = self._ask("maintenance/status", {})
        return {"keys": int(counted.get("count", 0)), "database_size_bytes": int(status["dbSize"])}

    def _table(self, panel: str, argument: str) -> Table:
        if panel == "keys":
            question = {**_from(raw(argument)), "keys_only": True, "limit": ROWS + 1}
            keys = [b64decode(each["key"]) for each in self._ask("kv/range", question).get("kvs", [])]
            rows = [
                Row(
                    (cut(readable(key)),),
                    "value",
                    readable(key),
                    mark=mark_of(key.decode(errors="replace").split("/")[0]),
                )
                for key in keys
            ]
            return table_of((Column("key"),), rows)
        found = self._ask("kv/range", {"key": b64encode(raw(argument)).decode()}).get("kvs", [])
        if not found:
            raise UsageError(f"The key {cut(argument, 80)!r} does not exist.", hint="see the panel 'keys'")
        value = b64decode(found[0].get("value", ""))
        text = value[:PREVIEW].decode(errors="backslashreplace")
        return table_of(
            (Column("value", "code"),), (Row((text,)),), f"Bytes: {len(value)}.", is_cut=len(value) > PREVIEW
        )

    def _errors(self) -> tuple[type[Exception], ...]:
        return (EtcdError, HTTPException, OSError)

    def _ask(self, method: str, question: Mapping[str, Any]) -> dict[str, Any]:
        if self._kept is None:
            self._kept = self._service.client(timeout=self._timeout)
        return self._kept.ask(method, question)


def _from(prefix: bytes) -> dict[str, str]:
    """All keys that begin with that; https://etcd.io/docs/v3.5/learning/api/#range."""
    end = prefix.rstrip(b"\xff")
    end = end[:-1] + bytes([end[-1] + 1]) if end else b"\0"
    return {"key": b64encode(prefix or b"\0").decode(), "range_end": b64encode(end).decode()}
