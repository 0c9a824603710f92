"""A start of this process on the list of those that are under way, which other processes of its user look at."""

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from threading import Event as Flag
from typing import TYPE_CHECKING, Literal

from triton_env.core.timeline import Phase
from triton_env.errors import TritonError
from triton_env.progress.rows import Row
from triton_env.settings.project_folders import project_root
from triton_env.state.starting import Stage, Starting, Starts

if TYPE_CHECKING:
    from triton_env._startup import Startup

_log = logging.getLogger(__name__)

_INTERVAL = 0.5
"""Seconds between two looks at how far it has come."""


def show(startup: "Startup", is_over: Flag) -> None:
    """List a start, until it is over. It works as well if it cannot be listed."""
    began = time.time() - startup.recorder.seconds
    try:
        listing = Starts.of(startup.settings).begin()
        try:
            shown: Mapping[str, Stage] = {}
            while True:
                stages = _stages(startup)
                if stages != shown:
                    listing.replace(_described(startup, listing.key, began, stages))
                    shown = stages
                if is_over.wait(_INTERVAL):
                    return
        finally:
            listing.end()
    except (TritonError, OSError) as error:
        _log.debug("the start of %s is not listed: %s", startup.id, error)


def _described(startup: "Startup", key: str, began: float, stages: Mapping[str, Stage]) -> Starting:
    mode: Literal["session", "shared", "persistent", "external"] = "session"
    if startup.mode.is_of_project:
        mode = "persistent"
    elif not startup.mode.servers_are_ours:
        mode = "external"
    elif startup.held_by == "reuse":
        mode = "shared"
    return Starting(
        key=key,
        id=startup.id,
        mode=mode,
        runtime=_runtime(startup),
        pid=os.getpid(),
        held_by=startup.held_by,
        project=str(project_root(Path.cwd())),
        began=began,
        stages=stages,
    )


def _runtime(startup: "Startup") -> str:
    opened = startup.runtime
    if opened.done() and not opened.cancelled() and opened.exception() is None:
        return opened.result().name
    return startup.settings.triton_runtime


def _stages(startup: "Startup") -> dict[str, Stage]:
    """How far each service has come. One of which nothing is known yet waits for its runtime."""
    rows = dict.fromkeys(startup.names, Row())
    for event in startup.recorder.events():
        rows[event.service] = rows[event.service].after(event)
    return {name: Stage(row.phase or Phase.CREATE, row.doing) for name, row in rows.items()}
