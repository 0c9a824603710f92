"""The connection data of a running environment, for people and for programs."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from triton_env.environment import TritonEnvironment
from triton_env.services import Service


def as_data(environment: TritonEnvironment, versions: Mapping[str, str]) -> dict[str, Any]:
    """What `serve --json` prints: plain values, with the credentials that are needed to connect."""
    return {
        "id": environment.id,
        "runtime": environment.runtime,
        "services": {name: _service(environment.service(name), versions) for name in environment.services},
        "environ": environment.environ(),
    }


def _service(service: Service, versions: Mapping[str, str]) -> dict[str, Any]:
    return {
        "host": service.host,
        "port": service.port,
        "ports": {name: endpoint.port for name, endpoint in service.placement.endpoints.items()},
        "url": service.url,
        "internal_url": service.internal_url,
        "version": versions.get(service.name) or None,
    }


def print_table(services: Sequence[Service], versions: Mapping[str, str]) -> None:
    """Print the connection table on standard output.

    URLs carry their credentials and have no line break in them, so that what is copied from a terminal is whole. Where
    it is too narrow for three columns, each URL gets a line of its own.
    """
    from rich.console import Console
    from rich.text import Text

    console = Console(file=sys.stdout, highlight=False)
    titles = max(len(service.title) for service in services) + 3
    numbers = max(len(version) for version in versions.values()) + 3
    lines = {service.name: [service.url, *_more(service)] for service in services}
    needed = titles + numbers + max(len(line) for several in lines.values() for line in several)
    stacked = console.is_terminal and needed > console.width
    indent = 2 if stacked else titles + numbers
    for service in services:
        first, *others = lines[service.name]
        version = versions.get(service.name, "")
        head = Text.assemble(
            (f"{service.title:<{titles}}", "bold"),
            (f"{version:<{numbers}}", "green"),
            f"\n{'':{indent}}" if stacked else "",
            (first, "bright_blue"),
        )
        console.print(head, soft_wrap=True)
        for line in others:
            console.print(Text(f"{'':{indent}}{line}", style="dim"), soft_wrap=True)


def _more(service: Service) -> list[str]:
    """What a client needs besides the URL."""
    _, *others = service.placement.endpoints
    return [*(f"{name} protocol at {service.placement.endpoints[name]}" for name in others), *service.details()]
