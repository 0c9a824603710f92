"""How a service is isolated: by the class that it names, loaded when an environment has that service."""

from typing import Any

from triton_env.services import Service
from triton_env.services.base_isolation import Isolation


def isolation_of(service: Service) -> Isolation[Any]:
    """What that service does with spaces."""
    kind: type[Isolation[Any]] = service.parts.load("isolation")
    return kind(service)
