"""The ways to servers that are not on this machine, for those who measure them again and again."""

from typing import TYPE_CHECKING

from triton_env.inspection.data import EnvironmentEntry
from triton_env.persistent.kubernetes.projects import projects
from triton_env.runtimes.access import access_from_data
from triton_env.settings import Settings
from triton_env.state.registry import Registry

if TYPE_CHECKING:
    from triton_env.runtimes.kubernetes.access import PodAccess


def pod_of(settings: Settings, environment: EnvironmentEntry, service: str) -> "PodAccess | None":
    """The pod of a service; None where it has none, or the environment has just ended.

    Args:
        settings: where this user's state is kept.
    """
    from triton_env.runtimes.kubernetes.access import PodAccess

    if environment.is_persistent:
        noted = projects(settings).get(environment.id)
        order = noted.services.get(service) if noted else None
        return PodAccess(noted.cluster, order.pod) if noted and order else None
    for record in Registry.of(settings).running():
        if record.id == environment.id and service in record.access:
            way = access_from_data(record.access[service])
            return way if isinstance(way, PodAccess) else None
    return None
