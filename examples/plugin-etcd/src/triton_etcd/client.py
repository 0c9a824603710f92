"""A client of etcd's JSON gateway, which needs nothing but Python: https://etcd.io/docs/v3.5/dev-guide/api_grpc_gateway/"""

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from http.client import HTTPConnection
from types import TracebackType
from typing import Any, Self

_OPERATIONS = 100
"""How many a transaction has at most; servers take 128 unless they are configured otherwise."""


class EtcdError(Exception):
    """The server refused a request."""


class EtcdClient:
    """A connection to an etcd. It is for one thread.

    Args:
        host: of the server.
        port: for clients.
        prefix: of all keys, which none of its methods takes or gives.
        timeout: seconds for one answer.
    """

    def __init__(self, host: str, port: int, *, prefix: str = "", timeout: float = 10) -> None:
        self._connection = HTTPConnection(host, port, timeout=timeout)
        self._prefix = prefix.encode()

    def put(self, key: str | bytes, value: str | bytes) -> None:
        """Set the value of a key."""
        self.fill({_content(key): _content(value)})

    def get(self, key: str | bytes) -> bytes | None:
        """The value of a key; None where it has none."""
        found = self.ask("kv/range", {"key": self._word(key)}).get("kvs", [])
        return _bytes(found[0].get("value", "")) if found else None

    def delete(self, key: str | bytes) -> bool:
        """Remove a key; whether it was there."""
        return bool(self.ask("kv/deleterange", {"key": self._word(key)}).get("deleted"))

    def items(self) -> dict[bytes, bytes]:
        """All keys and their values."""
        kvs = self.ask("kv/range", self._all()).get("kvs", [])
        start = len(self._prefix)
        return {_bytes(each["key"])[start:]: _bytes(each.get("value", "")) for each in kvs}

    def fill(self, items: Mapping[bytes, bytes]) -> None:
        """Set many: as one transaction, where a server takes so many at once."""
        operations = [{"requestPut": {"key": self._word(key), "value": _word(value)}} for key, value in items.items()]
        for start in range(0, len(operations), _OPERATIONS):
            self.ask("kv/txn", {"success": operations[start : start + _OPERATIONS]})

    def clear(self) -> None:
        """Remove all keys."""
        self.ask("kv/deleterange", self._all())

    def version(self) -> str:
        """The server's version."""
        return str(self._answer("GET", "/version", None)["etcdserver"])

    def ask(self, method: str, question: Mapping[str, Any]) -> dict[str, Any]:
        """Call a method of the API, such as `kv/range`.

        Raises:
            EtcdError: the server refused.
            OSError: it does not answer.
        """
        return self._answer("POST", f"/v3/{method}", json.dumps(question))

    def close(self) -> None:
        """Close the connection. May be called again."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _answer(self, method: str, path: str, body: str | None) -> dict[str, Any]:
        try:
            self._connection.request(method, path, body, {"Content-Type": "application/json"})
            answer = self._connection.getresponse()
            text = answer.read()
        except BaseException:
            self._connection.close()  # an answer may be on its way; the next request connects again
            raise
        if answer.status != 200:
            raise EtcdError(f"{answer.status} {answer.reason}: {text.decode(errors='replace').strip()}")
        content: dict[str, Any] = json.loads(text)
        return content

    def _all(self) -> dict[str, str]:
        if not self._prefix:
            return {"key": _word(b"\0"), "range_end": _word(b"\0")}
        return {"key": _word(self._prefix), "range_end": _word(self._prefix[:-1] + bytes([self._prefix[-1] + 1]))}

    def _word(self, key: str | bytes) -> str:
        return _word(self._prefix + _content(key))


def _content(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def _word(content: bytes) -> str:
    return b64encode(content).decode()


def _bytes(word: str) -> bytes:
    return b64decode(word)
