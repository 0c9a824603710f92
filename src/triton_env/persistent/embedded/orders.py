"""What a supervisor is asked for, and what it notes of the servers that it runs."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

from triton_env.core.codec import to_data
from triton_env.core.model import ContainerRecipe, ExternalRecipe, ProcessRecipe, ServiceRecipe
from triton_env.runtimes.embedded import packages

PROTOCOL = 2
"""Goes up when a supervisor of another version could not do what it is asked for."""


@dataclass(frozen=True, slots=True)
class Order:
    """A server that is to run.

    Attributes:
        service: its name.
        title: its name for people.
        process: how it runs; of a form whose data stays.
        host: the address on which it listens.
        ports: its ports by their names.
        timeout: seconds within which its data directory has to be made.
        given: the names and passwords that it gets, by setting.
        made_of: the program and its version, for people.
        version: of the program.
        facts: what only the initialisation of its data takes; see `DataRecipe.init_values`.
        checkout: the project's folder.
    """

    service: str
    title: str
    process: ProcessRecipe
    host: str
    ports: Mapping[str, int]
    timeout: float
    given: Mapping[str, str] = field(repr=False)
    made_of: str
    version: str
    facts: Mapping[str, str]
    checkout: str

    @property
    def digest(self) -> str:
        """The same for orders of the same server."""
        text = json.dumps(to_data(replace(self, checkout="", timeout=0.0)), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def recipe(self) -> ServiceRecipe:
        """The recipe, as far as it says how the process runs."""
        return ServiceRecipe(
            name=self.service,
            title=self.title,
            ports=(),
            timeout=self.timeout,
            container=ContainerRecipe("", "", "", {}),
            process=self.process,
            external=ExternalRecipe(self.host, ()),
            secrets=frozenset(filter(None, self.given.values())),
        )


@dataclass(frozen=True, slots=True)
class Noted:
    """A server as its supervisor knows it.

    Attributes:
        pid: its process, also where that has ended.
        started: when that was started, in seconds since the epoch.
        ended: when it has ended; None while it runs.
        exit_code: negative for a signal; None while it runs.
        restarts: how often it was started again after it had ended by itself.
        again: when it will be started again; None while it runs.
        run: a number that no other process of this supervisor has.
        order: the digest of the order.
    """

    title: str
    pid: int
    started: float
    ended: float | None
    exit_code: int | None
    restarts: int
    again: float | None
    run: int
    host: str
    ports: Mapping[str, int]
    given: Mapping[str, str] = field(repr=False)
    made_of: str
    order: str


@dataclass(frozen=True, slots=True)
class Noteds:
    """What a supervisor notes of itself and its servers.

    Attributes:
        pid: of the supervisor.
        started: when it was started, in seconds since the epoch.
        protocol: the orders that it understands.
        checkout: the project's folder.
        services: its servers by name.
    """

    pid: int
    started: float
    protocol: int
    checkout: str
    services: Mapping[str, Noted]

    FORMAT: ClassVar[int] = 1


def version_of(process: ProcessRecipe) -> str:
    """The version of a program that would run, which no server is started for; empty where it is not known."""
    if process.of_machine:
        return process.of_machine
    return packages.version(process.requires[0]) if process.requires else ""


def made_of(process: ProcessRecipe) -> str:
    """The program and its version, for people."""
    return process.of_machine or " ".join((*process.requires[:1], version_of(process)))
