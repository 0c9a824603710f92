"""What processes know together: leases, numbers, and what is left of the dead."""

import os
import shutil
import threading
from pathlib import Path

import pytest

from triton_env import Settings
from triton_env.errors import IsolationFailed
from triton_env.isolation import state
from triton_env.isolation.ledger import FrozenSpace, SpaceLedger, remove_unused
from triton_env.services.base_isolation import Space
from triton_env.state import locks


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(triton_state_dir=str(tmp_path))


def die(folder: SpaceLedger, identifier: str) -> None:
    """Leave what a process leaves that was killed while it had a space."""
    held = folder.take(identifier, ("redis",))
    assert held
    assert folder.slots("redis").claim(Space(identifier), range(16, 32))
    held.close_without_unlocking()


def test_a_space_has_one_holder(settings: Settings) -> None:
    one, other = SpaceLedger(settings, "e", lasting=False), SpaceLedger(settings, "e", lasting=False)
    held = one.take("triton_ns_a", ("redis",))
    assert held
    assert other.take("triton_ns_a", ("redis",)) is None
    one.give_back("triton_ns_a", held)
    again = other.take("triton_ns_a", ("redis",))
    assert again
    other.give_back("triton_ns_a", again)
    one.close()
    other.close(remove=True)
    assert not one.path.exists()


def test_a_folder_that_another_program_has_removed_is_named(settings: Settings) -> None:
    folder = SpaceLedger(settings, "e", lasting=False)
    shutil.rmtree(folder.path)
    with pytest.raises(IsolationFailed, match="was removed") as caught:
        folder.take("triton_ns_a", ("redis",))
    assert caught.value.where == str(folder.path)
    folder.close(remove=True)


def test_of_many_threads_one_gets_it(settings: Settings) -> None:
    folder = SpaceLedger(settings, "e", lasting=False)
    die(folder, "triton_ns_a")
    got: list[locks.Held | None] = []
    barrier = threading.Barrier(16)

    def take() -> None:
        barrier.wait()
        got.append(folder.take("triton_ns_a", ("redis",)))

    threads = [threading.Thread(target=take) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (held,) = [each for each in got if each]
    # What the dead one had is free again.
    assert not folder.slots("redis").of(Space("triton_ns_a"))
    folder.give_back("triton_ns_a", held)
    assert {path.name for path in folder.path.iterdir()} == {"lock", "turn", "slots", "templates", "snapshots"}
    folder.close(remove=True)


def test_numbers_are_taken_one_by_one_or_in_rows(settings: Settings) -> None:
    folder = SpaceLedger(settings, "e", lasting=False)
    one, other = folder.slots("redis"), folder.slots("another")
    a, b, c, d, e = (
        Space(name) for name in ("triton_ns_a", "triton_snap_b", "triton_ns_c", "triton_snap_d", "triton_snap_e")
    )
    held = folder.take(b.id, ("redis",))
    assert held
    assert one.claim(a, range(16, 64)) == range(16, 17)
    assert one.claim(b, range(16, 64), 16) == range(32, 48)
    assert one.claim(c, range(16, 64), avoided=lambda: {17, 18}) == range(19, 20)
    assert [one.of(each) for each in (a, b, c, d)] == [range(16, 17), range(32, 48), range(19, 20), range(0)]
    assert one.claim(d, range(16, 64), 16) == range(48, 64)
    assert not one.claim(e, range(16, 64), 16)
    assert one.taken() == {16, 19, *range(32, 64)}
    # Those of another service are others.
    assert other.taken() == frozenset()
    assert other.claim(b, range(4)) == range(1)
    folder.give_back(b.id, held)
    assert (other.taken(), one.of(b)) == (frozenset(), range(0))
    assert one.claim(e, range(16, 64), 16) == range(32, 48)
    folder.close(remove=True)


def test_the_dead_are_found_and_the_living_are_not(settings: Settings) -> None:
    folder = SpaceLedger(settings, "e", lasting=False)
    living = folder.take("triton_ns_living", ("redis",))
    assert living
    die(folder, "triton_ns_dead")
    die(folder, "triton_ns_kept")
    folder.keep("triton_ns_kept", ("redis",))
    die(folder, "triton_tpl_done")
    folder.publish_template("done", FrozenSpace(Space("triton_tpl_done"), ("redis",)))
    (folder.path / "new-0123").touch()  # of a process that was killed while it made a lease
    ((identifier, held, lease),) = folder.abandoned()
    assert (identifier, lease.services, lease.pid) == ("triton_ns_dead", ("redis",), os.getpid())
    folder.give_back(identifier, held)
    assert not list(folder.abandoned())
    assert {path.name for path in folder.path.glob("*.lease")} == {"triton_ns_living.lease"}
    assert not list(folder.path.glob("new-*"))
    assert {space.id for space in folder.known()} == {"triton_ns_living", "triton_ns_kept", "triton_tpl_done"}
    assert folder.slots("redis").of(Space("triton_ns_kept"))
    assert folder.slots("redis").of(Space("triton_tpl_done"))
    living.release()
    folder.close(remove=True)


def test_what_is_left_over_is_reported_and_removed(settings: Settings) -> None:
    living, dead = SpaceLedger(settings, "living", lasting=False), SpaceLedger(settings, "dead", lasting=False)
    kept, lasting = SpaceLedger(settings, "kept", lasting=False), SpaceLedger(settings, "lasting", lasting=True)
    kept.keep("triton_ns_a", ("postgres", "redis"))
    die(lasting, "triton_ns_b")
    lasting.keep("triton_ns_c", ("redis",))
    for folder in (dead, kept, lasting):
        folder.close()
    found = {(left.environment, left.space, left.is_kept): left for left in state.left_over(settings)}
    assert set(found) == {
        ("dead", "", False),
        ("kept", "", False),
        ("kept", "triton_ns_a", True),
        ("lasting", "triton_ns_b", False),
        ("lasting", "triton_ns_c", True),
    }
    assert found["kept", "triton_ns_a", True].services == ("postgres", "redis")
    gone = {key for key, left in found.items() if state.remove(left)}
    assert gone == {("dead", "", False)}
    assert not dead.path.exists()
    assert state.has_kept(state.folder_of(settings, "kept"))
    state.remove_dead_sessions(settings)
    assert kept.path.exists()
    assert state.remove(found["lasting", "triton_ns_c", True], kept=True)
    assert state.remove(found["kept", "", False], kept=True)
    assert {left.space for left in state.left_over(settings)} == {"triton_ns_b", "triton_ns_c"}
    assert not any(left.is_kept for left in state.left_over(settings))
    state.remove_dead_sessions(settings)
    assert {path.name for path in (Path(settings.triton_state_dir) / "spaces").iterdir()} == {"living", "lasting"}
    living.close(remove=True)


def test_a_folder_that_is_removed_and_made_at_once_is_whole(settings: Settings) -> None:
    first = SpaceLedger(settings, "e", lasting=False)
    first.close()
    stop = threading.Event()
    errors: list[BaseException] = []

    def remove() -> None:
        while not stop.is_set():
            try:
                remove_unused(first.path)
            except FileNotFoundError:  # gone already, or not there yet
                continue
            except BaseException as error:
                errors.append(error)
                return

    thread = threading.Thread(target=remove)
    thread.start()
    try:
        for _ in range(50):
            folder = SpaceLedger(settings, "e", lasting=False)
            held = folder.take("triton_ns_a", ("redis",))
            assert held
            assert folder.slots("redis").claim(Space("triton_ns_a"), range(16, 32)) == range(16, 17)
            folder.give_back("triton_ns_a", held)
            folder.close()
    finally:
        stop.set()
        thread.join()
    assert not errors
