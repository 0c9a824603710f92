"""Ryuk, the container of Testcontainers that removes what a process left once that process is gone."""

import logging
import socket
import threading
import time
from contextlib import suppress
from http import HTTPStatus
from typing import Any

import docker.errors
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import Reaper
from testcontainers.core.labels import LABEL_SESSION_ID, SESSION_ID, create_labels

from triton_env.runtimes.docker.engine import Engine
from triton_env.runtimes.docker.transport import FAILURES

_log = logging.getLogger(__name__)

_ANSWER_TIMEOUT = 20
"""Seconds in which Ryuk may answer a request."""
_PORT = 8080

_lock = threading.Lock()


def ensure_ryuk(engine: Engine) -> None:
    """Have Testcontainers' Ryuk run where it is configured and its image is there.

    Testcontainers itself asks for it in every start, without a lock, and fails where the image cannot be pulled.
    """
    if testcontainers_config.ryuk_disabled or engine.way != engine.url:
        # Testcontainers does not go through our connection to another machine, and could not reach Ryuk there.
        return
    with _lock:
        if Reaper._instance is not None:
            return
        try:
            engine.client.images.get(testcontainers_config.hub_image_name_prefix + testcontainers_config.ryuk_image)
        except FAILURES:
            return
        try:
            Reaper.get_instance()
            _ensure_connection()
        except docker.errors.APIError as error:
            if error.status_code != HTTPStatus.CONFLICT:
                _give_up(error)
            # Else another thread of this process has just started it, for a container of its own.
        except Exception as error:
            _give_up(error)


def _ensure_connection() -> None:
    """Connect again until Ryuk itself has the connection.

    Testcontainers connects once and reads no answer. Before Ryuk listens, that may be the engine's proxy, which accepts
    at once and closes: Ryuk would never hear of this process, and remove nothing.

    Raises:
        OSError: every connection was refused or closed until then.
    """
    deadline = time.monotonic() + _ANSWER_TIMEOUT
    while not _is_connected(deadline):
        if time.monotonic() > deadline:
            raise TimeoutError(f"it takes no connection within {_ANSWER_TIMEOUT} s")
        time.sleep(0.1)
        container = Reaper._container
        assert container is not None
        with suppress(OSError):
            address = (container.get_container_host_ip(), container.get_exposed_port(_PORT))
            Reaper._socket = socket.create_connection(address, timeout=1)
            Reaper._socket.sendall(f"label={LABEL_SESSION_ID}={SESSION_ID}\r\n".encode())


def _is_connected(deadline: float) -> bool:
    """Whether Ryuk has the connection: it has answered, or the connection is still open. A closed one is let go."""
    if Reaper._socket is None:
        return False
    while True:
        try:
            # Looked at, not taken: a proxy that closes says nothing before.
            if Reaper._socket.recv(1, socket.MSG_PEEK):
                return True
        except TimeoutError:
            if time.monotonic() < deadline:
                continue
            # The answer is late, or has been read already.
            return True
        except OSError:
            pass
        break
    Reaper._socket.close()
    Reaper._socket = None
    return False


def _give_up(error: Exception) -> None:
    _log.warning("Ryuk does not start, so it will not clean up after a killed process: %s", error)
    Reaper.delete_instance()


def with_session_label(labels: dict[str, str]) -> dict[str, str]:
    """Labels with those of Testcontainers, by which Ryuk finds what it has to remove.

    Testcontainers adds them to containers and networks; volumes it does not know.
    """
    labelled: dict[str, Any] = create_labels("", labels)
    return labelled
