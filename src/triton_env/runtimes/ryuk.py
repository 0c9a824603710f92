"""Ryuk, the container of Testcontainers that removes what a process left once that process is gone."""

import logging
import threading
from http import HTTPStatus
from typing import Any

import docker.errors
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import Reaper
from testcontainers.core.labels import create_labels

from triton_env.runtimes.engine import Engine

_log = logging.getLogger(__name__)

_lock = threading.Lock()


def ensure_ryuk(engine: Engine) -> None:
    """Have Testcontainers' Ryuk run where it is configured and its image is there.

    Testcontainers itself asks for it in every start, without a lock, and fails where the image cannot be pulled.
    """
    if testcontainers_config.ryuk_disabled:
        return
    with _lock:
        if Reaper._instance is not None:
            return
        try:
            engine.client.images.get(testcontainers_config.ryuk_image)
        except docker.errors.DockerException:
            return
        try:
            Reaper.get_instance()
        except docker.errors.APIError as error:
            if error.status_code != HTTPStatus.CONFLICT:
                _give_up(error)
            # Else another thread of this process has just started it, for a container of its own.
        except Exception as error:
            _give_up(error)


def _give_up(error: Exception) -> None:
    _log.warning("Ryuk does not start, so it will not clean up after a killed process: %s", error)
    Reaper.delete_instance()


def with_session_label(labels: dict[str, str]) -> dict[str, str]:
    """Labels with those of Testcontainers, by which Ryuk finds what it has to remove.

    Testcontainers adds them to containers and networks; volumes it does not know.
    """
    labelled: dict[str, Any] = create_labels("", labels)
    return labelled
