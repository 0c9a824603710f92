"""Connection variables in the environment of this process, and what was there before.

A process that is started in the block inherits them. One that runs pytest, such as a worker of pytest-xdist, would take
them for the user's settings; so the values from before go along in one more variable.
"""

import json
import os
import sys
from collections.abc import Collection, Mapping

from triton_env.settings import process_environment

_BEFORE = "_TRITON_ENV_BEFORE"
"""Holds the values that the exported variables had before, as JSON; null for one that was not set."""


class Exported:
    """Variables that are set until `put_back` is called.

    Args:
        variables: their names and values.
        without: variables that are not set while it runs: they would lead the application elsewhere all the same.
        remember: whether processes that are started in the block learn what was there before.

    Attributes:
        values: the variables.
    """

    values: Mapping[str, str]

    def __init__(self, variables: Mapping[str, str], *, without: Collection[str] = (), remember: bool = False) -> None:
        ours = process_environment()
        self.values = dict(variables)
        values: dict[str, str | None] = {**dict.fromkeys(name for name in without if name in ours), **variables}
        if remember:
            values[_BEFORE] = json.dumps({name: ours.get(name) for name in values})
        self._before = {name: ours.get(name) for name in values}
        _set(values)

    def put_back(self) -> None:
        """Set what was there before. Does nothing the second time."""
        before, self._before = self._before, {}
        _set(before)


def forget_inherited() -> None:
    """Put back what a parent process had before it exported variables of its own."""
    if text := process_environment().get(_BEFORE):
        _set(json.loads(text) | {_BEFORE: None})


def worker_of_xdist() -> tuple[str, str] | None:
    """The ids of the run and of this worker where this process is a worker of pytest-xdist.

    To be asked while `config.workerinput` is not there yet.
    https://pytest-xdist.readthedocs.io/en/stable/how-to.html#identifying-the-worker-process-during-a-test
    """
    ours = process_environment()
    # Inherited by a pytest that a test runs; but workers have no script: execnet sends them their program.
    if sys.argv[:1] != ["-c"]:
        return None
    run, worker = ours.get("PYTEST_XDIST_TESTRUNUID"), ours.get("PYTEST_XDIST_WORKER")
    return (run, worker) if run and worker else None


def _set(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
