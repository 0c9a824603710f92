"""Several processes in one environment: what each of them has, builds and leaves when it is killed."""

import os
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from isolation import processes
from isolation.processes import answer_of, process
from patience import until
from triton_env import Template, TritonEnvironment
from triton_env.errors import UsageError
from triton_env.isolation.slots import slots_of
from triton_env.services.base_isolation import Space

GET = "namespaces.namespace({name}, {template}, services=None, keep_on_error=False)"


def get(name: str | None = None, template: str = "None") -> str:
    return GET.format(name=repr(name), template=template)


def databases(env: TritonEnvironment) -> set[str]:
    with env.postgres.connect() as connection:
        rows = connection.execute("select datname from pg_database where datname like 'triton\\_%'").fetchall()
    return {name for (name,) in rows}


def numbers(folder: Path) -> frozenset[int]:
    return slots_of(folder, "redis").taken()


def sweep(env: TritonEnvironment) -> None:
    """What the background thread does now and then."""
    env._isolation()._open().spaces.sweep()


def sweep_all(env: TritonEnvironment, folder: Path) -> None:
    """The same, and wait until nothing is left of any: the background thread may have begun with one."""
    sweep(env)
    assert until(lambda: not list(folder.glob("*.lease")))


@pytest.fixture
def unswept(small: TritonEnvironment, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The background thread of `small` looks for nothing that dead processes left, and is not just at it either."""
    monkeypatch.setattr(small._isolation()._open().pool, "_sweep", lambda: None)
    # It does one thing after the other, so what it had begun before this removal is done.
    with small.namespace(services=("redis",)) as namespace:
        pass
    assert until(lambda: not (folder / f"{namespace.id}.lease").exists())


def test_a_template_is_built_once_by_four_processes(small: TritonEnvironment, tmp_path: Path) -> None:
    log = tmp_path / "log"
    body = f"""
with {get(template="processes.counted_build")} as namespace:
    print(namespace.redis.client().get("built"))
"""
    with ExitStack() as stack:
        started = [stack.enter_context(process(small, body, str(log))) for _ in range(4)]
        answers = [answer_of(each) for each in started]
    assert answers == ["b'yes'\n"] * 4
    assert log.read_text() == "built\n"


@pytest.mark.usefixtures("unswept")
def test_a_builder_that_was_killed_leaves_nothing_that_is_taken_for_finished(
    small: TritonEnvironment, folder: Path, tmp_path: Path
) -> None:
    slow = tmp_path / "slow"
    slow.touch()
    with process(small, get(template="processes.build"), str(slow)) as started:
        assert started.stdout
        name = started.stdout.readline().strip()
        assert name in databases(small)
        started.kill()
        started.wait(processes.LIMIT)
    assert not list((folder / "templates").glob(f"{name.removeprefix('triton_tpl_')}.json"))
    template = Template(processes.build)
    with small.namespace(template=template) as namespace, namespace.postgres.connect() as connection:
        assert connection.execute("select count(*) from built").fetchone() == (0,)
    # The same content, so it was built into the same place.
    assert name in databases(small)
    assert list((folder / "templates").glob(f"{name.removeprefix('triton_tpl_')}.json"))
    assert len(slots_of(folder, "redis").of(Space(name))) == 1


@pytest.mark.usefixtures("unswept")
def test_what_a_killed_holder_had_is_removed(small: TritonEnvironment, folder: Path) -> None:
    body = f"""
namespace = {get("victim")}
namespace.redis.client().set("a", 1)
print(namespace.redis.database, flush=True)
sys.stdin.read()
"""
    with small.namespace("living") as living, process(small, body) as started:
        assert started.stdout
        number = int(started.stdout.readline())
        assert "triton_ns_victim" in databases(small)
        sweep(small)
        assert "triton_ns_victim" in databases(small), "it lives"
        with pytest.raises(UsageError, match="triton_ns_victim is in use"):
            small.namespace("victim")
        started.send_signal(signal.SIGKILL)
        started.wait(processes.LIMIT)
        sweep(small)
        assert "triton_ns_victim" not in databases(small)
        assert living.id in databases(small)
    assert number not in numbers(folder)
    assert not (folder / "triton_ns_victim.lease").exists()
    with small.redis.client(db=number) as redis:
        assert redis.dbsize() == 0


@pytest.mark.usefixtures("unswept")
def test_the_next_process_removes_it(small: TritonEnvironment) -> None:
    with process(small, f"namespace = {get('dead')}\nprint(flush=True)\nsys.stdin.read()") as started:
        assert started.stdout
        started.stdout.readline()
        started.send_signal(signal.SIGKILL)
        started.wait(processes.LIMIT)
    assert "triton_ns_dead" in databases(small)
    with process(small, f"namespace = {get()}\nprint(flush=True)\nsys.stdin.read()"):
        assert until(lambda: "triton_ns_dead" not in databases(small))


@pytest.mark.usefixtures("unswept")
def test_the_name_of_a_dead_process_is_free_at_once(small: TritonEnvironment) -> None:
    body = f"namespace = {get('mine')}\nnamespace.redis.client().set('a', 1)\nprint(flush=True)\nsys.stdin.read()"
    with process(small, body) as started:
        assert started.stdout
        started.stdout.readline()
        started.send_signal(signal.SIGKILL)
        started.wait(processes.LIMIT)
    with small.namespace("mine") as namespace, namespace.redis.client() as redis:
        assert redis.dbsize() == 0


def test_no_two_processes_get_the_same_number(small: TritonEnvironment, folder: Path) -> None:
    body = f"""
held = [{get()} for _ in range(8)]
print(*(namespace.redis.database for namespace in held), flush=True)
sys.stdin.readline()
for namespace in held:
    namespace.close()
"""
    with ExitStack() as stack:
        started = [stack.enter_context(process(small, body)) for _ in range(3)]
        lines = [each.stdout.readline() for each in started if each.stdout]
        found = [int(number) for line in lines for number in line.split()]
        assert len(set(found)) == len(found) == 24
        assert set(found) <= numbers(folder)
        for each in started:
            assert each.stdin
            each.stdin.write("\n")
            each.stdin.flush()
        for each in started:
            assert each.wait(processes.LIMIT) == 0
    assert set(found).isdisjoint(numbers(folder))


# A thread that is at work while the process is forked could leave a lock to the child that is never released there.
@pytest.mark.usefixtures("unswept")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_has_namespaces_of_its_own_and_leaves_its_parents(small: TritonEnvironment) -> None:
    with small.namespace("parent") as parent:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:  # pragma: no cover - measured in the parent only
            try:
                parent.close()
                with small.namespace("child") as namespace, namespace.redis.client() as redis:
                    redis.set("a", 1)
                    os.write(writer, b"done" if redis.get("a") == b"1" else b"lost")
                small.stop()
            finally:
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as answer:
            assert answer.read() == b"done"
        os.waitpid(child, 0)
        # The child closed its copy of the namespace, and stopped its copy of the environment.
        with parent.postgres.connect() as connection:
            assert connection.execute("select 1").fetchone() == (1,)
        assert "triton_ns_child" not in databases(small)
        with small.namespace("another"):
            pass


@pytest.mark.usefixtures("unswept")
def test_a_child_that_lives_on_does_not_hold_its_parents_namespaces(small: TritonEnvironment) -> None:
    body = f"""
import os, time
namespace = {get("orphaned")}
if os.fork() == 0:
    # The child says so itself: before it ran for the first time, it has not let go of anything.
    print(os.getpid(), flush=True)
    time.sleep({10 * processes.LIMIT})
    os._exit(0)
sys.stdin.read()
"""
    with process(small, body) as started:
        assert started.stdout
        child = int(started.stdout.readline())
        try:
            started.send_signal(signal.SIGKILL)
            started.wait(processes.LIMIT)
            sweep(small)
            assert "triton_ns_orphaned" not in databases(small)
            os.kill(child, 0)  # it is still there
        finally:
            os.kill(child, signal.SIGKILL)


def test_ctrl_c_while_one_is_made_leaves_nothing_of_it(
    small: TritonEnvironment, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first one makes what all of them are copied from.
    small.namespace().close()
    sweep_all(small, folder)
    before = databases(small), numbers(folder)
    postgres = small._isolation()._open().spaces.isolation("postgres")
    create = postgres.create

    def interrupted(*arguments: Any, **options: Any) -> None:
        create(*arguments, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(postgres, "create", interrupted)
    with pytest.raises(KeyboardInterrupt):
        small.namespace()
    assert (databases(small), numbers(folder)) == before
    assert not list(folder.glob("*.lease"))


def test_ctrl_c_whenever_it_comes_leaves_nothing_once_the_process_has_ended(
    small: TritonEnvironment, folder: Path
) -> None:
    sweep_all(small, folder)
    before = databases(small), numbers(folder)
    body = f"""
print(flush=True)
try:
    while True:
        namespace = {get()}
        namespace.close()
except KeyboardInterrupt:
    print("interrupted")
"""
    with process(small, body) as started:
        assert started.stdout
        started.stdout.readline()
        assert until(lambda: databases(small) != before[0])
        started.send_signal(signal.SIGINT)
        assert answer_of(started) == "interrupted\n"
    # What it came between, such as a namespace that was made and not yet handed out, is a dead process's now.
    sweep_all(small, folder)
    assert (databases(small), numbers(folder)) == before
