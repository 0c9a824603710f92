"""What `TritonEnvironment` is called with."""

from triton_env.errors import UnknownRuntime, UsageError
from triton_env.run import Persistent
from triton_env.settings import RUNTIME_NAMES
from triton_env.sharing.reuse import Reuse


def checked_reuse(reuse: bool | Reuse, persistent: Persistent | None, runtime: str) -> Reuse | None:
    """With whom an environment is shared; None where it is not.

    Raises:
        UsageError: it is persistent as well.
    """
    if reuse and persistent:
        raise UsageError(
            "Persistent services are shared anyway, so reuse=True has nothing to do with persistent=True.",
            hint="leave out one of them",
        )
    # External servers are shared anyway.
    if not reuse or runtime == "external":
        return None
    return Reuse() if reuse is True else reuse


def checked_runtime(name: str) -> str:
    """The name of a runtime.

    Raises:
        UnknownRuntime: there is none of that name.
    """
    if name not in RUNTIME_NAMES:
        raise UnknownRuntime(name, RUNTIME_NAMES)
    return name
