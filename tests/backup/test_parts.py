"""A service is saved and restored by the parts that it names, and mistakes of the program are shown as they are."""

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backup.conftest import Started
from backup.forging import Change, rewritten
from triton_env import S3, Redis, TritonEnvironment, backup
from triton_env.archive.records import Record, write_record
from triton_env.backup import Step
from triton_env.core.model import TakesOver
from triton_env.core.programming_errors import PROGRAMMING_ERRORS
from triton_env.errors import NotOffered, RestoreFailed
from triton_env.services.redis import backup as redis_backup
from triton_env.services.redis.restore import RedisRestorer
from triton_env.services.redis.takeover import RedisTakeover

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def env(started: Started) -> TritonEnvironment:
    environment = started("embedded", "redis", "s3")
    with environment.redis.client() as redis:
        redis.set("old", 1)
    environment.s3.client().put_object(Bucket=environment.s3.bucket, Key="old", Body=b"old")
    return environment


@pytest.fixture(scope="module")
def archive(env: TritonEnvironment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("backup") / "both.backup"
    backup.create(env, path)
    return path


def look(env: TritonEnvironment) -> dict[str, Any]:
    with env.redis.client() as redis:
        found: dict[str, Any] = {"keyspace": redis.info("keyspace"), "old": redis.get("old")}
    for bucket in env.s3.client().list_buckets()["Buckets"]:
        listed = env.s3.client().list_objects_v2(Bucket=bucket["Name"]).get("Contents", ())
        found[bucket["Name"]] = [each["Key"] for each in listed]
    return found


@pytest.fixture
def unchanged(env: TritonEnvironment) -> Iterator[None]:
    """What is there before the test is there after it."""
    before = look(env)
    yield
    assert look(env) == before


@pytest.mark.usefixtures("unchanged")
class TestServiceWithoutBackup:
    @pytest.fixture(autouse=True)
    def without(self, monkeypatch: pytest.MonkeyPatch, archive: Path) -> None:
        """Redis offers none of it, once the backup is there."""
        parts = replace(Redis.parts, saver="", restorer="", takeover="", remains="")
        monkeypatch.setattr(Redis, "parts", parts)

    def test_a_backup_without_names_has_the_others_and_a_note(self, env: TritonEnvironment, tmp_path: Path) -> None:
        steps: list[Step] = []
        manifest = backup.create(env, tmp_path / "a", report=steps.append)
        assert list(manifest.services) == ["s3"]
        assert [step for step in steps if step.note] == [
            Step("redis", "not saved, since it offers no backup", note=True)
        ]

    def test_it_is_refused_by_name(self, env: TritonEnvironment, tmp_path: Path) -> None:
        with pytest.raises(NotOffered, match="Redis offers no backup, so it cannot be saved"):
            backup.create(env, tmp_path / "a", services=("redis", "s3"))
        assert list(tmp_path.iterdir()) == []

    def test_it_is_refused_before_others_are_restored(self, env: TritonEnvironment, archive: Path) -> None:
        with pytest.raises(NotOffered, match="Redis offers no backup, so it cannot be restored"):
            backup.restore(env, archive, replace=True)

    def test_an_environment_of_such_services_alone_has_no_backup(
        self, env: TritonEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(S3, "parts", replace(S3.parts, saver=""))
        with pytest.raises(NotOffered, match="No service of this environment offers a backup"):
            backup.create(env, tmp_path / "a")


@pytest.mark.usefixtures("unchanged")
def test_one_service_at_most_takes_over_for_good(
    env: TritonEnvironment, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for service in (Redis, S3):
        monkeypatch.setattr(service, "takes_over", TakesOver.FOR_GOOD)
    with pytest.raises(NotOffered, match="Redis and S3 cannot be restored together"):
        backup.restore(env, archive, replace=True)


@pytest.mark.usefixtures("unchanged")
class TestMistakeOfTheProgram:
    """It passes as it is, without a word about the server, and what was begun is taken back."""

    def test_while_a_service_is_saved(
        self, env: TritonEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for kind in PROGRAMMING_ERRORS:
            mistake = kind("memo")

            def fail(*_: object, mistake: Exception = mistake) -> None:
                raise mistake

            monkeypatch.setattr(redis_backup, "save", fail)
            with pytest.raises(kind) as raised:
                backup.create(env, tmp_path / "a")
            assert raised.value is mistake
            assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("step", ["check", "present", "plan", "stage", "swap"])
    def test_in_each_step_of_a_restore(
        self, env: TritonEnvironment, archive: Path, monkeypatch: pytest.MonkeyPatch, step: str
    ) -> None:
        mistake = KeyError("memo")

        def fail(restorer: RedisRestorer) -> None:
            raise mistake

        monkeypatch.setattr(RedisRestorer, step, fail)
        # Only without `replace` it is looked what is there.
        with pytest.raises(KeyError) as raised:
            backup.restore(env, archive, replace=step != "present")
        assert raised.value is mistake

    def test_while_a_restore_is_finished_it_stays_for_the_next(
        self, env: TritonEnvironment, archive: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mistake = AttributeError("memo")

        def fail(takeover: RedisTakeover) -> None:
            raise mistake

        with monkeypatch.context() as broken:
            broken.setattr(RedisTakeover, "finish", fail)
            with pytest.raises(AttributeError) as raised:
                backup.restore(env, archive, replace=True)
        assert raised.value is mistake
        # S3 is finished all the same, and the next restore finishes what is left.
        backup.restore(env, archive, replace=True)


def more(member: str, header: dict[str, Any], *parts: bytes) -> Change:
    """One more record at the end of that member."""

    def changed(name: str, data: bytes) -> bytes:
        out = io.BytesIO()
        write_record(out, Record(header, parts))
        return data + out.getvalue() if name == member else data

    return changed


@pytest.mark.usefixtures("unchanged")
def test_records_of_another_form_are_no_mistake_of_the_program(
    env: TritonEnvironment, archive: Path, tmp_path: Path
) -> None:
    version = {"t": "object", "key": "a", "state": "", "size": 0, "headers": {}, "metadata": {}}
    for header in (
        {"t": ["string"]},
        {"t": "string", "e": "soon"},
        {"t": "pending", "at": 1},
        {"t": "counters", "last": 1},
        {"t": "other"},
        {},
    ):
        path = rewritten(archive, tmp_path / "a", more("redis/database-0.records", header, b"key", b"value"))
        with pytest.raises(RestoreFailed):
            backup.restore(env, path, services=("redis",), replace=True)
    for header in (
        {"t": "object", "key": "a"},
        {"t": "other"},
        {},
        version | {"size": "0"},
        version | {"size": -1},
        version | {"tags": [1]},
        version | {"acl": {}},
        version | {"encryption": {"SSEKMSKeyId": "a"}},
    ):
        path = rewritten(archive, tmp_path / "a", more("s3/bucket-0.records", header))
        with pytest.raises(RestoreFailed, match="something that triton-env does not write"):
            backup.restore(env, path, services=("s3",), replace=True)
