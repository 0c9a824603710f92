"""Which server answers? Asked of the server itself, since image tags such as `latest` do not say."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from triton_env.environment import TritonEnvironment
from triton_env.services import Service


def server_versions(environment: TritonEnvironment) -> Mapping[str, str]:
    """The version of each running server by service name; empty where it does not answer."""
    with ThreadPoolExecutor(max_workers=len(environment.services)) as threads:
        versions = threads.map(lambda name: _version(environment.service(name)), environment.services)
    return dict(zip(environment.services, versions, strict=True))


def _version(service: Service) -> str:
    try:
        return service.server_version()
    except Exception:  # whatever a driver raises, the environment is as good without this word
        return ""
