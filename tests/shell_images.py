"""Images whose server is a shell script."""

import os
from pathlib import Path

import docker

from triton_env import Settings


def image_that_runs(engine: docker.DockerClient, folder: Path, script: str) -> str:
    """An image derived from the Redis one whose server is a shell script."""
    (folder / "server.sh").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "server.sh").chmod(0o755)
    (folder / "Dockerfile").write_text(
        f"FROM {Settings().redis_image}\n"
        f"LABEL org.triton-env.test-image={os.getpid()}\n"
        "COPY server.sh /server.sh\n"
        'ENTRYPOINT ["/server.sh"]\n'
    )
    tag = f"triton-env/test-{folder.name.replace('_', '-').lower()}:1"
    engine.images.build(path=str(folder), tag=tag, rm=True)
    return tag
