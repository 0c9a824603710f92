"""Backups and restores of a Redis that machines share: what these note there is neither saved, moved nor emptied."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from backup.conftest import Started
from triton_env import TritonEnvironment, backup
from triton_env.errors import RestoreFailed
from triton_env.services.redis import restore
from triton_env.services.redis.claims import RedisBoard
from triton_env.services.redis.isolation import RedisIsolation
from triton_env.services.redis.restore import RedisRestorer

LAST = 15
SPACE = "triton_ns_1_maaaaaaaaaa"


@pytest.fixture(scope="module")
def env(started: Started) -> TritonEnvironment:
    """A Redis in which all logical databases are the user's, also that of the notes."""
    return started("embedded", "redis", triton_redis_options="databases=16")


@pytest.fixture
def board(env: TritonEnvironment) -> Iterator[RedisBoard]:
    """That of another machine, which has the logical database 1."""
    with closing(RedisBoard(env.redis)) as found:
        found.put("owner/maaaaaaaaaa", "300")
        assert found.take([1], SPACE)
        put(env, 1, "theirs")
        yield found
    env.redis.client().flushall()


def put(env: TritonEnvironment, number: int, *words: str) -> None:
    with env.redis.client(db=number) as client:
        for word in words:
            client.set(word, word)


def keys(env: TritonEnvironment) -> dict[int, set[str]]:
    found = {}
    for number in range(LAST + 1):
        with env.redis.client(db=number) as client:
            if words := {key.decode() for key in client.scan_iter()}:
                found[number] = words
    return found


def saved(env: TritonEnvironment, path: Path) -> tuple[str, ...]:
    (about,) = backup.create(env, path).services.values()
    return about.contents


@pytest.mark.parametrize("is_saved", [True, False], ids=["in the backup", "emptied"])
def test_notes_beside_keys_of_the_user_stay(
    env: TritonEnvironment, board: RedisBoard, tmp_path: Path, is_saved: bool
) -> None:
    put(env, 0, "saved")
    if is_saved:
        put(env, LAST, "saved")
    assert saved(env, tmp_path / "a") == (("0", str(LAST)) if is_saved else ("0",))
    put(env, LAST, "changed")
    notes = board.notes("")
    backup.restore(env, tmp_path / "a", replace=True)
    last = {"triton_claims", "saved"} if is_saved else {"triton_claims"}
    assert keys(env) == {0: {"saved"}, 1: {"theirs"}, LAST: last}
    assert {key: note.text for key, note in board.notes("").items()} == {key: note.text for key, note in notes.items()}


def test_notes_alone_are_not_in_the_way(env: TritonEnvironment, board: RedisBoard, tmp_path: Path) -> None:
    put(env, LAST, "saved")
    assert saved(env, tmp_path / "a") == (str(LAST),)
    with env.redis.client(db=LAST) as client:
        client.delete("saved")
    backup.restore(env, tmp_path / "a")  # replace=True is not needed
    assert keys(env) == {1: {"theirs"}, LAST: {"triton_claims", "saved"}}
    assert board.numbers() == {1: SPACE}


def test_a_restore_that_is_taken_back_takes_the_notes_back(
    env: TritonEnvironment, board: RedisBoard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(env, LAST, "saved")
    saved(env, tmp_path / "a")
    put(env, LAST, "changed")
    swap = RedisRestorer.swap

    def fail(restorer: RedisRestorer) -> None:
        swap(restorer)
        raise OSError("full")

    monkeypatch.setattr(RedisRestorer, "swap", fail)
    with pytest.raises(RestoreFailed, match="Nothing was changed"):
        backup.restore(env, tmp_path / "a", replace=True)
    assert keys(env) == {1: {"theirs"}, LAST: {"triton_claims", "saved", "changed"}}
    assert board.numbers() == {1: SPACE}


def test_machines_take_nothing_that_a_restore_uses(
    env: TritonEnvironment, board: RedisBoard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(env, 0, "saved")
    saved(env, tmp_path / "a")
    taken: list[int] = []
    load = RedisRestorer._load

    def load_beside(restorer: RedisRestorer) -> None:
        (target,) = restorer._plan.numbers - {0}
        assert not board.take([target], SPACE)
        taken.append(target)
        # One that the restore would empty in the end.
        assert 3 in restorer._plan.emptied
        assert board.take([3], SPACE)
        load(restorer)
        put(env, 3, "theirs")

    monkeypatch.setattr(RedisRestorer, "_load", load_beside)
    backup.restore(env, tmp_path / "a", replace=True)
    assert keys(env) == {0: {"saved"}, 1: {"theirs"}, 3: {"theirs"}, LAST: {"triton_claims"}}
    assert board.take(taken, SPACE)


def test_a_restore_whose_loaded_data_is_wiped_replaces_nothing(
    env: TritonEnvironment, board: RedisBoard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(env, 0, "saved")
    saved(env, tmp_path / "a")
    load = RedisRestorer._load

    def load_and_wipe(restorer: RedisRestorer) -> None:
        load(restorer)
        env.redis.client().flushall()
        put(env, 0, "since")

    monkeypatch.setattr(RedisRestorer, "_load", load_and_wipe)
    with pytest.raises(RestoreFailed, match="What was loaded for the logical database 0 is gone"):
        backup.restore(env, tmp_path / "a", replace=True)
    assert keys(env)[0] == {"since"}


def test_one_that_comes_in_between_is_an_error(
    env: TritonEnvironment, board: RedisBoard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(env, 0, "saved")
    saved(env, tmp_path / "a")
    hold = restore.hold

    def hold_late(service: object, numbers: set[int], mark: str) -> RedisBoard | None:
        assert board.take(sorted(numbers - {0}), SPACE)
        return hold(env.redis, numbers, mark)

    monkeypatch.setattr(restore, "hold", hold_late)
    with pytest.raises(RestoreFailed, match="has taken a logical database that the restore needs"):
        backup.restore(env, tmp_path / "a", replace=True)


def test_a_user_who_may_not_see_notes_saves_and_restores(env: TritonEnvironment, tmp_path: Path) -> None:
    put(env, 0, "saved")
    with env.redis.client() as client:
        rules = ["+@all", "-eval", "-pubsub", "-subscribe"]
        client.execute_command("ACL", "SETUSER", "default", *rules)  # type: ignore[no-untyped-call]
        try:
            assert saved(env, tmp_path / "a") == ("0",)
            put(env, 0, "changed")
            backup.restore(env, tmp_path / "a", replace=True)
            assert keys(env) == {0: {"saved"}}
        finally:
            client.execute_command("ACL", "SETUSER", "default", "+@all")  # type: ignore[no-untyped-call]
            client.flushall()


def test_with_one_logical_database_there_are_no_notes(started: Started, tmp_path: Path) -> None:
    env = started("embedded", "redis", triton_redis_options="databases=1")
    put(env, 0, "saved")
    with closing(RedisIsolation(env.redis)) as isolation:
        assert isolation.board() is None
    assert saved(env, tmp_path / "a") == ("0",)
    env.redis.client().flushall()
    backup.restore(env, tmp_path / "a")
    with env.redis.client() as client:
        assert client.keys() == [b"saved"]
