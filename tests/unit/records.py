"""Records of environments that do not run."""

import os

from triton_env.core.timeline import Timeline
from triton_env.state.registry import Record

SECRET = "s3cret-password"


def record(
    id_: str = "aaaa1111",
    project: str = "/projects/one",
    started: float = 1_000.0,
    held_by: str = "serve",
    is_offered: bool = True,
) -> Record:
    return Record(
        id=id_,
        runtime="docker",
        reason="it was asked for",
        pid=os.getpid(),
        held_by=held_by,
        is_offered=is_offered,
        project=project,
        started=started,
        services=("postgres", "redis"),
        environ={"POSTGRES_PASSWORD": SECRET, "REDIS_URL": "redis://127.0.0.1:1/0"},
        settings={"postgres_password": SECRET},
        asked_runtime="auto",
        placements={},
        access={},
        timeline=Timeline(()),
    )
