"""Connection variables before anything of the project is imported (`--triton-export-env`)."""

from argparse import Namespace
from uuid import uuid4

import pytest

from triton_env.errors import TritonError
from triton_env.pytest_plugin.options import Options
from triton_env.pytest_plugin.state import KEY, State
from triton_env.pytest_plugin.variables import forget_inherited, worker_of_xdist


def begin(config: pytest.Config, line: Namespace) -> None:
    """Start the environment and set the variables of this process's own namespace, until the end of the run.

    Args:
        config: of the run, which is being configured.
        line: the command line's options.

    Raises:
        pytest.UsageError: options cannot be used, or the environment does not start.
    """
    forget_inherited()
    worker = worker_of_xdist()
    shared_by = worker[0] if worker else _run_of_workers(line)
    quiet = worker is not None or line.verbose < 0
    state = State(config, Options.of(config, line), shared_by=shared_by, quiet=quiet)
    config.stash[KEY] = state
    config.add_cleanup(state.stop)
    try:
        state.export()
    except TritonError as error:
        raise pytest.UsageError(f"triton-env: {error}") from error


def _run_of_workers(line: Namespace) -> str:
    """The id of the run where pytest-xdist will run the tests in other processes, else empty.

    The process that hands out the tests imports conftest files too, and shares its environment with the workers.
    """
    by_number = getattr(line, "numprocesses", None)
    by_name = getattr(line, "tx", None) and (line.dist != "no" or line.distload)
    return (line.testrunuid or uuid4().hex) if by_number or by_name else ""
