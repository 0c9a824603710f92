"""Shells and scripts as people use them: what they print while they run, and commands pasted into a new one."""

import subprocess
import threading


class Printed:
    """The lines that a process has printed so far, by stream."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.lines: dict[str, list[str]] = {"stdout": [], "stderr": []}
        self._process = process
        self._readers = [threading.Thread(target=self._read, args=(name,)) for name in self.lines]
        for reader in self._readers:
            reader.start()

    def _read(self, name: str) -> None:
        for line in getattr(self._process, name):
            self.lines[name].append(line)

    def close(self) -> None:
        """Read the rest of a process that has ended."""
        for reader in self._readers:
            reader.join(200)
        for name in self.lines:
            getattr(self._process, name).close()


def in_a_bare_shell(command: str) -> "subprocess.CompletedProcess[str]":
    """Run it where neither variables nor the folder are those of this process."""
    return subprocess.run(
        ["env", "-i", "PATH=/usr/bin:/bin", "bash", "-c", command],
        cwd="/",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
