"""Whether what the dashboard needs is installed."""

from importlib.util import find_spec

from triton_env.errors import ExtraMissing

_NEEDED = {"prometheus-client": "prometheus_client", "starlette": "starlette", "uvicorn": "uvicorn"}
"""Distributions of the extra, with what is imported of each."""


def check_installed() -> None:
    """See that the dashboard can run here.

    Raises:
        ExtraMissing: packages are missing; the message says which.
    """
    if missing := [name for name, module in _NEEDED.items() if find_spec(module) is None]:
        raise ExtraMissing("The dashboard cannot run here.", "dashboard", missing)
