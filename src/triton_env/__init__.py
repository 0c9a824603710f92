"""Real PostgreSQL, ClickHouse, Redis and S3 for tests, notebooks and daily development.

>>> from triton_env import TritonEnvironment
>>> with TritonEnvironment() as env:
...     env.redis.client().ping()
True

Names are loaded on first use, so `import triton_env` imports no driver, no Docker SDK and no settings.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from triton_env._version import __version__


def _check_python() -> None:
    """Report what is wrong before a module fails because of it. Also read by Pythons that cannot run the rest."""
    archive = getattr(globals().get("__loader__"), "archive", "")
    if sys.version_info < (3, 11):  # noqa: UP036 - that is the question
        version = ".".join(str(part) for part in sys.version_info[:2])
        problem = f"triton-env needs Python 3.11 or newer, and this is Python {version} ({sys.executable})."
    elif archive:
        problem = (
            f"triton-env cannot be run out of a zip file ({archive}): it starts its servers from files. "
            "Install it with pip, or build an archive that is unpacked when it runs, for example with shiv."
        )
    else:
        return
    # A program ends with the sentence; an application that imports it may catch the error.
    if sys.argv[:1] in (["-m"], [archive]):
        sys.exit(f"error: {problem}")
    raise ImportError(problem)


_check_python()

if TYPE_CHECKING:
    from triton_env import backup, errors
    from triton_env.core.timeline import Phase, Span, Timeline
    from triton_env.environment import TritonEnvironment
    from triton_env.errors import TritonError
    from triton_env.isolation.namespace import Namespace
    from triton_env.isolation.template import Template
    from triton_env.modes.persistent import Persistent
    from triton_env.services.clickhouse.service import ClickHouse
    from triton_env.services.postgres.service import Postgres
    from triton_env.services.redis.service import Redis
    from triton_env.services.s3.service import S3
    from triton_env.settings import Settings
    from triton_env.sharing.reuse import Reuse

__all__ = [
    "S3",
    "ClickHouse",
    "Namespace",
    "Persistent",
    "Phase",
    "Postgres",
    "Redis",
    "Reuse",
    "Settings",
    "Span",
    "Template",
    "Timeline",
    "TritonEnvironment",
    "TritonError",
    "__version__",
    "backup",
    "errors",
]

_MODULES = ("backup", "errors")
_HOME = {
    "S3": "services.s3.service",
    "ClickHouse": "services.clickhouse.service",
    "Namespace": "isolation.namespace",
    "Persistent": "modes.persistent",
    "Phase": "core.timeline",
    "Postgres": "services.postgres.service",
    "Redis": "services.redis.service",
    "Reuse": "sharing.reuse",
    "Settings": "settings",
    "Span": "core.timeline",
    "Template": "isolation.template",
    "Timeline": "core.timeline",
    "TritonEnvironment": "environment",
    "TritonError": "errors",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)


def load_ipython_extension(ipython: Any) -> None:
    """`%load_ext triton_env`: cells that begin with `%%sql postgres` or `%%sql clickhouse` are SQL."""
    from triton_env.notebook.magic import load

    load(ipython)
