"""A registry that wants a password: the real one of Debian, on loopback. What is pulled from it is what is created."""

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from uuid import uuid4

import docker
import pytest

import debian_packages
from patience import until
from projects import project
from triton_env import Settings, TritonEnvironment
from triton_env.cli.docker_checks import examine
from triton_env.errors import ImageUnavailable
from triton_env.runtimes.docker.engine import Engine
from triton_env.runtimes.docker.pulling import ensure_image
from triton_env.runtimes.ports import free_port, is_listened_on

pytestmark = pytest.mark.docker

USER, PASSWORD = "someone", "open sesame"
_HASH = "$2y$04$abcdefghijklmnopqrstuu/LVz6MZlItEy42I2juLihZ66HnQx/cy"
"""Of that password, as htpasswd has it."""
_CONFIGURATION = """
version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: {folder}/images}}}}
http: {{addr: "{address}"}}
auth: {{htpasswd: {{realm: tests, path: {folder}/htpasswd}}}}
"""
_HELPER = """#!/bin/sh
test "$1" = get || exit 1
read -r server
test "$server" = "{address}" || {{ echo "credentials not found in native keychain"; exit 1; }}
echo '{{"ServerURL": "{address}", "Username": "{user}", "Secret": "{password}"}}'
"""


@dataclass(frozen=True, slots=True)
class Registry:
    """
    Attributes:
        address: its host and port.
        name: of an image that it has and the engine has not.
    """

    address: str
    name: str

    @property
    def prefix(self) -> str:
        return f"{self.address}/hub/"


def _program(folder: Path) -> tuple[str, dict[str, str]]:
    if found := shutil.which("docker-registry"):
        return found, {}
    if not debian_packages.can_be_had():
        pytest.fail("there is no docker-registry, and no apt-get that could bring one", pytrace=False)
    return str(folder / "usr/bin/docker-registry"), dict(debian_packages.unpacked(folder, "docker-registry"))


@pytest.fixture(scope="module")
def registry(engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    folder = tmp_path_factory.mktemp("registry")
    program, variables = _program(tmp_path_factory.mktemp("packages"))
    port = free_port("127.0.0.1")
    here = Registry(f"127.0.0.1:{port}", f"redis-{uuid4().hex}:1")
    (folder / "htpasswd").write_text(f"{USER}:{_HASH}\n")
    (folder / "config.yml").write_text(_CONFIGURATION.format(folder=folder, address=here.address))
    process = subprocess.Popen(
        [program, "serve", str(folder / "config.yml")],
        env={**os.environ, **variables, "OTEL_TRACES_EXPORTER": "none"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert until(lambda: is_listened_on("127.0.0.1", port) or process.poll() is not None)
        assert process.poll() is None
        engine.images.get(Settings().redis_image).tag(here.prefix + here.name)
        login = {"username": USER, "password": PASSWORD}
        for line in engine.api.push(here.prefix + here.name, auth_config=login, stream=True, decode=True):
            assert "error" not in line, line
        engine.images.remove(here.prefix + here.name)
        yield here
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(autouse=True)
def prefixed(registry: Registry, engine: docker.DockerClient, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TESTCONTAINERS_HUB_IMAGE_NAME_PREFIX", registry.prefix)
    yield
    if engine.images.list(registry.prefix + registry.name):
        engine.images.remove(registry.prefix + registry.name)


Configure = Callable[[str], None]


@pytest.fixture
def configured(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configure:
    """Writes the docker command's configuration, with the credentials in a place of it."""

    def write(place: str) -> None:
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
        helper = tmp_path / "docker-credential-tests"
        helper.write_text(_HELPER.format(address=registry.address, user=USER, password=PASSWORD))
        helper.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        contents = {
            "auths": {"auths": {registry.address: {"auth": login}}},
            "credHelpers": {"credHelpers": {registry.address: "tests"}},
            "credsStore": {"auths": {registry.address: {}}, "credsStore": "tests"},
            "nowhere": {},
        }
        (tmp_path / "config.json").write_text(json.dumps(contents[place]))

    return write


def test_a_session_and_a_project_pull_and_create_under_one_name(
    registry: Registry, engine: docker.DockerClient, configured: Configure
) -> None:
    configured("auths")
    with TritonEnvironment(Settings(redis_image=registry.name), services=("redis",), runtime="docker") as env:
        container = engine.containers.get(f"triton-{env.id}-redis")
        assert container.attrs["Config"]["Image"] == registry.prefix + registry.name
    # Compose and what looks into volumes create from it too. They pull nothing themselves.
    engine.images.remove(registry.prefix + registry.name)
    with (
        project(redis_image=registry.name) as settings,
        TritonEnvironment(settings, services=("redis",), persistent=True) as env,
    ):
        assert env.redis.client().ping()
        filters = {"label": f"com.docker.compose.project={settings.triton_project}"}
        (container,) = engine.containers.list(filters=filters)
        assert container.attrs["Config"]["Image"] == registry.prefix + registry.name


@pytest.mark.parametrize("place", ["auths", "credHelpers", "credsStore"])
def test_credentials_are_found_where_the_docker_command_keeps_them(
    registry: Registry, configured: Configure, place: str
) -> None:
    configured(place)
    engine = Engine()
    try:
        ensure_image(engine, registry.prefix + registry.name, "REDIS_IMAGE", Settings(), lambda words: None, Event())
        assert engine.image(registry.prefix + registry.name)
    finally:
        engine.close()


def test_without_credentials_the_error_and_doctor_name_the_registry(registry: Registry, configured: Configure) -> None:
    configured("nowhere")
    settings = Settings(redis_image=registry.name)
    with pytest.raises(ImageUnavailable) as caught:
        TritonEnvironment(settings, services=("redis",), runtime="docker").start()
    error = caught.value
    assert registry.prefix + registry.name in error.what
    assert f"TESTCONTAINERS_HUB_IMAGE_NAME_PREFIX={registry.prefix}" in error.where
    assert "no basic auth credentials" in error.cause
    assert error.hint.startswith(f"docker login {registry.address}")
    engine = Engine()
    try:
        words = [finding.words for finding in examine(engine, settings, ["redis"])]
    finally:
        engine.close()
    assert any(registry.prefix in each and "TESTCONTAINERS_HUB_IMAGE_NAME_PREFIX" in each for each in words)
    assert any(each.startswith(f"{registry.prefix}{registry.name} is not on the engine") for each in words)
