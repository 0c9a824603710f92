"""A real cluster of one node for tests; see scripts/cluster.sh. It stays, where it was there before.

with cluster() as kubectl:
    ...     # KUBECONFIG leads to it, and images are those of this machine's engine
    kubectl("get", "pods")
"""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from patience import until

SCRIPT = Path(__file__).parents[1] / "scripts" / "cluster.sh"
CACHE = Path(os.environ.get("TRITON_CLUSTER_CACHE") or Path.home() / ".cache/triton-env/cluster")
ADMINISTRATOR = CACHE / "run" / "kubeconfig"
DEVELOPER = CACHE / "run" / "kubeconfig-limited"
"""Of a user who may do nothing but what `role` gives."""
TO_BUILD = 3600
"""Seconds for the programs of the cluster, which are compiled where that has not happened on this machine yet."""

Kubectl = Callable[..., str]


@contextmanager
def cluster() -> Iterator[Kubectl]:
    """A cluster that runs. Yields what runs `kubectl` as its administrator, and returns what that prints."""
    runs = script("status", check=False).returncode == 0
    try:
        if not runs:
            script("up")
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setenv("KUBECONFIG", str(ADMINISTRATOR))
            monkeypatch.setenv("PATH", f"{CACHE / 'programs/bin'}:{os.environ['PATH']}")
            yield kubectl
    finally:
        if not runs:
            script("down")


@contextmanager
def namespace(name: str) -> Iterator[str]:
    """A namespace of the cluster, which goes with all that it has."""
    kubectl("create", "namespace", name)
    try:
        # Before that is there, no pod is admitted.
        assert until(lambda: kubectl("--namespace", name, "get", "serviceaccount", "default", check=False))
        yield name
    finally:
        kubectl("delete", "namespace", name)


def kubectl(*words: str, content: str = "", check: bool = True) -> str:
    """Run it, and return what it prints."""
    done = subprocess.run(
        [CACHE / "programs/bin/kubectl", *words],
        env={**os.environ, "KUBECONFIG": str(ADMINISTRATOR)},
        input=content,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not check or done.returncode == 0, done.stderr
    return done.stdout


def script(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run scripts/cluster.sh."""
    done = subprocess.run(["bash", SCRIPT, *words], capture_output=True, text=True, check=False, timeout=TO_BUILD)
    assert not check or done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done


def names(kinds: str, selector: str, namespace: str) -> list[str]:
    """The objects of some kinds that carry these labels, of which none may be left."""
    found = kubectl("--namespace", namespace, "get", kinds, "--selector", selector, "-o", "name", "--ignore-not-found")
    return found.split()


def processes_with(word: str) -> list[int]:
    """The processes of this machine that have a word in their command line."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if any(word in each for each in words) and int(folder.name) != os.getpid():
                found.append(int(folder.name))
    return found
