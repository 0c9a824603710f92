"""How people get into a service: its URL, and a command for its shell."""

from typing import TYPE_CHECKING

from triton_env.core.redaction import redacted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from triton_env.services import Service


def urls(services: "Iterable[Service]", hidden: frozenset[str]) -> str:
    """A line with the URL of each service.

    Args:
        services: bound to the namespace that is meant.
        hidden: secrets that are not to be shown.
    """
    lines = []
    for service in services:
        beside = f"  {service.beside_url}" if service.beside_url else ""
        lines.append(f"{service.title:<10}  {redacted(service.url, hidden)}{beside}")
    return "\n".join(lines)


def commands(services: "Iterable[Service]") -> list[str]:
    """A command line for each service that opens a shell in it, for a terminal of this machine."""
    return [shell.way_in(service) for service in services if (shell := service.parts.load("way_in"))]


def secrets(services: "Iterable[Service]") -> frozenset[str]:
    """The passwords and keys of services, as they are and as they stand in URLs."""
    return frozenset().union(*(service.secrets for service in services))
