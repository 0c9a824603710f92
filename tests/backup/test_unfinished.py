"""A restore whose process is killed is finished or taken back, for all services alike, by what comes next."""

import json
import os
import signal
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from backup.conftest import Started
from triton_env import Settings, TritonEnvironment, backup
from triton_env.backup import Step, creation, restoration
from triton_env.backup.journal import Entry, Phase, Place
from triton_env.backup.remains import remains_in
from triton_env.errors import RestoreFailed, RestoreUnfinished
from triton_env.prune import look as look_for_leftovers
from triton_env.services import SERVICES
from triton_env.services.clickhouse import restore as clickhouse_restore
from triton_env.services.clickhouse.http import Http
from triton_env.services.redis.takeover import RedisTakeover
from triton_env.services.s3 import takeover as s3_takeover
from triton_env.settings.external import external_id, external_settings
from triton_env.status import ServiceStatus, lost_restore, unfinished_restore

pytestmark = pytest.mark.timeout(300)

ROLES = {"new": "newer", "old": "older"}
KilledAt = Callable[[], Any]


@pytest.fixture(scope="module")
def settings(started: Started, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Of external servers, which are those of `theirs`."""
    theirs = started("embedded")
    known = {name.lower(): value for name, value in theirs.environ().items() if name.lower() in Settings.model_fields}
    return Settings(**known, triton_state_dir=str(tmp_path_factory.mktemp("state")), triton_progress="plain")


@pytest.fixture(scope="module")
def theirs(started: Started, settings: Settings) -> TritonEnvironment:
    """The environment whose servers `settings` lead to. It can run pg_restore, which an external one cannot."""
    return next(each for each in _running(started) if each.redis.port == settings.redis_port)


def _running(started: Started) -> list[TritonEnvironment]:
    from triton_env.core import interrupts

    # One whose cleanup failed in another module's test is living and stopped.
    living = [each for each in interrupts.living() if isinstance(each, TritonEnvironment)]
    return [each for each in living if each._startup is not None]


@pytest.fixture(scope="module")
def place(settings: Settings) -> Place:
    names = tuple(SERVICES)
    return Place(settings, external_id(external_settings(settings, names)), lasting=True)


@pytest.fixture(scope="module")
def archive(theirs: TritonEnvironment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of what `fill` makes of "new"."""
    fill(theirs, "new")
    path = tmp_path_factory.mktemp("backup") / "new.backup"
    backup.create(theirs, path)
    return path


def fill(env: TritonEnvironment, word: str) -> None:
    """Have all services hold this word, in a database of each word too, and nothing else."""
    env.reset()
    with env.postgres.connect(autocommit=True) as connection:
        connection.execute(f"create table t as select '{word}' as word")
        connection.execute(f"create role {ROLES[word]}")
        connection.execute(f"create database of_{word}")
    with env.clickhouse.client() as client:
        client.command("CREATE TABLE t (word String) ENGINE = MergeTree ORDER BY word")
        client.command("CREATE TABLE n (n UInt64) ENGINE = MergeTree ORDER BY n")
        client.command("CREATE MATERIALIZED VIEW v TO n AS SELECT count() AS n FROM t")
        client.command(f"INSERT INTO t VALUES ('{word}')")
        client.command(f"CREATE DATABASE of_{word}")
        client.command(f"CREATE OR REPLACE FUNCTION said AS () -> '{word}'")
    with env.redis.client() as redis, env.redis.client(db=3) as other:
        redis.set("word", word)
        other.set(word, word)
        redis.function_load(f"#!lua name={word}\nredis.register_function('{word}', function() return 1 end)")
    s3 = env.s3.client()
    for bucket in (env.s3.bucket, "another", f"of-{word}"):
        if bucket != env.s3.bucket:
            s3.create_bucket(Bucket=bucket)
        for number in range(3):
            s3.put_object(Bucket=bucket, Key=f"{word}-{number}", Body=word.encode())


def look(env: TritonEnvironment) -> dict[str, Any]:
    """All that the servers hold, with what a restore might leave behind."""
    found: dict[str, Any] = {}
    with env.postgres.connect() as connection:
        found["rows"] = connection.execute("select * from t").fetchall()
        found["databases"] = connection.execute(
            "select datname from pg_database where not datistemplate order by 1"
        ).fetchall()
        roles = "select rolname from pg_roles where rolname in ('newer', 'older') order by 1"
        found["roles"] = [name for (name,) in connection.execute(roles).fetchall()]
    with env.clickhouse.client() as client:
        found["clickhouse"] = client.query("SHOW DATABASES").result_rows
        found["objects"] = client.query(
            "SELECT database, name FROM system.tables WHERE database NOT IN ('system', 'default')"
            " AND database NOT ILIKE 'information_schema' ORDER BY ALL"
        ).result_rows
        found["t"] = client.query("SELECT *, said() FROM t").result_rows
        found["n"] = client.query("SELECT n FROM n").result_rows
    with env.redis.client() as redis:
        found["keyspace"] = {name: about["keys"] for name, about in redis.info("keyspace").items()}
        found["word"] = redis.get("word")
        found["functions"] = [library[1] for library in redis.function_list()]
    s3 = env.s3.client()
    for bucket in s3.list_buckets()["Buckets"]:
        keys = [one["Key"] for one in s3.list_objects_v2(Bucket=bucket["Name"]).get("Contents", ())]
        found[f"bucket {bucket['Name']}"] = keys
    return found


def words_in(env: TritonEnvironment, word: str) -> dict[str, Any]:
    """What `look` has to find where everything is that word's, but for roles, which are never dropped."""
    return {
        "rows": [(word,)],
        "databases": sorted([(f"of_{word}",), ("postgres",), ("triton",)]),
        "t": [(word, word)],
        "n": [(1,)],
        "keyspace": {"db0": 1, "db3": 1},
        "word": word.encode(),
        "functions": [word.encode()],
        **{f"bucket {name}": [f"{word}-{n}" for n in range(3)] for name in (env.s3.bucket, "another", f"of-{word}")},
    }


def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at_step(step: Step) -> KilledAt:
    """Killed when it reports this."""

    def prepare() -> Any:
        return lambda reported: die() if (reported.service, reported.words) == (step.service, step.words) else None

    return prepare


def at_note(phase: Phase, *, before: bool = False, pending: int = 4) -> KilledAt:
    """Killed when it has noted that phase, or is about to."""

    def prepare() -> Any:
        write = Place.write

        def written(self: Place, entry: Entry) -> None:
            is_it = entry.phase is phase and len(entry.pending) == pending
            if is_it and before:
                die()
            write(self, entry)
            if is_it:
                die()

        Place.write = written  # type: ignore[method-assign]

    return prepare


def at_call(module: Any, name: str, number: int = 1) -> KilledAt:
    """Killed after that call of a function."""

    def prepare() -> Any:
        function, calls = getattr(module, name), []

        def counted(*arguments: Any, **named: Any) -> Any:
            answer = function(*arguments, **named)
            calls.append(1)
            if len(calls) == number:
                die()
            return answer

        setattr(module, name, counted)

    return prepare


def killed(point: KilledAt, action: Callable[[Any], object]) -> None:
    """Do it in a process of its own, which is killed at that point. What it patches is its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # about forks of processes with threads
        child = os.fork()
    if child == 0:
        try:
            action(point() or (lambda step: None))
        finally:
            os._exit(3)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), f"it was not killed, but ended with {status}"


@pytest.fixture
def restoring(theirs: TritonEnvironment, place: Place, archive: Path) -> Iterator[Callable[[KilledAt], None]]:
    """Fills the servers with "old", and kills a restore of "new" at some point."""

    def restore(report: Any) -> None:
        backup.restore(theirs, archive, replace=True, report=report)

    with patch.object(restoration, "place_of", lambda env: place):
        yield lambda point: (fill(theirs, "old"), killed(point, restore))[1]  # type: ignore[func-returns-value]


STAGING, TAKING_OVER, COUNTS = ("anything was replaced", "is to be taken back", "is to be finished")


@pytest.mark.parametrize(
    ("point", "said", "word"),
    [
        pytest.param(at_note(Phase.STAGING), STAGING, "old", id="before anything is loaded", marks=pytest.mark.long),
        pytest.param(
            at_step(Step("s3", "bucket another")), STAGING, "old", id="while S3 is loaded", marks=pytest.mark.long
        ),
        pytest.param(at_note(Phase.TAKING_OVER), TAKING_OVER, "old", id="when all is loaded", marks=pytest.mark.long),
        pytest.param(at_call(clickhouse_restore, "rename", 2), TAKING_OVER, "old", id="within ClickHouse"),
        pytest.param(
            at_step(Step("redis", "restored")), TAKING_OVER, "old", id="before PostgreSQL", marks=pytest.mark.long
        ),
        pytest.param(at_note(Phase.COMMITTING), "finished or taken back", "old", id="at PostgreSQL"),
        pytest.param(
            *(at_note(Phase.COMMITTED, before=True), "finished or taken back", "new"),
            id="after PostgreSQL",
            marks=pytest.mark.long,
        ),
        pytest.param(at_note(Phase.COMMITTED), COUNTS, "new", id="when it counts", marks=pytest.mark.long),
        pytest.param(at_call(s3_takeover, "remove_bucket", 1), COUNTS, "new", id="within S3"),
        pytest.param(
            at_call(s3_takeover, "remove_bucket", 3), COUNTS, "new", id="further within S3", marks=pytest.mark.long
        ),
        pytest.param(
            at_note(Phase.COMMITTED, pending=2), COUNTS, "new", id="while the old is removed", marks=pytest.mark.long
        ),
    ],
)
def test_the_next_start_finishes_it_or_takes_it_back(
    point: KilledAt,
    said: str,
    word: str,
    theirs: TritonEnvironment,
    settings: Settings,
    place: Place,
    restoring: Callable[[KilledAt], None],
    capfd: pytest.CaptureFixture[str],
) -> None:
    restoring(point)
    unfinished = unfinished_restore(place)
    assert unfinished
    assert not unfinished.goes_on
    assert said in unfinished.words
    with TritonEnvironment(settings, runtime="external") as external:
        found = look(external)
    assert found.items() >= words_in(theirs, word).items()
    # Nothing of the other, nor of the restore.
    other = "old" if word == "new" else "new"
    assert other not in json.dumps({k: v for k, v in found.items() if k != "roles"}, default=str)
    everything = json.dumps([found, list(found)], default=str).replace("_", "-")
    assert "triton-restore" not in everything
    assert found["roles"] == (["newer", "older"] if word == "new" else ["older"])
    assert not place.path.exists()
    assert unfinished_restore(place) is None
    which = "finished" if word == "new" else "taken back"
    assert f"that was interrupted is {which}: " in capfd.readouterr().err


@pytest.mark.parametrize(
    ("point", "again", "word"),
    [
        pytest.param(at_step(Step("redis", "restored")), at_note(Phase.TAKING_OVER, pending=2), "old", id="taken back"),
        pytest.param(
            at_note(Phase.COMMITTED),
            at_call(s3_takeover, "copy_bucket"),
            "new",
            id="finished, but for a bucket",
            marks=pytest.mark.long,
        ),
    ],
)
def test_what_finishes_it_or_takes_it_back_may_be_killed_too(
    point: KilledAt,
    again: KilledAt,
    word: str,
    theirs: TritonEnvironment,
    settings: Settings,
    place: Place,
    restoring: Callable[[KilledAt], None],
) -> None:
    restoring(point)
    killed(again, lambda _: TritonEnvironment(settings, runtime="external").start())
    assert unfinished_restore(place)
    with TritonEnvironment(settings, runtime="external") as external:
        assert look(external).items() >= words_in(theirs, word).items()
    assert not place.path.exists()


def test_the_next_backup_and_restore_come_to_it_as_well(
    theirs: TritonEnvironment, archive: Path, place: Place, restoring: Callable[[KilledAt], None], tmp_path: Path
) -> None:
    with patch.object(creation, "place_of", lambda env: place):
        restoring(at_step(Step("s3", "bucket another")))
        said: list[str] = []
        manifest = backup.create(theirs, tmp_path / "a", report=lambda step: said.append(step.words))
        assert any("taken back: S3, ClickHouse, Redis, PostgreSQL hold what they held" in words for words in said), said
        held = {name: saved.contents for name, saved in manifest.services.items()}
        assert "triton_restore" not in str(held).replace("-", "_")
        assert held["redis"] == ("0", "3")
        restoring(at_call(s3_takeover, "remove_bucket", 1))
        backup.restore(theirs, archive, services=("redis",), replace=True)
        assert look(theirs).items() >= words_in(theirs, "new").items()
        assert not place.path.exists()


@pytest.mark.long
def test_a_snapshot_comes_after_it_and_has_nothing_of_it(theirs: TritonEnvironment, archive: Path) -> None:
    def holds(found: dict[str, Any], word: str) -> bool:
        # A snapshot has logical databases of its own.
        return {**found, "keyspace": None}.items() >= {**words_in(theirs, word), "keyspace": None}.items()

    fill(theirs, "old")
    # While databases are loaded into servers that have buckets of the restore already.
    point = at_step(Step("postgres", "database triton"))
    killed(point, lambda report: backup.restore(theirs, archive, replace=True, report=report))
    assert remains_in(theirs.s3)
    theirs.snapshot("between")
    try:
        assert not any(remains_in(theirs.service(name)) for name in SERVICES)
        found = look(theirs)
        assert holds(found, "old")
        assert "triton-restore" not in json.dumps(list(found))
        # Nor while one goes on.
        refused: list[str] = []

        def at_each_step(step: Step) -> None:
            if (step.service, step.words) == ("redis", "database 3") and not refused:
                for act in (lambda: theirs.snapshot("other"), lambda: theirs.restore("between"), theirs.reset):
                    with pytest.raises(RestoreFailed, match=f"Another process is restoring {archive}"):
                        act()
                    refused.append("refused")

        backup.restore(theirs, archive, replace=True, report=at_each_step)
        assert len(refused) == 3
        assert holds(look(theirs), "new")
        theirs.restore("between")
        found = look(theirs)
        assert (found["rows"], found["word"], found[f"bucket {theirs.s3.bucket}"][0]) == ([("old",)], b"old", "old-0")
    finally:
        theirs.delete_snapshot("between")


def test_one_that_goes_on_is_left_alone(
    theirs: TritonEnvironment, settings: Settings, place: Place, archive: Path, tmp_path: Path
) -> None:
    fill(theirs, "old")
    refused: list[str] = []

    def at_each_step(step: Step) -> None:
        if (step.service, step.words) != ("redis", "database 3"):
            return
        unfinished = unfinished_restore(place)
        assert unfinished
        assert unfinished.goes_on
        assert not unfinished.changes_data
        assert f"process {os.getpid()} is restoring {archive}: everything is as it was" in unfinished.words
        for action in (
            lambda: backup.restore(theirs, archive, replace=True),
            lambda: backup.create(theirs, tmp_path / "a"),
        ):
            with pytest.raises(RestoreFailed, match=f"Another process is restoring {archive}"):
                action()
            refused.append("refused")
        with TritonEnvironment(settings, runtime="external") as external:
            assert look(external)["rows"] == [("old",)]

    theirs_place = {"place_of": lambda env: place}
    with patch.multiple(restoration, **theirs_place), patch.multiple(creation, **theirs_place):
        backup.restore(theirs, archive, replace=True, report=at_each_step)
    assert refused
    assert look(theirs).items() >= words_in(theirs, "new").items()


def test_without_its_journal_nothing_is_dropped_or_hidden(
    theirs: TritonEnvironment,
    settings: Settings,
    place: Place,
    archive: Path,
    restoring: Callable[[KilledAt], None],
    tmp_path: Path,
) -> None:
    # The first rename sets the database of "of_old" aside, the second the environment's own.
    restoring(at_call(clickhouse_restore, "rename", 2))
    place.remove()
    with pytest.raises(RestoreUnfinished, match="was set aside by a restore that was interrupted") as raised:
        TritonEnvironment(settings, services=("clickhouse",), runtime="external").start()
    statement = raised.value.hint.partition("no process is restoring: ")[2]
    with Http(theirs.clickhouse) as http:
        assert "triton" not in http.run("SHOW DATABASES").splitlines()
        http.run(statement)
    external = TritonEnvironment(settings, services=("clickhouse",), runtime="external")
    with external, external.clickhouse.client() as client:
        assert client.query("SELECT word FROM t").result_rows == [("old",)]
    manifest = backup.create(theirs, tmp_path / "a")
    assert "triton_restore" not in str([saved.contents for saved in manifest.services.values()]).replace("-", "_")
    for saved in manifest.services.values():
        assert any(
            note.startswith("What a restore left is not saved, and its journal is gone: ") for note in saved.notes
        )
    # What a look finds, and what the next restore leaves as it is.
    left = {name: remains_in(theirs.service(name)) for name in SERVICES}
    assert all(left.values()), left
    statuses = [ServiceStatus(name, kind.title, remains=tuple(left[name])) for name, kind in SERVICES.items()]
    lost = lost_restore(statuses)
    assert lost
    assert set(lost.services) == set(SERVICES)
    assert (
        "a restore was not finished, and its journal is gone; it left PostgreSQL's database triton_rest" in lost.words
    )
    assert all(not lost.seen_in(status).healthy for status in statuses)
    backup.restore(theirs, archive, replace=True)
    assert {name: remains_in(theirs.service(name)) for name in SERVICES} == left
    assert lost_restore([ServiceStatus("redis", "Redis")]) is None


def test_a_journal_that_cannot_be_read_says_what_to_do(settings: Settings, place: Place) -> None:
    place.path.write_text('{"format": 99}')
    try:
        with pytest.raises(RestoreUnfinished, match="The journal of an unfinished restore cannot be read") as raised:
            TritonEnvironment(settings, services=("redis",), runtime="external").start()
        assert raised.value.where == str(place.path)
        assert f"rm {place.path}" in raised.value.hint
        unfinished = unfinished_restore(place)
        assert unfinished
        assert "cannot be read" in unfinished.words
        with look_for_leftovers(settings) as findings:
            (found,) = [each for each in findings.leftovers if each.what == "restore"]
        assert found.stays
    finally:
        place.remove()


def test_a_server_that_is_down_leaves_the_journal(
    theirs: TritonEnvironment, settings: Settings, place: Place, restoring: Callable[[KilledAt], None]
) -> None:
    restoring(at_step(Step("redis", "restored")))
    down = patch.object(RedisTakeover, "put_back", side_effect=ConnectionError("it does not answer"))
    with down, pytest.raises(RestoreUnfinished, match=r"could not be taken back in Redis\syet") as raised:
        TritonEnvironment(settings, runtime="external").start()
    assert raised.value.cause == "it does not answer"
    assert raised.value.where == f"{theirs.redis.host}:{theirs.redis.port}"
    assert place.path.exists()
    # Each service by itself, as it comes.
    with TritonEnvironment(settings, services=("redis", "s3"), runtime="external"):
        assert not place.path.exists()
    assert look(theirs).items() >= words_in(theirs, "old").items()
