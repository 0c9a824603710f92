"""A Podman of the tests' own behind its Docker-compatible socket: with its storage, its networks and its configuration.

    with podman(images) as engine:
        ...     # DOCKER_HOST=engine.url

Debian's packages are unpacked in a folder where the machine lacks them. The service runs in namespaces of its own for
processes and mounts, with a /run of its own: all that it starts ends with it, also where the tests are killed, and a
Podman of the machine is not touched. Ports are published on this machine as those of any engine.
"""

import os
import resource
import shutil
import socket
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

import debian_packages
from patience import until

_PACKAGES = ("podman", "netavark", "aardvark-dns", "catatonit", "runc", "slirp4netns", "uidmap")
# Not crun, which refuses cgroups of both versions at once, as some machines have them.
_PLACES = ("usr/bin", "usr/sbin", "usr/lib/podman", "usr/libexec/podman")
_USER = 64_321
"""The number of the user who runs a rootless one. Only its processes know that user by name."""
_SUBORDINATES = "podman:6500000:65536\n"

_CONTAINERS = """
[containers]
default_ulimits = ["nofile={files}:{files}", "nproc={processes}:{processes}"]
seccomp_profile = "{seccomp}"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
init_path = "{catatonit}"
runtime = "runc"
conmon_path = ["{folder}/bin/conmon"]
helper_binaries_dir = ["{helpers}", "{programs}"]
tmp_dir = "{folder}/tmp"
[engine.runtimes]
runc = ["{folder}/bin/runc"]
[network]
network_backend = "netavark"
network_config_dir = "{folder}/networks"
"""
_STORAGE = """
[storage]
driver = "{driver}"
graphroot = "{folder}/storage"
rootless_storage_path = "{folder}/storage"
runroot = "{folder}/run"
"""
_KEPT = """
unshare --mount --propagation private --pid --fork --kill-child --mount-proc sh -c "$0" >{folder}/service.log 2>&1 &
cat
docker="timeout 60 docker --host unix://{folder}/podman.sock"
$docker ps --all --quiet | xargs --no-run-if-empty $docker rm --force --volumes
$docker network ls --quiet --filter type=custom | xargs --no-run-if-empty $docker network rm
kill -KILL $!
wait
rm -rf --one-file-system {folder}
"""
"""Ends the service and removes all of it where the tests close this program's standard input, or are gone.

Containers and networks first: bridges and rules for published ports are of this machine, and would stay.
"""
_SERVICE = """
set -e
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
{more}
exec {catatonit} -- {as_user} {podman} --log-level warn system service --time 0 unix://{folder}/podman.sock
"""
_ROOTLESS = """
cd {folder}
mount --make-rshared /
for file in passwd group subuid subgid; do
    [ -e /etc/$file ] || touch /etc/$file
    mount --bind {folder}/$file /etc/$file
done
# Where it is root's alone, as in some sandboxes.
mount --bind {folder}/tun /dev/net/tun
"""


@dataclass(frozen=True, slots=True)
class Podman:
    """
    Attributes:
        url: for DOCKER_HOST.
        rootless: whether it runs as an ordinary user.
        driver: that of its storage.
    """

    url: str
    rootless: bool
    driver: str


@contextmanager
def podman(images: Sequence[str], *, rootless: bool = False) -> Iterator[Podman]:
    """Run its service until the block ends. Nothing is left of it then.

    Args:
        images: what it gets from the engine of the tests.
    """
    if os.geteuid() != 0:
        pytest.skip("only root can give Podman namespaces and users of its own")
    if not debian_packages.can_be_had():
        pytest.fail("there is no apt-get that could bring Podman", pytrace=False)
    # Where pytest has its folders, an ordinary user cannot pass.
    folder = Path(tempfile.mkdtemp(prefix="triton-podman-"))
    folder.chmod(0o711)
    packages = folder / "packages"
    packages.mkdir()
    try:
        variables = debian_packages.unpacked(packages, *_PACKAGES)
        driver = _prepare(folder, packages, variables, rootless=rootless)
        with _running(folder, packages, variables, rootless=rootless) as url:
            _load(url, images)
            yield Podman(url, rootless, driver)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _prepare(folder: Path, packages: Path, variables: Mapping[str, str], *, rootless: bool) -> str:
    """Write its configuration; the driver of its storage."""
    driver = "overlay" if _can_overlay(folder) else "vfs"
    (folder / "bin").mkdir()
    for name in ("conmon", "runc"):
        # Podman starts them without the variables that it has itself.
        set_all = " ".join(f"{key}='{value}'" for key, value in variables.items())
        (folder / "bin" / name).write_text(f'#!/bin/sh\nexec env {set_all} {_program(packages, name)} "$@"\n')
        (folder / "bin" / name).chmod(0o755)
    (folder / "containers.conf").write_text(
        _CONTAINERS.format(
            folder=folder,
            files=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
            # Podman itself lowers its limit to this.
            processes=int(Path("/proc/sys/kernel/pid_max").read_text()),
            seccomp=_found(packages, "usr/share/containers/seccomp.json"),
            helpers=_program(packages, "netavark").parent,
            programs=_program(packages, "podman").parent,
            catatonit=_program(packages, "catatonit"),
        )
    )
    (folder / "storage.conf").write_text(_STORAGE.format(folder=folder, driver=driver))
    (folder / "registries.conf").write_text("")
    for name in ("home/.config/containers", "networks", "tmp", "run", "storage", "xdg"):
        (folder / name).mkdir(parents=True)
    (folder / "home/.config/containers/policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    if rootless:
        _be_a_user(folder, packages)
    return driver


def _be_a_user(folder: Path, packages: Path) -> None:
    """Make what an ordinary user needs: a name, subordinate ones with the programs that give them, and a TUN device."""
    for kind, line in (
        ("passwd", f"podman:x:{_USER}:{_USER}::{folder}/home:/bin/sh\n"),
        ("group", f"podman:x:{_USER}:\n"),
    ):
        (folder / kind).write_text(f"{Path('/etc', kind).read_text().rstrip()}\n{line}")
    for kind in ("subuid", "subgid"):
        (folder / kind).write_text(_SUBORDINATES)
    for name in ("newuidmap", "newgidmap"):
        shutil.copy(_program(packages, name), folder / "bin" / name)
        (folder / "bin" / name).chmod(0o4755)
    os.mknod(folder / "tun", 0o666 | stat.S_IFCHR, os.makedev(10, 200))
    (folder / "tun").chmod(0o666)
    for path in (folder / "home", *(folder / "home").rglob("*"), *(folder / name for name in ("networks", "tmp"))):
        os.chown(path, _USER, _USER)
    for name in ("run", "storage", "xdg"):
        os.chown(folder / name, _USER, _USER)
    # For its socket.
    os.chown(folder, _USER, _USER)


@contextmanager
def _running(folder: Path, packages: Path, variables: Mapping[str, str], *, rootless: bool) -> Iterator[str]:
    parts = {"folder": folder, "podman": _program(packages, "podman"), "catatonit": _program(packages, "catatonit")}
    as_user = f"setpriv --reuid {_USER} --regid {_USER} --clear-groups --" if rootless else ""
    script = _SERVICE.format(more=_ROOTLESS.format(**parts) if rootless else "", as_user=as_user, **parts)
    path = [str(folder / "bin"), *(str(packages / place) for place in _PLACES), "/usr/sbin", os.environ["PATH"]]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("DOCKER_", "XDG_"))},
        **variables,
        "PATH": os.pathsep.join(path),
        "HOME": str(folder / "home"),
        "CONTAINERS_CONF": str(folder / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
        "CONTAINERS_REGISTRIES_CONF": str(folder / "registries.conf"),
        **({"XDG_RUNTIME_DIR": str(folder / "xdg"), "USER": "podman"} if rootless else {}),
    }
    words = ("sh", "-c", _KEPT.format(folder=folder), script)
    process = subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,
    )
    try:
        path = folder / "podman.sock"
        assert until(lambda: _listens(path)), (folder / "service.log").read_text()
        yield f"unix://{path}"
    finally:
        process.communicate()


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def _load(url: str, images: Sequence[str]) -> None:
    """Have it load images that the engine of the tests has, all in one archive: some share their layers."""
    with subprocess.Popen(("docker", "save", *images), stdout=subprocess.PIPE) as saving:
        words = ("docker", "--host", url, "load", "--quiet")
        done = subprocess.run(words, stdin=saving.stdout, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _can_overlay(folder: Path) -> bool:
    """Whether overlays can be mounted there."""
    for name in ("lower", "upper", "work", "merged"):
        (folder / "probe" / name).mkdir(parents=True)
    options = "lowerdir=lower,upperdir=upper,workdir=work"
    words = ("unshare", "--mount", "mount", "-t", "overlay", "overlay", "-o", options, "merged")
    done = subprocess.run(words, cwd=folder / "probe", capture_output=True, check=False)
    shutil.rmtree(folder / "probe")
    return done.returncode == 0


def _program(packages: Path, name: str) -> Path:
    return _found(packages, *(f"{place}/{name}" for place in _PLACES))


def _found(packages: Path, *paths: str) -> Path:
    """Where a file is: among what was unpacked, or on this machine."""
    for path in paths:
        for root in (packages, Path("/")):
            if (root / path).exists():
                return root / path
    raise AssertionError(f"{paths[0]} came with none of the packages {', '.join(_PACKAGES)}")
