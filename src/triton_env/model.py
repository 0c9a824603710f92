"""The frozen data that services and runtimes exchange.

A service describes itself in a `ServiceRecipe`; a runtime executes it and answers with a `Placement`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path


class Storage(StrEnum):
    """Where a session's data lives."""

    MEMORY = "memory"
    """tmpfs, with the service's durability switched off."""
    DISK = "disk"
    """A volume of the container's own, with the service's own durability."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address that a client connects to."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Port:
    """A port on which a server listens.

    Attributes:
        name: the protocol spoken there, by which endpoints are looked up ("http", "native", ...).
        number: the port inside the container and on the shared network.
        fixed: the host port to use where fixed ports were asked for.
    """

    name: str
    number: int
    fixed: int


@dataclass(frozen=True, slots=True)
class ContainerRecipe:
    """How a service runs as a container.

    Attributes:
        image: the image reference.
        image_variable: the variable that names the image, for error messages.
        alias: the service's name on the shared network.
        environment: the container's environment variables (may hold secrets).
        command: arguments after the image; empty for the image's own.
        data_paths: paths to keep on `storage`, besides those that the image declares as volumes.
        storage: what is mounted on these paths.
        cpu_shares: relative weight when CPU is short; 1024 is everybody's default. A service that takes long
            to boot gets more, since it decides when all are ready.
    """

    image: str
    image_variable: str
    alias: str
    environment: Mapping[str, str] = field(repr=False)
    command: tuple[str, ...] = field(default=(), repr=False)
    data_paths: tuple[str, ...] = ()
    storage: Storage = Storage.MEMORY
    cpu_shares: int = 1024


@dataclass(frozen=True, slots=True)
class Command:
    """A program that runs to its end.

    Attributes:
        argv: the program and its arguments, with the placeholders of `ProcessRecipe`.
        input: what it reads from standard input.
    """

    argv: tuple[str, ...]
    input: str = ""


@dataclass(frozen=True, slots=True)
class DataTemplate:
    """How a data directory is initialised: once per version and settings, since it takes longer than a copy.

    It holds no secret: these differ in every session, and it is kept.

    Attributes:
        distribution: the Python distribution whose version tells one result from another.
        commands: what fills {data}, an empty directory.
    """

    distribution: str
    commands: tuple[Command, ...]


@dataclass(frozen=True, slots=True)
class ProcessRecipe:
    """How a service runs as a process of this machine, from Python distributions.

    Words of `argv` may hold placeholders: {python} for the interpreter, {binary:PACKAGE/PATH} for a program that a
    package brings (with `*` for what differs between platforms), {host} for the address to listen on, {port:NAME} for
    the host port of that port, {data} for the data directory, {sockets} for a folder for Unix sockets, {file:NAME} for
    the path of one of `files`. A port that no word asks for is one that the service does not have as a process.

    Attributes:
        argv: the server's command line. Every user of the machine can read it, so it holds no secret.
        requires: the Python distributions that it consists of.
        files: configuration files by name, which may hold secrets: only the server's user can read them.
        template: how the data directory is initialised; None for an empty one.
        storage: what the data directory is on.
        stop_signal: what ends it. SIGKILL, unless that would leave something behind: the data is thrown away.
    """

    argv: tuple[str, ...]
    requires: tuple[str, ...]
    files: Mapping[str, str] = field(default_factory=dict, repr=False)
    template: DataTemplate | None = None
    storage: Storage = Storage.MEMORY
    stop_signal: str = "SIGKILL"


@dataclass(frozen=True, slots=True)
class ServiceRecipe:
    """All that a runtime needs to know to run one service.

    Attributes:
        name: the service's name in the API ("postgres").
        title: its name for people ("PostgreSQL").
        ports: where it listens; the first is the main one.
        timeout: seconds from its start until it has to be ready.
        container: how it runs as a container.
        process: how it runs as a process of this machine.
        secrets: strings that may not appear in messages and logs.
    """

    name: str
    title: str
    ports: tuple[Port, ...]
    timeout: float
    container: ContainerRecipe
    process: ProcessRecipe
    secrets: frozenset[str] = field(default=frozenset(), repr=False)


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a service answers.

    Attributes:
        endpoints: by port name, as reached from this process.
        internal: by port name, as reached by containers on the shared network; None where there is none.
        sockets: the folder of the server's Unix sockets, which lets this process in without a password; None where
            there is none. What it is for: `Service.prepare`.
    """

    endpoints: Mapping[str, Endpoint]
    internal: Mapping[str, Endpoint] | None = None
    sockets: Path | None = None


Probe = Callable[[Placement], None]
"""Readiness probe: does real work through the placement and raises while that does not succeed."""
