"""A dashboard as a user starts it, in a process that can be measured."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil


@contextmanager
def dashboard() -> Iterator[tuple[psutil.Process, str]]:
    """Its process, and the URL that opens it, token included."""
    with subprocess.Popen(
        [sys.executable, "-m", "triton_env", "dashboard"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield psutil.Process(process.pid), process.stdout.readline().strip()
        finally:
            process.terminate()
