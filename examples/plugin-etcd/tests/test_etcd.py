"""etcd as a service of triton-env: the contract of all services, and what is special to this one."""

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from triton_env import Settings, TritonEnvironment
from triton_env.errors import InvalidSetting
from triton_env.services import SERVICES
from triton_env.settings.unknown_variables import unknown_variables
from triton_env.testing import BackupContract, Contents, IsolationContract, ServiceContract


@pytest.fixture(scope="module", params=[pytest.param("docker", marks=pytest.mark.docker), "embedded"])
def env(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonEnvironment]:
    """etcd beside Redis, on each runtime."""
    if request.param == "docker":
        request.getfixturevalue("images")
    settings = Settings(triton_state_dir=str(tmp_path_factory.mktemp("state")), triton_pool_size=0)
    with TritonEnvironment(settings, services=("redis", "etcd"), runtime=request.param) as environment:
        yield environment


@pytest.fixture
def service_name() -> str:
    return "etcd"


class EtcdContents:
    """A word in a key."""

    files: Mapping[str, str] = {"word": "seeded"}

    def put(self, service: Any, word: str) -> None:
        with service.client() as client:
            client.put("word", word)

    def look(self, service: Any) -> str | None:
        with service.client() as client:
            value = client.get("word")
        return None if value is None else value.decode()

    def remove(self, service: Any) -> None:
        with service.client() as client:
            client.delete("word")


@pytest.fixture
def contents() -> Mapping[str, Contents]:
    return {"etcd": EtcdContents()}


class TestService(ServiceContract):
    """As every service."""


class TestIsolation(IsolationContract):
    """As every service that offers it."""


class TestBackup(BackupContract):
    """As every service that offers it."""


def etcd(of: Any, **items: str) -> dict[bytes, bytes]:
    """What clients of an environment or of a namespace have, once these are put."""
    with of["etcd"].client() as client:
        for key, value in items.items():
            client.put(key, value)
        return {key: value for key, value in client.items().items() if not key.startswith(b"triton_")}


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


def test_versions_that_lose_data_are_a_finding() -> None:
    checks = SERVICES["etcd"].parts.load("checks")
    assert [len(list(checks.of_image(f"quay.io/etcd:{tag}"))) for tag in ("v3.5.2", "3.5.3", "v3.5.20", "v3.6.1")] == [
        *(1, 0, 0, 0)
    ]


def test_its_files_are_values_by_their_paths(env: TritonEnvironment, tmp_path: Path) -> None:
    (tmp_path / "etcd/colors").mkdir(parents=True)
    (tmp_path / "etcd/colors/sky").write_bytes(b"blue\xff")
    with env.namespace(template=tmp_path) as namespace:
        assert etcd(namespace) == {b"colors/sky": b"blue\xff"}
        assert namespace.environ()["ETCD_PREFIX"] == f"{namespace.id}/"


def test_a_snapshot_has_more_keys_than_a_transaction_takes(env: TritonEnvironment) -> None:
    env.reset()
    many = {f"key{number}": str(number) for number in range(300)}
    etcd(env, **many)
    env.snapshot("many")
    etcd(env, key1="other", more="yes")
    env.restore("many")
    assert etcd(env) == {key.encode(): value.encode() for key, value in many.items()}
    env.delete_snapshot("many")
    env.reset()


def test_a_takeover_can_be_taken_back_wherever_its_connection_breaks(
    env: TritonEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    env.reset()


def failing(method: Any) -> Any:
    """Does its work, and then the connection breaks; it fails for the user's keys alone."""

    def fails(client: Any, *arguments: Any) -> None:
        method(client, *arguments)
        if method.__name__ != "fill" or not client._prefix:
            raise ConnectionError(method.__name__)

    return fails


def test_it_shows_keys_and_their_values(env: TritonEnvironment) -> None:
    kind = import_module("triton_etcd.insight").EtcdInsight
    with env.namespace() as namespace, namespace["etcd"].client() as client, closing(kind(env["etcd"])) as insight:
        before = insight.sample()["keys"]
        client.put(b"shown/\xff", b"<b>\xff")
        assert insight.sample()["keys"] == before + 1
        (row,) = insight.table("keys", f"{namespace.id}/shown/").rows
        assert row.cells == (f"{namespace.id}/shown/\\xff",)
        assert row.mark == "namespace"
        (value,) = insight.table(row.opens, row.key).rows
        assert value.cells == ("<b>\\xff",)


def test_what_it_says_about_a_failed_test_is_its_keys(env: TritonEnvironment) -> None:
    diagnostics = env["etcd"].parts.load("diagnostics")
    with env.namespace() as namespace:
        etcd(namespace, color="red")
        assert diagnostics(namespace["etcd"], 10).answer(time.time()) == "color (3 bytes)"


@pytest.fixture
def in_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes find the distribution, and share no state with others."""
    (place,) = import_module("triton_etcd").__path__
    monkeypatch.setenv("PYTHONPATH", str(Path(place).parent), prepend=os.pathsep)
    monkeypatch.setenv("TRITON_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("TRITON_PROGRESS", "off")
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("in_processes")
@pytest.mark.parametrize("runtime", [pytest.param("docker", marks=[pytest.mark.docker, pytest.mark.long]), "embedded"])
def test_etcdctl_is_its_shell(runtime: str, request: pytest.FixtureRequest) -> None:
    if runtime == "docker":
        request.getfixturevalue("images")
    triton_env = [sys.executable, "-m", "triton_env"]
    inside = shlex.join([*triton_env, "etcdctl", "put", "color", "blue"])
    inside += " && " + shlex.join([*triton_env, "etcdctl", "get", "color"])
    command = [*triton_env, "run", "--services", "etcd", "--runtime", runtime, "--", "sh", "-c", inside]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert done.stdout == "OK\ncolor\nblue\n", done.stderr


@pytest.mark.usefixtures("in_processes")
def test_tests_ask_for_it_by_a_fixture(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        """
def test_keys(triton_etcd):
    with triton_etcd.client() as client:
        client.put("color", "blue")
        assert client.items() == {b"color": b"blue"}


def test_its_report(triton_etcd):
    with triton_etcd.client() as client:
        client.put("shape", "round")
    raise AssertionError("to see the report")
"""
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\ntriton_runtime = embedded\n")
    options = ["-p", "triton_env.pytest_plugin", "-p", "triton_etcd.fixtures", "-p", "no:cacheprovider"]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, env=environment)
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert "shape (5 bytes)" in done.stdout
    assert "FAILED test_it.py::test_its_report" in done.stdout
