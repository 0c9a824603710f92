"""Other machines: processes with a state folder of their own, and a user of their own where this is root."""

import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import contents
import forkserver
import scratch
from isolation.processes import LIMIT
from triton_env import Namespace, Settings, TritonEnvironment

_SCRIPT = """
import sys
from isolation.machines import in_crowd
in_crowd(*sys.argv[1:])
"""
_USERS = 60_000
"""The first of those that machines have."""
_KEEP_CAPABILITIES = 8
_CAPABILITY_VERSION = 0x20080522
_READ_ALL = 1 << 2
"""See prctl(2) and capabilities(7)."""


def known(env: TritonEnvironment) -> dict[str, Any]:
    """The settings by which others reach the servers of an environment."""
    return {name.lower(): value for name, value in env.environ().items() if name.lower() in Settings.model_fields}


def settings_of(env: TritonEnvironment, folder: Path, **values: Any) -> Settings:
    """Those of a machine that has its state in that folder."""
    own = {"triton_namespaces": "everywhere", "triton_state_dir": str(folder), "triton_pool_size": 0}
    return Settings(**{**known(env), **own, "triton_progress": "off", **values})


@contextmanager
def machine(env: TritonEnvironment, folder: Path, **values: Any) -> Iterator[TritonEnvironment]:
    """A machine in this process, on which the servers of an environment are external ones."""
    settings = settings_of(env, folder, **values)
    with TritonEnvironment(settings, services=tuple(env.services), runtime="external") as there:
        yield there


class Crowd:
    """A process on a machine of its own, which holds namespaces that all have the same keys.

    Args:
        values: its settings, and whatever else `TritonEnvironment` is called with.
        number: distinguishes its words from those of others.
        count: of namespaces.
        log: a file that gets a line for each template that is built.
    """

    def __init__(
        self, values: Mapping[str, Any], arguments: Mapping[str, Any], number: int, count: int, log: Path
    ) -> None:
        self.count = count
        # Other users may enter it, which folders of pytest do not let them.
        self.folder = scratch.folder(f"machine-{number}-")
        # Persistent services without Docker are their user's alone.
        user = _USERS + number if os.getuid() == 0 and "persistent" not in arguments else os.getuid()
        self.folder.chmod(0o700)
        os.chown(self.folder, user, -1)
        about = {"settings": {**values, "triton_state_dir": str(self.folder)}, "arguments": arguments}
        self.process = forkserver.Popen(
            [sys.executable, "-c", _SCRIPT, json.dumps(about), str(number), str(count), str(log), str(user)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[1],
        )

    def line(self) -> str:
        """What it says next."""
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def go_on(self) -> None:
        """Have it look at its namespaces, and say what it found."""
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self) -> int:
        """Have it close all, and wait for that."""
        assert self.process.stdin
        self.process.stdin.close()
        return self.process.wait(LIMIT * self.count)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(LIMIT)
        for stream in (self.process.stdin, self.process.stdout):
            if stream:
                stream.close()


def in_crowd(about: str, number: str, count: str, log: str, user: str) -> None:
    """What such a process does."""
    if os.getuid() != int(user):
        _become(int(user))
    described = json.loads(about)
    arguments = {**described["arguments"], "services": tuple(described["arguments"]["services"])}
    with TritonEnvironment(Settings(**described["settings"]), **arguments) as env:
        held = [env.namespace(template=seed_of(log)) for _ in range(int(count))]
        seeded = [contents.look(each) == contents.everywhere(each, "seed") for each in held]
        words = [f"{number} {position}" for position in range(len(held))]
        for namespace, word in zip(held, words, strict=True):
            contents.fill(namespace, word)
        while True:
            found = [contents.look(each) for each in held]
            same = found == [contents.everywhere(each, word) for each, word in zip(held, words, strict=True)]
            ids = [each.id for each in held]
            numbers = [each.redis.database for each in held]
            answer = {"same": same, "seeded": all(seeded), "ids": ids, "numbers": numbers}
            print(json.dumps(answer), flush=True)
            if not sys.stdin.readline():
                break
        for namespace in held:
            namespace.close()


def _become(user: int) -> None:
    """Be another user, who may read what root may: Python itself may be in root's folders."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_KEEP_CAPABILITIES, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    sets = (ctypes.c_uint32 * 6)(_READ_ALL, _READ_ALL, 0, 0, 0, 0)
    assert libc.capset(header, sets) == 0, os.strerror(ctypes.get_errno())


class seed_of:  # noqa: N801 - called as a function
    """Fills a template, and leaves a line in a file for each time that it did."""

    def __init__(self, log: str) -> None:
        self.log = log

    def __call__(self, namespace: Namespace) -> None:
        with open(self.log, "a") as file:
            file.write(f"{namespace.id}\n")
        contents.fill(namespace, "seed")
