"""The line between an owner and the reaper of its environment, as the owner sees it. The reaper is in `reaper`."""

import logging
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from triton_env.runtimes import companion
from triton_env.runtimes.docker import reaper, reaper_cleanup
from triton_env.runtimes.owner import ENVIRONMENT_LABEL
from triton_env.settings import process_environment

_log = logging.getLogger(__name__)

_END_TIMEOUT = 10
"""Seconds until a reaper that was asked to end has to be gone; it needs none."""


class ReaperHandle:
    """Has everything of an environment removed from the engine when this process ends without having done so.

    Where the reaper cannot be started, this goes on; the next start removes what a killed process left.

    Args:
        api_version: of its API, such as 1.41.
    """

    def __init__(self, engine_url: str, api_version: str, environment: str) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._is_left = False
        label = f"{ENVIRONMENT_LABEL}={environment}"
        variables = process_environment()
        scheme, _, path = engine_url.partition("://")
        if scheme == "unix":
            command = [*companion.python(reaper_cleanup.__file__), path, api_version, label, str(reaper_cleanup.QUIET)]
        else:
            # The Docker SDK reaches it, from wherever this process has imported it.
            command = [sys.executable, "-m", "triton_env.runtimes.docker.leftovers", label, str(reaper_cleanup.QUIET)]
            # Not what Testcontainers has made of it.
            variables["DOCKER_HOST"] = engine_url
            variables["PYTHONPATH"] = os.pathsep.join(str(Path(each).absolute()) for each in sys.path)
        try:
            self._process, self._socket = companion.started(reaper.__file__, command, variables)
        except OSError as error:
            _log.warning("No process will clean up if this one is killed: %s cannot be run: %s", sys.executable, error)

    def end(self) -> None:
        """There is nothing left to remove: the reaper ends. May be called again."""
        if self._process is None:
            return
        with suppress(OSError):  # it was killed, or has had another request before
            self._socket.sendall(reaper.DONE)
        if self._is_left:
            # It looks once more, and ends where nothing is left.
            self._process.terminate()
        companion.end(self._process, self._socket, _END_TIMEOUT)
        self._process = None

    def leave(self) -> None:
        """Something is left that could not be removed: the reaper tries, again and again, from now on."""
        if self._process is None or self._is_left:
            return
        with suppress(OSError):
            self._socket.sendall(reaper.LEFT)
        self._is_left = True
