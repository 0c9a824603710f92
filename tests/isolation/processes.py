"""Other processes that make namespaces in an environment of this one."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import forkserver
from triton_env import Namespace, Settings, TritonEnvironment
from triton_env.core.model import Endpoint, Placement
from triton_env.isolation.isolator import Isolator
from triton_env.isolation.target import IsolationTarget
from triton_env.liveness import Liveness
from triton_env.runtimes.base import Runtime
from triton_env.runtimes.external import ExternalRuntime
from triton_env.services import SERVICES

_SCRIPT = """
import sys
from isolation.processes import isolator
from isolation import processes
namespaces = isolator(sys.stdin.readline())
{body}
namespaces.close()
"""
LIMIT = 120
"""Seconds after which something that is waited for will not come any more."""


def isolator(description: str) -> Isolator:
    """What makes namespaces in the environment that was described."""
    about: dict[str, Any] = json.loads(description)
    settings = Settings(**about["settings"])
    placements = {
        name: Placement({port: Endpoint(*where) for port, where in ports.items()})
        for name, ports in about["at"].items()
    }
    runtime: Future[Runtime] = Future()
    runtime.set_result(ExternalRuntime(settings))  # it knows of no server how it ended
    services = {name: SERVICES[name](settings, placement) for name, placement in placements.items()}
    return Isolator(
        IsolationTarget(
            about["id"],
            settings,
            tuple(services),
            services.__getitem__,
            lasting=False,
            outlives=True,
            is_shared=lambda: True,
            liveness=Liveness(runtime, {}),
        )
    )


def described(env: TritonEnvironment) -> str:
    """An environment in one line, with its passwords."""
    known = {name: value for name, value in env.environ().items() if name.lower() in Settings.model_fields}
    settings = {
        **{name.lower(): value for name, value in known.items()},
        "triton_state_dir": env.settings.triton_state_dir,
        "triton_pool_size": 0,
    }
    at = {
        name: {port: [end.host, end.port] for port, end in env.service(name).placement.endpoints.items()}
        for name in env.services
    }
    return json.dumps({"id": env.id, "settings": settings, "at": at})


@contextmanager
def process(
    env: TritonEnvironment, body: str, *arguments: str
) -> Iterator["subprocess.Popen[str] | forkserver.Forked"]:
    """A process that runs `body`, in which `namespaces` is its `Isolator`. It is killed where it still runs."""
    started = forkserver.Popen(
        [sys.executable, "-c", _SCRIPT.format(body=body), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert started.stdin
    try:
        started.stdin.write(described(env) + "\n")
        started.stdin.flush()
        yield started
    finally:
        started.kill()
        started.wait(LIMIT)
        started.stdin.close()
        if started.stdout:
            started.stdout.close()


def answer_of(started: "subprocess.Popen[str] | forkserver.Forked") -> str:
    """All that it prints, once it has ended by itself."""
    answer, _ = started.communicate(timeout=LIMIT)
    assert started.returncode == 0
    return answer


def counted_build(namespace: Namespace) -> None:
    """Takes a while, and leaves a line in a file for each time that it ran."""
    namespace.redis.client().set("built", "yes")
    with Path(sys.argv[1]).open("a") as file:
        file.write("built\n")
    time.sleep(0.3)


def build(namespace: Namespace) -> None:
    """Does not end where a file says so."""
    with namespace.postgres.connect() as connection:
        connection.execute("create table built (id int)")
    if len(sys.argv) > 1 and Path(sys.argv[1]).exists():
        print(namespace.id, flush=True)
        time.sleep(LIMIT)
