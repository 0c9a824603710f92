"""The files of a claim, read through a pod that mounts it: `kubectl exec` runs what reads them."""

import base64
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from triton_env.errors import TritonError
from triton_env.persistent.tar import unpacked
from triton_env.runtimes.kubernetes import pods
from triton_env.runtimes.kubernetes.access import PodAccess

_ARCHIVE = 'cd "$0" && if [ -e "$1" ]; then tar -cf - "$1" | base64; fi'
_NAMES = 'cd "$0/$1" 2>/dev/null || exit 0; find . -type d | sed "s|\\$|/|"; find . ! -type d'
_WRITE = 'base64 -d > "$0/$1"'


@dataclass(frozen=True, slots=True)
class ClaimFiles:
    """See `VolumeFiles`.

    Attributes:
        access: the pod.
        root: where it has the data.
    """

    access: PodAccess
    root: str

    def files(self, path: str) -> Mapping[str, bytes]:
        return unpacked(base64.b64decode(found)) if (found := self._run(_ARCHIVE, path)).strip() else {}

    def names(self, path: str = "") -> Iterator[str]:
        for line in self._run(_NAMES, path).splitlines():
            if name := line.removeprefix("./"):
                yield posixpath.join(path, name)

    def put(self, files: Mapping[str, bytes]) -> None:
        """Replace the content of files, which keep their owners and modes."""
        for path, content in files.items():
            self._run(_WRITE, path, content=base64.b64encode(content).decode())

    def _run(self, script: str, path: str, content: str = "") -> str:
        given = ("--stdin",) if content else ()
        words = ("exec", *given, self.access.pod, "--container", pods.CONTAINER, "--", "sh", "-c", script)
        return self.access.cluster.run(*words, self.root, path, content=content, what=f"read {self.root}")


def printed(access: PodAccess, program: Sequence[str]) -> str:
    """What a program of a pod prints; empty where the pod does not have it, or it fails."""
    words = ("exec", access.pod, "--container", pods.CONTAINER, "--", *program)
    try:
        return access.cluster.run(*words, what=f"run {program[0]}").strip()
    except TritonError:
        # An image without that program. The server itself will say what it thinks of the data.
        return ""
