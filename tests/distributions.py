"""Distributions that bring services, installed for a while: in a folder of their own, which is on the path then."""

import importlib
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from triton_env.services import SERVICES


@contextmanager
def on_path(folder: Path) -> Iterator[Path]:
    """Have this process find the distributions in a folder, and forget them at the end of the block."""
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        importlib.invalidate_caches()
        found, loaded = vars(SERVICES).pop("_points", None), dict(SERVICES._others)
        try:
            yield folder
        finally:
            vars(SERVICES).pop("_points", None)
            if found is not None:
                vars(SERVICES)["_points"] = found
            SERVICES._others.clear()
            SERVICES._others.update(loaded)
            for name in set(sys.modules) - before:
                if str(getattr(sys.modules[name], "__file__", None) or "").startswith(f"{folder}/"):
                    del sys.modules[name]


def write(folder: Path, name: str, modules: Mapping[str, str], services: Mapping[str, str]) -> Path:
    """Write what pip leaves of a distribution of version 1.2.

    Args:
        folder: which is made where it is missing.
        name: of the distribution.
        modules: their text, by their files.
        services: what its entry points lead to, by the names of services.
    """
    about = folder / f"{name.replace('-', '_')}-1.2.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    points = "".join(f"{service} = {place}\n" for service, place in services.items())
    (about / "entry_points.txt").write_text(f"[triton_env.services]\n{points}")
    for file, text in modules.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(text)
    return folder


def unpacked(project: Path, folder: Path) -> Path:
    """The wheel of a project, as pip leaves it in a folder. It needs neither pip nor an index."""
    (built,) = WheelBuilder(str(project)).build(directory=str(folder / "wheel"), versions=["standard"])
    with zipfile.ZipFile(built) as archive:
        archive.extractall(folder / "site-packages")
    return folder / "site-packages"


BARE = '''
"""A service that offers nothing but a recipe."""

import socket

from triton_env.archive.manifest import SavedService
from triton_env.core.model import ContainerRecipe, ProcessRecipe
from triton_env.core.setting_types import Name, PortNumber, Seconds
from triton_env.core.settings_group import Role, SettingsGroup, setting, with_fields
from triton_env.services import Service

SERVER = """
import socketserver, sys

class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(b"bare 1.0")

with socketserver.ThreadingTCPServer((sys.argv[1], int(sys.argv[2])), Handler) as server:
    print("bare serves", flush=True)
    server.serve_forever()
"""


@with_fields
class BareSettings(SettingsGroup):
    service = "bare"

    bare_port: PortNumber = setting(Role.PORT, "Port.", default=7007, protocol="line")
    triton_bare_timeout: Seconds = setting(Role.TIMEOUT, "Seconds.", default=900)
    bare_image: Name = setting(Role.IMAGE, "Image.", default="triton-env.invalid/bare:1")


class Bare(Service):
    name = "bare"
    title = "Bare"
    settings_group = BareSettings

    @classmethod
    def recipe(cls, settings):
        image = settings.group(BareSettings).bare_image
        argv = ("{python}", "-S", "-E", "{file:server.py}", "{host}", "{port:line}")
        return cls._recipe(
            settings,
            container=ContainerRecipe(image=image, image_variable="BARE_IMAGE", alias="bare", environment={}),
            process=ProcessRecipe(argv=argv, requires=(), files={"server.py": SERVER}),
        )

    def server_version(self):
        with socket.create_connection((self.host, self.port), 30) as connection:
            return connection.recv(100).decode().removeprefix("bare ")

    def ensure_ready(self):
        assert self.server_version() == "1.0"

    def _url(self, endpoint):
        return f"bare://{endpoint}"


def save(service, *_):
    return SavedService(service.server_version())


class Misnamed(Bare):
    name = "other"
'''


@contextmanager
def bare(folder: Path) -> Iterator[Path]:
    """Have a distribution installed that brings a service which offers nothing but a recipe, and broken ones.

    Args:
        folder: an empty one.
    """
    services = {
        "bare": "triton_bare:Bare",
        "broken": "triton_absent:Service",
        "misnamed": "triton_bare:Misnamed",
        "nothing": "triton_bare:MODULE",
    }
    with on_path(write(folder, "triton-bare", {"triton_bare.py": BARE}, services)):
        yield folder
