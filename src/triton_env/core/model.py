"""The frozen data that services and runtimes exchange.

A service describes itself in a `ServiceRecipe`; a runtime executes it and answers with a `Placement`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from triton_env.errors import InvalidSetting, TritonError


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
        variable: the setting of that host port, for error messages.
    """

    name: str
    number: int
    fixed: int
    variable: str


@dataclass(frozen=True, slots=True)
class Unprivileged:
    """How an image is started where nothing may run as root.

    Attributes:
        user: the number of its server's user, who then also owns what is mounted.
        environment: variables that it needs for that, besides its others.
    """

    user: int
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Additions:
    """Variables and files of a container beside those of its recipe; see `ContainerRecipe`."""

    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    files: Mapping[str, Path] = field(default_factory=dict)


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
        files: files or folders of this machine by the absolute path under which the container has copies of them.
        host_variable: the variable by which the server learns the host name that clients use, where it asks for that.
        cpu_shares: relative weight when CPU is short; 1024 is the default. A service that takes long
            to boot gets more, since it decides when all are ready.
        unprivileged: how it is started without root; None where its image cannot be.
        instead_of_root: what to do, in words, where that cannot be; empty for leaving it out.
        alone: what is different where no client of triton-env prepares the server: it makes its database or bucket by
            itself.
        unusable: why the container cannot be run, known from the settings alone; it matters only where containers are.
    """

    image: str
    image_variable: str
    alias: str
    environment: Mapping[str, str] = field(repr=False)
    command: tuple[str, ...] = field(default=(), repr=False)
    data_paths: tuple[str, ...] = ()
    storage: Storage = Storage.MEMORY
    files: Mapping[str, Path] = field(default_factory=dict)
    host_variable: str = ""
    cpu_shares: int = 1024
    unprivileged: Unprivileged | None = None
    instead_of_root: str = ""
    alone: Additions = field(default_factory=Additions)
    unusable: TritonError | None = field(default=None, compare=False)


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
class DataDirectoryTemplate:
    """How a data directory is initialised: once per version and settings, since it takes longer than a copy.

    It holds no secret: these differ in every session, and it is kept.

    Attributes:
        distribution: the Python distribution whose version distinguishes results; empty for none.
        commands: what fills {data}, an empty directory.
        build: what distinguishes the programs from others of the same path, where they are of no distribution.
    """

    distribution: str
    commands: tuple[Command, ...]
    build: str = ""


class DataCompatibility(StrEnum):
    """Which data a server can read, by the version that wrote it."""

    ITS_MAJOR = "its major version"
    NOT_NEWER = "its own and older versions"
    ITS_OWN = "its own version"


@dataclass(frozen=True, slots=True)
class ProcessRecipe:
    """How a service runs as a process of this machine, from Python distributions.

    Words of `argv` and values of `environment` may hold placeholders: {python} for the interpreter,
    {binary:PACKAGE/PATH} for a program or another file that a package brings (with `*` for what differs between
    platforms), {host} for the address to listen on, {port:NAME} for the host port of that port, {data} for the data
    directory, {sockets} for a folder for Unix sockets, {file:NAME} for the path of one of `files`. A port that none of
    them asks for is one that the service does not have as a process.

    Attributes:
        argv: the server's command line. Every user of the machine can read it, so it holds no secret.
        requires: the Python distributions that it consists of; the first has the server's version.
        extra: what brings them, besides the extra `embedded`; empty where that one does.
        environment: the server's environment variables, besides those that each server gets. They hold no secret.
        files: configuration files by name, which may hold secrets: only the server's user can read them.
        input: what the server reads from its standard input, which may hold secrets too.
        template: how the data directory is initialised; None for an empty one.
        storage: what the data directory is on.
        stop_signal: what ends it. SIGKILL, unless that would leave something behind: the data is thrown away.
        stop_timeout: seconds that it gets for that signal, before SIGKILL.
        is_confined: whether the kernel, where it can, limits it to its own files: for a server whose clients may name
            paths, and which has no limit of its own.
        lasting: the same where the data stays: with durability, and ended by a signal that has it write what it holds.
            None: as a process it keeps nothing.
        instead: what to do, in words, where the data has to stay and this keeps nothing; empty for leaving it out.
        reads: which data it can read, where that stays.
        shares_data: whether a program of a distribution and one of this machine read each other's data.
        stale: files of the data directory that a killed server leaves, and that would keep the next from starting.
        of_machine: its version and folder, in words, where it is installed on this machine and not in a distribution.
        variable: the setting that names its programs, for error messages; empty where none does.
        unusable: why it cannot be run, known from the settings alone; it matters only where processes are.
    """

    argv: tuple[str, ...]
    requires: tuple[str, ...]
    extra: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict, repr=False)
    input: str = field(default="", repr=False)
    template: DataDirectoryTemplate | None = None
    storage: Storage = Storage.MEMORY
    stop_signal: str = "SIGKILL"
    stop_timeout: float = 2.0
    is_confined: bool = False
    lasting: "ProcessRecipe | None" = None
    instead: str = ""
    reads: DataCompatibility = DataCompatibility.NOT_NEWER
    shares_data: bool = True
    stale: tuple[str, ...] = ()
    of_machine: str = ""
    variable: str = ""
    unusable: InvalidSetting | None = field(default=None, compare=False)

    def has_port(self, name: str) -> bool:
        """Whether it listens on that port."""
        return any(f"{{port:{name}}}" in word for word in (*self.argv, *self.environment.values()))


class TakesOver(StrEnum):
    """When a restore has a service hold what was loaded beside what it holds."""

    IN_TURN = "in turn"
    """When all is loaded, one service after another. It is taken back where a later one fails."""
    FOR_GOOD = "for good"
    """After all those, in one step that is never taken back: where it has happened, the restore counts."""
    IN_THE_END = "in the end"
    """Once the restore counts. Until then the service holds what it held."""


class VolumeFiles(Protocol):
    """The files of a volume, read without a server."""

    def files(self, path: str) -> Mapping[str, bytes]:
        """The regular files at a path below the volume's root, by their path there; empty where there is nothing."""

    def names(self, path: str = "") -> Iterator[str]:
        """The paths of all that is at a path below the root, read one by one; those of folders end with "/"."""


@dataclass(frozen=True, slots=True)
class CutOff:
    """What a first start left that was cut off, before anything of a user was in the volume.

    Attributes:
        files: the files, with their content, that are to be put in place so that the data can be used as it is. None of
            them: nothing can be done with the data, so it is to be recreated.
        is_final: whether a server that is at work on the data would not finish what is missing.
    """

    files: Mapping[str, bytes] = field(default_factory=dict)
    is_final: bool = False


@dataclass(frozen=True, slots=True)
class DataInspection:
    """What data says about itself, read without a server.

    Attributes:
        version: the version that wrote it.
        elsewhere: its path below the volume's root where no server would look for it; empty where it is in its place.
    """

    version: str
    elsewhere: str = ""


STAMP_FILE = "triton-env.json"
"""In a volume's root: what its data was made with. That may be the server's data directory, which leaves unknown
files alone."""


@dataclass(frozen=True, slots=True)
class DataRecipe:
    """A service's data in a named volume, and what has to agree with it before a server is started on it.

    Attributes:
        volume: the volume's name in the compose file.
        path: where it is mounted in the container.
        path_variable: the variable that leads the server there, whichever path its image has; empty where none does.
        version_command: a program of the image that prints its version without starting a server.
        compatibility: which data the server can read.
        init_values: by variable, values that only the initialisation of an empty volume takes; no secrets.
        inspect: reads from the data itself which version wrote it, and where it is; None where it says nothing.
        cut_off: finds from the data itself that its first start was cut off; None where it was not, and wherever the
            data may have been used.
        remedies: by variable that only the initialisation takes, what to do where it disagrees. {old} and {new} stand
            for the data's value and the setting's, and {lost} for what helps where the old one is not known.
        login_errors: by such a variable, a regular expression for the words with which a server turns its value down.
    """

    volume: str
    path: str
    version_command: tuple[str, ...]
    compatibility: DataCompatibility
    path_variable: str = ""
    init_values: Mapping[str, str] = field(default_factory=dict)
    inspect: "Callable[[VolumeFiles], DataInspection | None] | None" = None
    cut_off: "Callable[[VolumeFiles], CutOff | None] | None" = None
    remedies: Mapping[str, str] = field(default_factory=dict)
    login_errors: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ExternalRecipe:
    """Where an external server of a service is, as the settings say; the ports are the fixed ones.

    Attributes:
        host: of the server.
        variables: the settings that lead there and in, for error messages.
        starting: a regular expression for the words with which it refuses clients while it starts; empty for none.
    """

    host: str
    variables: tuple[str, ...]
    starting: str = ""


@dataclass(frozen=True, slots=True)
class ServiceRecipe:
    """All that a runtime needs to know to run one service.

    Attributes:
        name: the service's name in the API.
        title: its name for people.
        ports: where it listens; the first is the main one.
        timeout: seconds from its start until it has to be ready.
        container: how it runs as a container.
        process: how it runs as a process of this machine.
        external: where an external server of it is.
        secrets: strings that may not appear in messages and logs.
        data: its data where it is kept in a named volume.
        known_password: the variable of its password, where that is empty or public.
        options: the variable of options that its server gets, where there are any.
    """

    name: str
    title: str
    ports: tuple[Port, ...]
    timeout: float
    container: ContainerRecipe
    process: ProcessRecipe
    external: ExternalRecipe
    secrets: frozenset[str] = field(default=frozenset(), repr=False)
    data: DataRecipe | None = None
    known_password: str = ""
    options: str = ""


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


@dataclass(frozen=True, slots=True)
class Program:
    """How to run a program of a service's distribution, such as pg_dump, as a subprocess of this process.

    Its standard input and output are the program's own.

    Attributes:
        argv: the command line. Every user of the machine can read it, so it holds no secret.
        environment: all of its environment variables, which may hold secrets.
        engine: URL of the engine in whose container it runs; empty where it is a process of this machine alone.
        lead: how many words of `argv` lead into the container; after them comes the program's own command line.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    engine: str = ""
    lead: int = 0


Probe = Callable[[Placement], None]
"""Readiness probe: does real work through the placement and raises while that does not succeed."""
