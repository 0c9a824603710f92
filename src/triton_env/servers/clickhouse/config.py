"""The server's configuration, from its command line and its file of users."""

from __future__ import annotations

import argparse
import ipaddress
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_EVERYWHERE: tuple[Network, ...] = (
    ipaddress.ip_network("0.0.0.0/0"),
    ipaddress.ip_network("::/0"),
)
_STANDARD_INPUT = Path("-")
_ELEMENT = re.compile("[A-Za-z_][A-Za-z0-9_-]*")
_OF_FILES = ("users.", "quotas.")
DEFAULT_PROFILE = "profiles.default."
_USER_KEYS = frozenset({"name", "password", "networks"})


class ConfigError(Exception):
    """The command line or the file of users cannot be used as it is."""


@dataclass(frozen=True, slots=True)
class User:
    """Who may log in, and from where."""

    name: str
    password: str = field(repr=False)
    networks: tuple[Network, ...] = _EVERYWHERE


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Everything that one server process is started with.

    Sizes are in bytes, times in seconds. The session limits are ClickHouse's own defaults
    (`default_session_timeout`, `max_session_timeout`), and so is the number of queries at a time
    (`max_concurrent_queries`).
    """

    host: str
    port: int
    path: Path
    users: tuple[User, ...]
    native_port: int | None = None
    database: str = "default"
    workers: int = 1000
    idle_connections: int = 32
    shutdown_grace: int = 5
    session_timeout: int = 60
    max_session_timeout: int = 3600
    response_buffer: int = 1 << 20
    response_patience: float = 1.0
    max_query_bytes: int = 64 << 20
    options: tuple[tuple[str, str], ...] = ()


def load_users(path: Path) -> tuple[User, ...]:
    """Read a JSON list of users: ``[{"name": ..., "password": ..., "networks": ["127.0.0.1/32"]}]``.

    `networks` may be left out: the user may then log in from everywhere.

    Raises:
        ConfigError: the file cannot be read, or says something that is not understood.
    """
    try:
        entries = json.loads(sys.stdin.read() if path == _STANDARD_INPUT else path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the users file {path}: {error}") from error
    if not isinstance(entries, list):
        raise ConfigError(f"the users file {path} must hold a JSON list")
    users = tuple(_user(path, entry) for entry in entries)
    names = [user.name for user in users]
    if len(set(names)) != len(names):
        raise ConfigError(f"the users file {path} names a user twice")
    return users


def _user(path: Path, entry: Any) -> User:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str) or not entry["name"]:
        raise ConfigError(f"the users file {path} has an entry without a name")
    name, password = entry["name"], entry.get("password", "")
    if unknown := sorted(set(entry) - _USER_KEYS):
        raise ConfigError(f"the users file {path} has unknown keys for {name!r}: {', '.join(unknown)}")
    if not isinstance(password, str):
        raise ConfigError(f"the users file {path} has a password for {name!r} that is not a string")
    if "networks" not in entry:
        return User(name, password)
    try:
        networks = tuple(ipaddress.ip_network(network, strict=False) for network in entry["networks"])
    except (TypeError, ValueError) as error:
        raise ConfigError(f"the users file {path} has a bad network for {name!r}: {error}") from error
    return User(name, password, networks)


def parse_arguments(arguments: Sequence[str] | None = None) -> ServerConfig:
    """Turn the command line into a configuration.

    Raises:
        ConfigError: the users file or the data path cannot be used.
        SystemExit: the command line itself is wrong, or asks for help.
    """
    parser = argparse.ArgumentParser(
        prog="python -m triton_env.servers.clickhouse",
        description="A ClickHouse-compatible server on the chdb engine.",
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on (default: %(default)s)",
    )
    parser.add_argument(
        "--port",
        type=int,
        default=8123,
        help="port to listen on (default: %(default)s)",
    )
    parser.add_argument(
        "--native-port",
        type=int,
        help="port of the native protocol, which is not spoken without one",
    )
    parser.add_argument("--path", type=Path, required=True, help="directory that holds the data")
    parser.add_argument(
        "--users-file",
        type=Path,
        help="JSON list of users, `-` for standard input; without it only `default` on this machine",
    )
    parser.add_argument(
        "--database",
        default="default",
        help="database made at start (default: %(default)s, which is always there)",
    )
    parser.add_argument(
        "--shutdown-grace",
        type=float,
        default=5.0,
        help="seconds that running queries get at the end (default: 5)",
    )
    parser.add_argument(
        "--option",
        type=_option,
        action="append",
        default=[],
        metavar="PATH=VALUE",
        help="an element of the server's configuration, or a setting of its default profile (profiles.default.NAME)",
    )
    options = parser.parse_args(arguments)
    if "?" in str(options.path):
        raise ConfigError(f"the data path {options.path} must not hold a question mark")
    if options.users_file is None:
        local = (ipaddress.ip_network("127.0.0.1/32"), ipaddress.ip_network("::1/128"))
        users: tuple[User, ...] = (User("default", "", local),)
    else:
        users = load_users(options.users_file)
    return ServerConfig(
        host=options.host,
        port=options.port,
        native_port=options.native_port,
        path=options.path.absolute(),
        users=users,
        database=options.database,
        shutdown_grace=options.shutdown_grace,
        options=tuple(options.option),
    )


def _option(text: str) -> tuple[str, str]:
    path, equals, value = text.partition("=")
    if not equals or not all(_ELEMENT.fullmatch(name) for name in path.split(".")):
        raise argparse.ArgumentTypeError(f"{text!r} is not the path of an element and its value")
    if path.startswith(_OF_FILES) or (path.startswith("profiles.") and not path.startswith(DEFAULT_PROFILE)):
        raise argparse.ArgumentTypeError(f"{path} cannot be set here, only settings of {DEFAULT_PROFILE}*")
    return path, value
