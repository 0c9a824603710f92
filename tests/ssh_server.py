"""A real sshd of the tests' own, on loopback: with its keys, its configuration and its port.

    with ssh_server(folder) as server:
        ...     # DOCKER_HOST=server.url, and server.path before all else on PATH

Where the machine has no sshd, the package is unpacked in the folder.

    python tests/ssh_server.py

installs the client where it is missing and that is possible.
"""

import getpass
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

import debian_packages
from patience import until
from standins import apt
from triton_env.runtimes.ports import free_port, is_listened_on

_FOR_ROOT = Path("/run/sshd")
"""An empty folder, which sshd wants there where it runs as root."""
_SERVER = """
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host
PidFile none
AuthorizedKeysFile {folder}/authorized
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
MaxStartups 100
"""
_CLIENT = """
Host *
    IdentityFile {folder}/key
    IdentitiesOnly yes
    UserKnownHostsFile {folder}/known
    GlobalKnownHostsFile /dev/null
"""


_PACKAGES = "packages"


def client_problem() -> str:
    """Why there is no ssh on this machine, where it cannot be installed; empty where it is there."""
    return apt.require("ssh-keygen", "openssh-client") or apt.require("ssh", "openssh-client")


@dataclass(frozen=True, slots=True)
class SshServer:
    """
    Attributes:
        port: on 127.0.0.1.
        folder: its keys and files.
        path: PATH with an `ssh` that has the tests' configuration. OpenSSH looks for that in the home that the system
            knows of, whatever HOME says.
    """

    port: int
    folder: Path
    path: str

    def url(self, port: int = 0) -> str:
        """For DOCKER_HOST; the port of a proxy before it, where there is one."""
        port = port or self.port
        host = (self.folder / "host.pub").read_text()
        known = self.folder / "known"
        with known.open("a") as file:
            file.write(f"[127.0.0.1]:{port} {host}")
        return f"ssh://{getpass.getuser()}@127.0.0.1:{port}"


@contextmanager
def ssh_server(folder: Path) -> Iterator[SshServer]:
    """Run it until the block ends."""
    if problem := client_problem():
        pytest.fail(problem, pytrace=False)
    program, variables = _program(folder)
    for name in ("key", "host"):
        words = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name))
        subprocess.run(words, check=True)
    shutil.copy(folder / "key.pub", folder / "authorized")
    port = free_port("127.0.0.1")
    (folder / "sshd_config").write_text(_SERVER.format(port=port, folder=folder) + _parts(folder / _PACKAGES))
    (folder / "ssh_config").write_text(_CLIENT.format(folder=folder))
    (folder / "bin").mkdir()
    client = folder / "bin" / "ssh"
    client.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {folder}/ssh_config "$@"\n')
    client.chmod(0o755)
    command = [*_as_root(folder), program, "-D", "-e", "-f", str(folder / "sshd_config")]
    with (folder / "sshd.log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log, stdin=subprocess.DEVNULL, env={**os.environ, **variables})
    try:
        assert until(lambda: is_listened_on("127.0.0.1", port) or process.poll() is not None)
        assert process.poll() is None, (folder / "sshd.log").read_text()
        yield SshServer(port, folder, f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")
    finally:
        process.terminate()
        process.wait()


def _program(folder: Path) -> tuple[str, dict[str, str]]:
    """The path of sshd, and variables that it needs."""
    if found := shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin"):
        return found, {}
    if not debian_packages.can_be_had():
        pytest.fail("there is no sshd, and no apt-get that could bring one", pytrace=False)
    packages = folder / _PACKAGES
    packages.mkdir()
    variables = debian_packages.unpacked(packages, "openssh-server")
    return str(packages / "usr/sbin/sshd"), dict(variables)


def _parts(packages: Path) -> str:
    """Where the programs are that sshd has for connections since 9.8 (Debian 13), and which it looks for in /usr."""
    places = {name: packages / f"usr/lib/openssh/sshd-{name}" for name in ("session", "auth")}
    return "".join(f"Sshd{name.title()}Path {place}\n" for name, place in places.items() if place.exists())


def _as_root(folder: Path) -> list[str]:
    """What has to come before the command where it runs as root: then it wants a folder, and a user of its own."""
    if os.geteuid() != 0:
        return []
    _FOR_ROOT.mkdir(mode=0o755, exist_ok=True)
    users = Path("/etc/passwd").read_text()
    if "\nsshd:" in users:
        return []
    # Seen by sshd alone.
    (folder / "passwd").write_text(f"{users.rstrip()}\nsshd:x:65533:65534::{_FOR_ROOT}:/usr/sbin/nologin\n")
    return ["unshare", "--mount", "sh", "-c", f'mount --bind {folder}/passwd /etc/passwd && exec "$0" "$@"']


def main() -> None:
    if problem := client_problem():
        print(problem, file=sys.stderr)
        # Its tests fail where there is an engine; CI has one.
        sys.exit(bool(os.environ.get("CI")))


if __name__ == "__main__":
    main()
