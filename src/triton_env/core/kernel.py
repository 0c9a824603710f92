"""The kernel of a notebook, where this process is one. IPython is not loaded to find out: in a kernel it is there."""

import sys
from collections.abc import Callable
from typing import Any


def in_kernel() -> bool:
    """Whether what is displayed goes to a notebook: not in a script, and not in IPython on a terminal.

    A shell that has a kernel is that of Jupyter, of VS Code or of Colab; the one on a terminal has none.
    """
    return getattr(_shell(), "kernel", None) is not None


def after_cell(action: Callable[[], None]) -> None:
    """Do something when the cell that runs now has ended; nothing outside of a kernel, or where no cell runs."""
    if in_kernel():
        _shell().events.register("post_run_cell", lambda result: action())


def _shell() -> Any:
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return get_ipython() if get_ipython else None
