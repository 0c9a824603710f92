"""How users log in: what is kept of passwords, and from where."""

from __future__ import annotations

import fnmatch
import hashlib
import hmac
import ipaddress
import secrets
from dataclasses import dataclass, field
from typing import Final

from triton_env.servers.clickhouse.errors import NOT_IMPLEMENTED, ServerError

_NONE: Final = ("no_password", "no_authentication")
_KEPT: Final = {
    "plaintext_password": "plaintext_password",
    "sha256_password": "sha256_hash",
    "sha256_hash": "sha256_hash",
    "double_sha1_password": "double_sha1_hash",
    "double_sha1_hash": "double_sha1_hash",
}
"""As what each kind is kept."""


@dataclass(frozen=True, slots=True)
class Authentication:
    """One way in which a user shows who it is.

    Attributes:
        kind: a word after `IDENTIFIED WITH`: no_password, no_authentication, plaintext_password, or one with a hash.
        value: the password, or its hash in lower-case hexadecimal digits.
        salt: what is appended to the password before it is hashed.
        valid_until: until when it holds, as the statement said; empty for ever.
    """

    kind: str
    value: str = field(default="", repr=False)
    salt: str = field(default="", repr=False)
    valid_until: str = ""

    @classmethod
    def of(cls, kind: str, value: str, salt: str = "", valid_until: str = "") -> Authentication:
        """What is kept of `IDENTIFIED WITH kind BY value`.

        Raises:
            ServerError: this server does not have that kind.
        """
        if kind in _NONE:
            return cls(kind, valid_until=valid_until)
        kept = _KEPT.get(kind)
        if kept is None:
            raise ServerError(
                NOT_IMPLEMENTED,
                f"IDENTIFIED WITH {kind} is not supported by this server; it has {', '.join([*_NONE, *_KEPT])}",
            )
        if kind == "sha256_password":
            salt = secrets.token_hex(32).upper()
        if kind != kept:
            value = _HASHES[kept](value, salt)
        return cls(kept, value if kind == "plaintext_password" else value.lower(), salt, valid_until)

    @property
    def shown_kind(self) -> str:
        """The kind as `SHOW CREATE USER` and `system.users` have it."""
        return self.kind.replace("_hash", "_password")

    def accepts(self, password: str) -> bool:
        """Whether it is the password."""
        if self.kind in _NONE:
            return self.kind == "no_password"
        given = _HASHES[self.kind](password, self.salt) if self.kind in _HASHES else password
        return hmac.compare_digest(_bytes(given), _bytes(self.value))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _sha256(password: str, salt: str) -> str:
    return hashlib.sha256(_bytes(password + salt)).hexdigest()


def _double_sha1(password: str, _salt: str) -> str:
    # The form in which the protocol of MySQL has passwords.
    once = hashlib.sha1(_bytes(password), usedforsecurity=False).digest()
    return hashlib.sha1(once, usedforsecurity=False).hexdigest()


_HASHES: Final = {"sha256_hash": _sha256, "double_sha1_hash": _double_sha1}


def is_from(kind: str, pattern: str, address: str | None) -> bool:
    """Whether an address is one of those of a HOST clause."""
    try:
        place = ipaddress.ip_address(address or "")
        if isinstance(place, ipaddress.IPv6Address) and place.ipv4_mapped is not None:
            place = place.ipv4_mapped
        if kind == "IP":
            return place in ipaddress.ip_network(pattern, strict=False)
    except ValueError:
        return kind == "ANY"
    if kind == "LIKE":
        return fnmatch.fnmatchcase(str(place), pattern.replace("%", "*").replace("_", "?"))
    return kind == "ANY" or (kind == "LOCAL" and place.is_loopback)
