"""Who sent a request: the three ways to say it over HTTP, and whether it is true."""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .accounts import Access, Account
from .config import User
from .errors import AUTHENTICATION_FAILED, ServerError


@dataclass(frozen=True, slots=True)
class Credentials:
    """A name and a password, as a request claims them."""

    user: str
    password: str = field(repr=False)


def credentials_of(headers: Mapping[str, str], parameters: Mapping[str, str]) -> Credentials:
    """Find the credentials of a request; ClickHouse refuses a request that mixes two ways.

    Raises:
        ServerError: two ways at once, or an Authorization header that cannot be read.
    """
    header_user, header_key = (
        headers.get("x-clickhouse-user", ""),
        headers.get("x-clickhouse-key", ""),
    )
    authorization = headers.get("authorization", "")
    in_parameters = "user" in parameters or "password" in parameters
    ways = [bool(header_user or header_key), bool(authorization), in_parameters]
    if sum(ways) > 1:
        raise ServerError(
            AUTHENTICATION_FAILED,
            "Invalid authentication: it is not allowed to use several of X-ClickHouse headers, "
            "the Authorization header and authentication via parameters at once",
        )
    if ways[0]:
        return Credentials(header_user or "default", header_key)
    if ways[1]:
        return _basic(authorization)
    return Credentials(parameters.get("user") or "default", parameters.get("password", ""))


def _basic(authorization: str) -> Credentials:
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "basic":
        raise ServerError(
            AUTHENTICATION_FAILED,
            "Invalid authentication: only the Basic HTTP scheme is supported",
        )
    try:
        decoded = base64.b64decode(token.strip(), validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise ServerError(
            AUTHENTICATION_FAILED,
            "Invalid authentication: the Authorization header is broken",
        ) from error
    user, _, password = decoded.partition(":")
    return Credentials(user or "default", password)


class Authenticator:
    """Knows the users of one server."""

    def __init__(self, users: Sequence[User], access: Access | None = None) -> None:
        """`users` are those of the configuration; `access` has those that SQL makes."""
        self._users = {user.name: user for user in users}
        self._access = access

    def blocks(self, credentials: Credentials) -> bool:
        """Whether `check` asks what SQL made."""
        return credentials.user not in self._users and self._access is not None and self._access.is_used

    def check(self, credentials: Credentials, address: str | None) -> Account:
        """Accept `credentials` sent from the IP `address`, or raise; may block.

        The refusal is the same for an unknown name, a wrong password and a wrong place, as on a real
        server: it must not reveal which names exist.

        Raises:
            ServerError: AUTHENTICATION_FAILED.
        """
        user = self._users.get(credentials.user)
        expected = "" if user is None else user.password
        same = hmac.compare_digest(expected.encode(), credentials.password.encode("utf-8", "surrogateescape"))
        if user is not None and same and _allowed(user, address):
            return Account(credentials.user, self._access)
        access = self._access
        is_known = user is None and access is not None and access.is_used
        if (
            access is None
            or not is_known
            or not access.control().login(credentials.user, credentials.password, address)
        ):
            raise ServerError(
                AUTHENTICATION_FAILED,
                f"{credentials.user}: Authentication failed: password is incorrect, or there is no user with such name",
            )
        return Account(credentials.user, access, is_limited=True)


def _allowed(user: User, address: str | None) -> bool:
    try:
        place = ipaddress.ip_address(address or "")
    except ValueError:
        return False
    if isinstance(place, ipaddress.IPv6Address) and place.ipv4_mapped is not None:
        place = place.ipv4_mapped
    return any(place in network for network in user.networks)
