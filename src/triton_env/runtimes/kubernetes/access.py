"""Access to a service in a pod, by the pod's name."""

import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import ClassVar

from triton_env.core.ending import BEGIN_ANEW, Ending
from triton_env.core.model import Placement, Program
from triton_env.errors import TritonError
from triton_env.runtimes.access import ImageAccess
from triton_env.runtimes.kubernetes import execution, pods
from triton_env.runtimes.kubernetes.agent import die_with_parent
from triton_env.runtimes.kubernetes.cluster import Cluster, failure
from triton_env.runtimes.kubernetes.leftovers import now_of
from triton_env.runtimes.kubernetes.objects import name_of

_SAME = 2.0
"""Seconds within which two clocks count as one: the cluster has whole seconds, and an answer takes some time."""


@cache
def _ahead(cluster: Cluster) -> float:
    before = time.time()
    ahead = now_of(cluster).timestamp() - before
    return 0 if abs(ahead) <= _SAME + time.time() - before else ahead


@dataclass(frozen=True, slots=True)
class PodAccess(ImageAccess):
    """See `Access`.

    Attributes:
        cluster: where it is.
        pod: its name.
    """

    cluster: Cluster
    pod: str

    sees_endings: ClassVar[bool] = True

    @classmethod
    def of_session(cls, cluster: Cluster, environment: str, service: str) -> "PodAccess":
        """The access to a service of a session: the pods of sessions have these names."""
        return cls(cluster, name_of(environment, service))

    @property
    def place(self) -> str:
        """The pod, for people."""
        return f"pod {self.pod}, {self.cluster.title}"

    @property
    def _container(self) -> tuple[str, ...]:
        return (self.pod, "--container", pods.CONTAINER)

    def logs(self, lines: int, since: float | None = None) -> str:
        begin = () if since is None else ("--since-time", f"{datetime.fromtimestamp(since, UTC):%Y-%m-%dT%H:%M:%S.%fZ}")
        try:
            return self.cluster.run(
                "logs", *self._container, "--tail", str(lines), *begin, what=f"show the log of {self.pod}"
            )
        except TritonError:  # it is gone, has not begun, or cannot be asked: the log is for another message
            return ""

    def log_position(self) -> float:
        return time.time() + self._ahead()

    def _ahead(self) -> float:
        """Seconds by which the clock of the cluster, which its logs have, is ahead of that of this machine."""
        with suppress(TritonError):
            return _ahead(self.cluster)
        return 0

    def disk(self) -> int | None:
        return None

    def lines(self, tail: int | None, *, follow: bool) -> Iterator[str]:
        words = (
            "logs",
            *self._container,
            "--tail",
            "-1" if tail is None else str(tail),
            *(("--follow",) if follow else ()),
        )
        with subprocess.Popen(  # noqa: S603 - the user's kubectl
            self.cluster.command(*words, timeout=None),
            env=self.cluster.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            # A process that is killed does not end it, and a quiet log would keep it for good.
            preexec_fn=die_with_parent,
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            try:
                for line in process.stdout:
                    yield line.decode(errors="replace").rstrip("\n")
                if process.wait():
                    words_of_end = process.stderr.read().decode(errors="replace").strip()
                    what = f"show the log of {self.pod}"
                    raise failure(words_of_end, what=what, where=self.cluster.title, kubectl=self.cluster.kubectl)
            finally:
                process.kill()

    def program_inside(self, argv: Sequence[str], environment: Mapping[str, str], *, terminal: bool = False) -> Program:
        return execution.in_pod(self.cluster, self.pod, argv, environment, terminal=terminal)

    def has(self, program: str) -> bool:
        """Whether the pod has a program."""
        try:
            look = ("exec", *self._container, "--", "sh", "-c", 'command -v "$0"', program)
            return bool(self.cluster.run(*look, what=f"look for {program} in {self.pod}"))
        except TritonError:
            return False

    def ending(self, placement: Placement) -> Ending | None:
        try:
            pod = self.cluster.get("pod", self.pod, what=f"look at {self.pod}")
        except TritonError:
            return None
        return pods.ending(pod, where=self.place, hint=BEGIN_ANEW)
