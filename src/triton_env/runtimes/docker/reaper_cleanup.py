"""Removes everything with a label from a Docker engine, until nothing more turns up.

Run as a script by the reaper, with the standard library alone:

    python -I -S reaper_cleanup.py SOCKET_PATH API_VERSION LABEL QUIET OWNER

LABEL is key=value. QUIET is the number of seconds in which nothing more may turn up. OWNER is a process id: while that
is the parent, it has given up what is removed here. The engine's API is spoken over its Unix socket. Engines that are
reached in another way need the Docker SDK: `leftovers` removes from them, with the patience that is kept here.
"""

import http.client
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

QUIET = 6.0
"""Seconds in which nothing more may turn up: the engine may still be at work on what a dead owner asked for last."""
PATIENCE = 300.0
"""Seconds in which an engine that does not answer, such as one that restarts, is asked again. While the owner lives,
there is no end to it."""

_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 2.0
"""Seconds between two looks."""
_REQUEST_TIMEOUT = 60
"""Seconds without a word of an answer, after which the engine is asked anew."""

_hurried = threading.Event()
"""Set when this process has to end, such as when the machine is shut down."""


def until_quiet(
    remove_once: Callable[[], bool], failures: tuple[type[Exception], ...], quiet: float, owner: int
) -> None:
    """Remove again and again, until nothing has turned up for a while or the patience ends.

    Args:
        remove_once: removes what is there and returns whether there was anything.
        failures: what it raises where the engine does not answer.
        quiet: the seconds in which nothing more may turn up.
        owner: the process id of the owner.
    """
    began = quiet_since = time.monotonic()
    pause = _FIRST_PAUSE
    while time.monotonic() - began < PATIENCE:
        if os.getppid() == owner:
            began = time.monotonic()
        try:
            found = remove_once()
            if not found and _hurried.is_set():
                return
        except failures:
            if _hurried.is_set():
                return
            found = True  # for all that is known
        if found:
            quiet_since = time.monotonic()
        elif time.monotonic() - quiet_since >= quiet:
            return
        _hurried.wait(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)


class Engine:
    """The engine's API, as https://docs.docker.com/reference/api/engine/version/v1.41/ has it.

    Args:
        version: of the API, such as 1.41.
    """

    def __init__(self, socket_path: str, version: str) -> None:
        self._socket_path = socket_path
        self._version = version

    def remove_once(self, label: str) -> bool:
        """Remove what carries the label now; returns whether there was anything.

        Raises:
            OSError, ValueError, http.client.HTTPException: the engine does not answer as it should.
        """
        query = "filters=" + quote(json.dumps({"label": [label]}))
        containers = [each["Id"] for each in self._get(f"/containers/json?all=1&{query}")]
        # At once: killing one takes a second on a busy machine. With the volumes that belong to it alone.
        threads = []
        for container in containers:
            path = f"/containers/{container}?force=1&v=1"
            thread = threading.Thread(target=self._delete, args=(path,))
            try:
                thread.start()
            except RuntimeError:  # a limit: one after the other, then
                self._delete(path)
            else:
                threads.append(thread)
        for thread in threads:
            thread.join()
        networks = [each["Id"] for each in self._get(f"/networks?{query}")]
        for network in networks:
            self._delete(f"/networks/{network}")
        volumes = [each["Name"] for each in self._get(f"/volumes?{query}").get("Volumes") or []]
        for volume in volumes:
            self._delete(f"/volumes/{quote(volume, safe='')}?force=1")
        return bool(containers or networks or volumes)

    def _get(self, path: str) -> Any:
        status, body = self._ask("GET", path)
        if status != http.client.OK:
            raise ValueError(body.decode(errors="replace"))
        return json.loads(body)

    def _delete(self, path: str) -> None:
        try:
            self._ask("DELETE", path)
        except (OSError, http.client.HTTPException):
            return  # the next look shows whether it is still there

    def _ask(self, method: str, path: str) -> tuple[int, bytes]:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_REQUEST_TIMEOUT)
            connection.connect(self._socket_path)
            request = http.client.HTTPConnection("docker")
            request.sock = connection
            request.request(method, f"/v{self._version}{path}", headers={"Connection": "close"})
            answer = request.getresponse()
            return answer.status, answer.read()


def hurry_when_asked() -> None:
    """Have SIGTERM and Ctrl-C end the patience: what can be removed at once is removed."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: _hurried.set())


def main() -> None:
    """Remove what carries the label."""
    socket_path, version, label, quiet, owner = sys.argv[1:]
    hurry_when_asked()
    engine = Engine(socket_path, version)
    until_quiet(
        lambda: engine.remove_once(label), (OSError, ValueError, http.client.HTTPException), float(quiet), int(owner)
    )


if __name__ == "__main__":
    main()
