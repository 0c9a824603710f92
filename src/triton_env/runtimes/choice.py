"""Which runtime an environment gets."""

from triton_env.errors import RuntimeUnavailable
from triton_env.runtimes.base import Runtime
from triton_env.settings import Settings


def open_runtime(name: str, settings: Settings, environment: str) -> Runtime:
    """The runtime of that name, ready to start services.

    Args:
        name: `docker`, or `auto` for the best that this machine has.
        settings: the environment's settings.
        environment: the environment's id.

    Raises:
        RuntimeUnavailable: it cannot run here.
    """
    if name in ("auto", "docker"):
        # Loads the Docker SDK and Testcontainers, which takes longer than everything else of ours.
        from triton_env.runtimes.containers import DockerRuntime

        return DockerRuntime(settings, environment)
    raise RuntimeUnavailable(
        f"The runtime {name!r} is not available in this version.",
        where="TRITON_RUNTIME",
        hint="TRITON_RUNTIME=docker",
    )
