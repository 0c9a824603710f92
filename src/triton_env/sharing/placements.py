"""Placements as what JSON can hold: one process says to others where services answer."""

from pathlib import Path
from typing import Any

from triton_env.core.model import Endpoint, Placement


def placement_as_data(placement: Placement) -> dict[str, Any]:
    """A placement as what JSON can hold."""

    def ports(endpoints: Any) -> dict[str, Any]:
        return {name: (endpoint.host, endpoint.port) for name, endpoint in endpoints.items()}

    return {
        "endpoints": ports(placement.endpoints),
        "internal": None if placement.internal is None else ports(placement.internal),
        "sockets": str(placement.sockets) if placement.sockets else None,
    }


def placement_from_data(data: dict[str, Any]) -> Placement:
    """The placement that `placement_as_data` wrote."""

    def endpoints(ports: dict[str, Any]) -> dict[str, Endpoint]:
        return {name: Endpoint(host, port) for name, (host, port) in ports.items()}

    return Placement(
        endpoints=endpoints(data["endpoints"]),
        internal=None if data["internal"] is None else endpoints(data["internal"]),
        sockets=Path(data["sockets"]) if data["sockets"] else None,
    )
