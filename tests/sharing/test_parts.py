"""Keys, orders, failures and locks: the parts of sharing, without a server."""

import json
import os
from pathlib import Path

import pytest

from triton_env import Settings, errors
from triton_env.core.model import Storage
from triton_env.core.setting_types import SecretStr
from triton_env.errors import ImageUnavailable, ServiceNotSelected, StartFailed, TritonError
from triton_env.services import SERVICES
from triton_env.sharing import failure
from triton_env.sharing.key import key_of, settings_as_data, settings_from_data
from triton_env.sharing.shared_registry import LaunchSpec, SharedRegistry
from triton_env.state import locks

ALL = tuple(SERVICES)


def key(services: tuple[str, ...] = ALL, runtime: str = "embedded", suffix: str = "", **values: object) -> str:
    return key_of(Settings(**values), services, runtime, suffix)  # type: ignore[arg-type]


def test_the_same_request_has_the_same_key() -> None:
    assert key() == key()
    assert key(("redis", "postgres")) == key(("postgres", "redis"))


@pytest.mark.parametrize(
    "values",
    [
        {"triton_progress": "off"},
        {"triton_linger": 3},
        {"triton_s3_timeout": 7},
        {"postgres_password": "other"},  # of persistent services
        {"postgres_port": 15432},  # ports are random
        {"log_level": "DEBUG"},
    ],
)
def test_what_makes_no_difference(values: dict[str, object]) -> None:
    assert key(**values) == key()


@pytest.mark.parametrize(
    "values",
    [
        {"services": ("redis",)},
        {"runtime": "auto"},
        {"suffix": "run-1"},
        {"postgres_db": "other"},
        {"s3_bucket": "other"},
        {"clickhouse_db": "other"},
        {"postgres_image": "postgres:16"},
        {"triton_storage": "disk"},
        {"triton_ports": "fixed"},
        {"triton_bind_address": "127.0.0.2"},
        {"aws_default_region": "eu-central-1"},
        {"triton_postgres_options": "work_mem=5MB"},
        {"triton_clickhouse_options": "profiles.default.max_threads=2"},
        {"triton_redis_options": "maxmemory=5mb"},
        {"triton_postgres_bin": "/opt/postgresql/bin"},
    ],
)
def test_what_makes_a_difference(values: dict[str, object]) -> None:
    assert key(**values) != key()  # type: ignore[arg-type]


def test_programs_of_this_machine_make_no_difference_to_containers() -> None:
    assert key(runtime="docker", triton_postgres_bin="/opt/postgresql/bin") == key(runtime="docker")
    assert key(runtime="docker", triton_postgres_options="work_mem=5MB") != key(runtime="docker")


def test_fixed_ports_and_the_engine_make_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    assert key(triton_ports="fixed", redis_port=16379) != key(triton_ports="fixed")
    before = key()
    monkeypatch.setenv("DOCKER_HOST", "tcp://elsewhere:2375")
    assert key() != before


def test_no_secret_is_in_a_key_by_chance() -> None:
    # Keys are names of folders: they reveal nothing, since fresh credentials are left out.
    assert len(key()) == 16
    assert set(key()) <= set("0123456789abcdef")


def test_settings_survive_as_data(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(triton_storage="disk", triton_pull_timeout=1.5, redis_password="s3cret", debug_mode=True)
    data = json.loads(json.dumps(settings_as_data(settings)))
    monkeypatch.setenv("POSTGRES_DB", "from_the_environment")
    assert settings_from_data(data) == settings
    assert settings_from_data(data).triton_storage is Storage.DISK
    assert settings_from_data(data).redis_password == SecretStr("s3cret")


def test_an_order_is_read_as_it_was_written_by_its_user_alone(tmp_path: Path) -> None:
    settings = Settings(triton_state_dir=str(tmp_path), redis_password="s3cret")
    spec = LaunchSpec(
        id="0123abcd",
        group="g\0/folder",
        services=("redis",),
        runtime="embedded",
        linger=0.5,
        project="/folder",
        settings=settings_as_data(settings),
        credentials=("redis_password",),
        path=("", "/somewhere"),
    )
    registry = SharedRegistry(settings)
    instance = registry.instance("0123456789abcdef", "0123abcd")
    with registry.turn():
        instance.write(spec)
    assert instance.spec() == spec
    assert spec.of(Settings()).redis_password == SecretStr("s3cret")
    assert {path.stat().st_mode & 0o777 for path in instance.folder.iterdir()} == {0o600}
    assert instance.folder.stat().st_mode & 0o777 == 0o700
    assert registry.sweep() == (instance,)
    assert registry.instances() == ()


def test_an_error_is_the_same_on_the_other_side() -> None:
    error = ImageUnavailable("No image.", where="IMAGE", cause="none", log_tail="a\nb", hint="pull it")
    error.add_note("and something is left")
    other = failure.from_data(json.loads(json.dumps(failure.as_data(error))))
    assert type(other) is ImageUnavailable
    assert str(other) == str(error)
    assert other.__notes__ == ["and something is left"]


def test_an_error_with_words_of_its_own_is_the_same_too() -> None:
    error = ServiceNotSelected("redis", ("postgres",))
    other = failure.from_data(failure.as_data(error))
    assert type(other) is ServiceNotSelected
    assert str(other) == str(error)


def test_every_error_can_be_passed_on() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, TritonError)]
    for kind in kinds:
        error = kind.__new__(kind)
        TritonError.__init__(error, "It broke.")
        assert type(failure.from_data(failure.as_data(error))) is kind


def test_what_is_no_error_of_ours_is_reported_as_one() -> None:
    other = failure.from_data(failure.as_data(ValueError("of a library")))
    assert type(other) is StartFailed
    assert "ValueError: of a library" in str(other)


def test_a_forked_child_holds_nothing_and_takes_nothing_away(tmp_path: Path) -> None:
    held = locks.hold(tmp_path / "file")
    pid = os.fork()
    if pid == 0:
        # In the child: its own release does nothing, and it holds no copy.
        held.release(remove=True)
        os._exit(0 if not held.is_locked and held.path.exists() else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert locks.is_held(held.path)
    held.release()
    assert not locks.is_held(held.path)


def test_a_child_that_lives_on_does_not_hold_what_its_parent_gave_back(tmp_path: Path) -> None:
    held = locks.hold(tmp_path / "file")
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    os.close(reading)
    held.release()
    assert not locks.is_held(held.path)
    os.close(writing)
    os.waitpid(pid, 0)


def test_a_lock_that_nobody_keeps_is_given_back(tmp_path: Path) -> None:
    held = locks.hold(tmp_path / "file")
    with pytest.raises(BlockingIOError):
        locks.hold(tmp_path / "file", timeout=0)
    del held
    assert not locks.is_held(tmp_path / "file")
