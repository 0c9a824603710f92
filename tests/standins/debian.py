"""A Debian system as the bottom of a stand-in: mmdebstrap makes it, `docker load` takes it, no registry involved."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import tomllib
from pathlib import Path

import apt
import engine
from engine import BuildError
from recipes import REPOSITORY, Standin

# Part of the content hash: raise it when this module starts to make a different system from the same recipe.
REVISION = "2"

CA_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
)
# Paths of this machine that mean nothing inside the new system, or that the build sets itself.
FOREIGN_VARIABLES = re.compile(
    r"(PIP|UV)_(FIND_LINKS|CERT|CACHE_DIR|CONFIG_FILE|TARGET|PREFIX|REQUIRE_VIRTUALENV)|UV_(PYTHON|PROJECT)\w*"
    r"|VIRTUAL_ENV|PYTHON\w+|SSL_CERT_\w+|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|TMPDIR|LC_\w+|LANG"
)
LEFT_OUT = (
    "/usr/share/man/*",
    "/usr/share/info/*",
    "/usr/share/doc/*",
    "/usr/share/lintian/*",
    "/usr/share/bash-completion/*",
)
LOCALES = "/usr/share/locale/*"
INSIDE = "/standin-build"


def require_mmdebstrap() -> None:
    """Install mmdebstrap where that is possible.

    Raises:
        BuildError: it is missing and cannot be installed from here.
    """
    if problem := apt.require("mmdebstrap", "mmdebstrap", "debian-archive-keyring"):
        raise BuildError(f"The stand-in images are built with mmdebstrap. {problem}")


def make_system(standin: Standin, inputs: str) -> None:
    """Make the stand-in's Debian system and hand it to the engine as the first of its images."""
    with tempfile.TemporaryDirectory(prefix="triton-env-standin-") as scratch:
        build_files = Path(scratch)
        _write_build_files(standin, build_files / "files")
        system, log = build_files / "system.tar", build_files / "log"
        with log.open("wb") as words:
            command = _mmdebstrap(standin, build_files / "files", system)
            made = subprocess.run(command, stdout=words, stderr=words, env=_environment(), check=False)
        if made.returncode != 0:
            tail = log.read_text(errors="replace").strip().splitlines()[-25:]
            raise BuildError("the Debian system could not be made:\n  " + "\n  ".join(tail))
        engine.load_system(system, standin.images[0], inputs)


def _mmdebstrap(standin: Standin, build_files: Path, system: Path) -> list[str]:
    command = ["mmdebstrap", "--variant=essential", f"--include={','.join(standin.packages)}"]
    command += ["--dpkgopt=force-unsafe-io", "--dpkgopt=force-confold"]
    # Images have folders in /run that belong to their server's user.
    command += ["--skip=cleanup/run"]
    command += [f"--dpkgopt=path-exclude={pattern}" for pattern in (*LEFT_OUT, LOCALES, *standin.left_out)]
    command += ["--dpkgopt=path-include=/usr/share/locale/locale.alias"]
    command += [f'--essential-hook=cp -r {shlex.quote(str(build_files))} "$1{INSIDE}"']
    if standin.before_packages:
        command += [f'--essential-hook=chroot "$1" /bin/bash -eu {INSIDE}/before-packages.sh']
    if standin.after_packages:
        command += [f'--customize-hook=chroot "$1" /bin/bash -eu {INSIDE}/after-packages.sh']
    for target, path in standin.images[0].files:
        mode = f"{engine.file_mode(path):o}"
        command += [f'--customize-hook=install -D -m {mode} {shlex.quote(str(path))} "$1{target}"']
    command += [f'--customize-hook=chroot "$1" /bin/sh -eu {INSIDE}/clean.sh', f'--customize-hook=rm -rf "$1{INSIDE}"']
    return [*command, standin.suite, str(system), *own_mirrors(standin.suite)]


def _write_build_files(standin: Standin, files: Path) -> None:
    """Everything that is copied into the system for the time of its making, and removed from it at the end."""
    files.mkdir()
    for script in (standin.before_packages, standin.after_packages):
        if script:
            shutil.copy(script, files / script.name)
    if standin.python_packages:
        (files / "requirements.txt").write_text("\n".join(pinned_requirements(standin.python_packages)) + "\n")
    bundle = ca_bundle()
    if bundle:
        shutil.copy(bundle, files / "ca.crt")
    patterns = " ".join(LEFT_OUT)
    (files / "clean.sh").write_text(
        f"rm -rf {patterns} {LOCALES} /var/log/* /var/cache/* /var/lib/apt/lists/*\n"
        "rm -rf /etc/dpkg/dpkg.cfg.d/99mmdebstrap /etc/resolv.conf /root/.cache\n"
    )


def _environment() -> dict[str, str]:
    """This machine's environment for the tools inside the new system: index and proxy settings, no paths."""
    environment = {name: value for name, value in os.environ.items() if not FOREIGN_VARIABLES.fullmatch(name)}
    environment |= {"LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive", "HOME": "/root"}
    if ca_bundle():
        inside = f"{INSIDE}/ca.crt"
        environment |= {"SSL_CERT_FILE": inside, "PIP_CERT": inside, "REQUESTS_CA_BUNDLE": inside}
    index = own_package_index()
    if index:
        environment |= {"PIP_INDEX_URL": index, "UV_DEFAULT_INDEX": index}
    return environment


def ca_bundle() -> str | None:
    """The file of certificates that this machine trusts, by its own settings or in the usual place."""
    named = (os.environ.get(name, "") for name in ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE"))
    return next((path for path in (*named, *CA_BUNDLES) if path and Path(path).is_file()), None)


def own_mirrors(suite: str) -> list[str]:
    """Source lines for the mirrors that this machine, if it is a Debian, takes its own packages from; else none.

    Without them mmdebstrap takes its default mirror, updates and security included.
    """
    if shutil.which("apt-get") is None:
        return []
    command = ["apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)", "Identifier: Packages", "Origin: Debian"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split("\n")
    mirrors = {label: uri for label, _, uri in (line.partition(" ") for line in listed)}
    if "Debian" not in mirrors:
        return []
    lines = [f"deb {mirrors['Debian']} {name} main" for name in (suite, f"{suite}-updates")]
    if "Debian-Security" in mirrors:
        lines.append(f"deb {mirrors['Debian-Security']} {suite}-security main")
    return lines


def own_package_index() -> str | None:
    """The Python package index that this machine's settings name, or None when it is the tools' default."""
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"):
        if os.environ.get(name):
            return os.environ[name]
    settings = configparser.ConfigParser(interpolation=None)
    home = Path.home()
    named = os.environ.get("PIP_CONFIG_FILE", os.devnull)
    own = (home / ".pip/pip.conf", home / ".config/pip/pip.conf")
    settings.read(["/etc/xdg/pip/pip.conf", "/etc/pip.conf", *own, named])
    return settings.get("global", "index-url", fallback=None)


def pinned_requirements(packages: tuple[str, ...]) -> list[str]:
    """Each of the packages, at the version of this project's lock file.

    Raises:
        BuildError: the lock file does not know one of them.
    """
    locked = tomllib.loads((REPOSITORY / "uv.lock").read_text(encoding="utf-8"))["package"]
    versions = {package["name"]: package.get("version") for package in locked}
    unknown = sorted(set(packages) - set(versions))
    if unknown:
        raise BuildError(f"uv.lock has no {', '.join(unknown)}")
    return [f"{name}=={versions[name]}" for name in packages]
