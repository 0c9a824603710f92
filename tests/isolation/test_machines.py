"""Several machines on the same servers: who has what is decided there, whatever becomes of a machine."""

import json
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import contents
from isolation.machines import Crowd, known, machine, settings_of
from patience import WAIT, until
from triton_env import Namespace, Settings, Template, TritonEnvironment, prune
from triton_env.core.threads import in_thread
from triton_env.errors import IsolationFailed
from triton_env.isolation.claims import Claims, Seen
from triton_env.isolation.isolator import _IsolationSession
from triton_env.isolation.machines import Servers
from triton_env.isolation.spaces import SpaceManager
from triton_env.services.base_claims import Board, BoardClosed, Note
from triton_env.services.base_isolation import Space

MANY = (8, 50)
"""Machines, and namespaces of each."""
LIMIT_OF_MANY = 3600.0
"""Seconds after which they hang."""
TIMEOUT = 3.0
"""Seconds for which claims hold in these tests."""


def opened(env: TritonEnvironment) -> _IsolationSession:
    return env._isolation()._open()


def spaces_of(env: TritonEnvironment) -> SpaceManager:
    return opened(env).spaces


def claims_of(env: TritonEnvironment) -> Claims:
    found = spaces_of(env).claims
    assert found
    return found


def board(env: TritonEnvironment, service: str = "redis") -> Board:
    found = spaces_of(env).board_of(service)
    assert found
    return found


def end_renewals(env: TritonEnvironment) -> None:
    claims = claims_of(env)
    claims.close()
    assert until(lambda: not any(thread.is_alive() for thread in claims._threads.values()))


def databases(env: TritonEnvironment) -> set[str]:
    with env.postgres.connect() as connection:
        rows = connection.execute("select datname from pg_database where datname like 'triton\\_%'").fetchall()
    return {name for (name,) in rows}


def left(env: TritonEnvironment) -> dict[str, set[str]]:
    """What is on the servers that looks like namespaces, templates and claims."""
    found: dict[str, set[str]] = {}
    if "postgres" in env.services:
        found["postgres"] = {name for name in databases(env) if name.startswith(("triton_ns", "triton_tpl"))}
    if "clickhouse" in env.services:
        words = env.clickhouse.client().query("select name from system.databases").result_rows
        found["clickhouse"] = {name for (name,) in words if name.startswith(("triton_ns", "triton_tpl"))}
    if "s3" in env.services:
        names = [each["Name"] for each in env.s3.client().list_buckets()["Buckets"]]
        found["s3"] = {name for name in names if "-ns-" in name or "-tpl-" in name}
    with env.redis.client() as redis:
        last = int(redis.config_get("databases")["databases"]) - 1
        found["redis"] = {name for name in redis.info("keyspace") if 16 <= int(name[2:]) < last}
    return found


def pruned(env: TritonEnvironment, folder: Path) -> set[str]:
    """The ids of the spaces that `prune` on a machine of its own removes from the servers of an environment."""
    services = {name: env.service(name) for name in env.services}
    with closing(Servers(settings_of(env, folder), "pruned", services)) as servers:
        return _removed_from(servers)


def _removed_from(servers: Servers) -> set[str]:
    leftovers = list(prune._of_machines(servers))
    problems = [each.remove() for each in leftovers]
    assert not any(problems), problems
    assert not [each.why for each in leftovers if each.stays]
    return {each.name for each in leftovers}


def pruned_as_set(env: TritonEnvironment, folder: Path) -> set[str]:
    """The same, on the servers that the settings lead to."""
    with prune._shared_servers(settings_of(env, folder, triton_runtime="external")) as servers:
        assert servers
        return _removed_from(servers)


@contextmanager
def crowd(
    values: dict[str, Any], arguments: dict[str, Any], sizes: tuple[int, int], log: Path
) -> Iterator[list[Crowd]]:
    machines: list[Crowd] = []
    try:
        for number in range(sizes[0]):
            machines.append(Crowd(values, arguments, number, sizes[1], log))
        yield machines
    finally:
        for each in machines:
            each.kill()
            shutil.rmtree(each.folder, ignore_errors=True)


@pytest.fixture(
    params=[
        pytest.param(("small", "external", 3, 5), id="external"),
        pytest.param(("embedded", "external", 3, 5), id="external-all", marks=pytest.mark.long),
        pytest.param(("persistent without docker", "persistent", 3, 5), id="persistent", marks=pytest.mark.long),
        *(
            pytest.param(
                (runtime, kind, *MANY),
                id=name,
                marks=[pytest.mark.long, pytest.mark.timeout(LIMIT_OF_MANY), *marks],
            )
            for runtime, kind, name, marks in (
                ("embedded", "external", "external-many", ()),
                ("docker", "external", "docker-many", (pytest.mark.docker,)),
                ("persistent without docker", "persistent", "persistent-many", ()),
                ("persistent", "persistent", "persistent-docker-many", (pytest.mark.docker,)),
            )
        ),
    ]
)
def machines(request: pytest.FixtureRequest, log: Path) -> Iterator[tuple[TritonEnvironment, list[Crowd]]]:
    """An environment, and machines that have namespaces on its servers."""
    runtime, kind, count, each = request.param
    env = request.getfixturevalue("small") if runtime == "small" else request.getfixturevalue("warm")(runtime)
    contents.fill(env, "theirs")
    values = known(env) | {"triton_claim_timeout": TIMEOUT, "triton_namespaces": "everywhere", "triton_pool_size": 0}
    arguments: dict[str, Any] = {"services": list(env.services), "runtime": "external"}
    if kind == "persistent":
        arguments |= {"runtime": "embedded" if runtime.endswith("without docker") else "docker", "persistent": True}
        values |= {name: getattr(env.settings, name) for name in ("triton_project", "triton_data_dir")}
    with crowd(values, arguments, (count, each), log) as started:
        yield env, started
    contents.remove(env)


@pytest.fixture
def log() -> Iterator[Path]:
    """A file that the users of all machines can write to."""
    with tempfile.NamedTemporaryFile(prefix="triton-tests-") as file:
        path = Path(file.name)
        path.chmod(0o666)
        yield path


def test_machines_share_servers_and_nothing_else(
    machines: tuple[TritonEnvironment, list[Crowd]], log: Path, tmp_path: Path
) -> None:
    env, crowd = machines
    before = left(env)
    first = [json.loads(each.line()) for each in crowd]
    assert all(answer["same"] and answer["seeded"] for answer in first)
    held = [(name, number) for answer in first for name, number in zip(answer["ids"], answer["numbers"], strict=True)]
    assert len({name for name, _ in held}) == len({number for _, number in held}) == len(held)
    (template,) = log.read_text().split()  # built once

    dying, living = crowd[: len(crowd) // 2], crowd[len(crowd) // 2 :]
    for each in dying:
        each.signal(signal.SIGKILL)
    dead = {name for answer in first[: len(dying)] for name in answer["ids"]}
    removed: set[str] = set()

    def is_removed() -> bool:
        removed.update(pruned(env, tmp_path / "pruner"))
        return not databases(env) & dead

    assert until(is_removed, LIMIT_OF_MANY)
    assert removed <= dead  # the living may have removed some
    for each in living:
        each.go_on()
    assert all(json.loads(each.line())["same"] for each in living)
    assert [each.end() for each in living] == [0] * len(living)
    pruned(env, tmp_path / "pruner")
    assert contents.look(env) == contents.everywhere(env, "theirs")
    after = left(env)
    assert after["postgres"] - before["postgres"] == {template}
    assert {name: len(after[name] - before[name]) for name in after} == dict.fromkeys(after, 1)
    assert log.read_text().split() == [template]


def test_a_look_makes_nothing_on_servers_of_others(embedded_packages: None, tmp_path: Path) -> None:
    own = Settings(triton_state_dir=str(tmp_path / "own"), triton_pool_size=0, triton_progress="off")
    with TritonEnvironment(own, services=("postgres", "clickhouse", "s3"), runtime="embedded") as env:

        def seen() -> list[str]:
            with env.postgres.connect() as connection:
                rows = connection.execute("select datname from pg_database").fetchall()
            rows += env.clickhouse.client().query("select name from system.databases").result_rows
            return sorted(name for (name,) in rows) + [
                each["Name"] for each in env.s3.client().list_buckets()["Buckets"]
            ]

        before = seen()
        with prune._shared_servers(settings_of(env, tmp_path / "pruner", triton_runtime="external")) as servers:
            assert servers
            assert list(prune._of_machines(servers)) == []
        assert seen() == before
        assert list((tmp_path / "pruner").rglob("*")) in ([], [tmp_path / "pruner" / "spaces"])


def test_clickhouse_and_s3_alone_know_as_much(warm: Callable[[str], TritonEnvironment], tmp_path: Path) -> None:
    env = warm("embedded")
    built: list[str] = []

    def build(namespace: Namespace) -> None:
        built.append(namespace.id)
        contents.fill(namespace, "seed")

    template = Template(build)
    services = ("clickhouse", "s3")
    settings = [settings_of(env, tmp_path / name, triton_claim_timeout=900) for name in ("one", "other")]
    with ExitStack() as stack:
        started = [TritonEnvironment(each, services=services, runtime="external") for each in settings]
        one, other = (stack.enter_context(each) for each in started)
        copies = [in_thread(partial(each.namespace, "mine", template=template)) for each in (one, other)]
        mine, theirs = (each.result() for each in copies)
        assert len(built) == 1
        assert contents.look(mine) == contents.look(theirs) == contents.everywhere(mine, "seed")
        contents.fill(mine, "mine")
        assert contents.look(theirs) == contents.everywhere(theirs, "seed")
        assert not pruned_as_set(env, tmp_path / "third")
        # As if it had ended long ago, and not closed what it had.
        claims_of(other).close()
        for name in services:
            board(other, name).put(f"owner/{claims_of(other).machine}", "0")
        assert until(lambda: pruned_as_set(env, tmp_path / "third") == {theirs.id})
        assert contents.look(mine) == contents.everywhere(mine, "mine")
        with pytest.raises(Exception, match=theirs.id.replace("_", ".")):
            theirs.clickhouse.client().command("select 1 from words")


@pytest.fixture
def two(small: TritonEnvironment, tmp_path: Path) -> Iterator[tuple[TritonEnvironment, TritonEnvironment]]:
    """Two machines on the servers of `small`."""
    with (
        machine(small, tmp_path / "one", triton_claim_timeout=TIMEOUT) as one,
        machine(small, tmp_path / "other", triton_claim_timeout=TIMEOUT) as other,
    ):
        yield one, other
    small.reset()


Two = tuple[TritonEnvironment, TritonEnvironment]


def cut_off_from_claims(env: TritonEnvironment) -> None:
    """End the connections that machines have to where PostgreSQL keeps claims, and what they held."""
    with env.postgres.connect(autocommit=True) as connection:
        query = "select pid, pg_terminate_backend(pid) from pg_stat_activity where datname = 'triton_claims'"
        killed = [pid for pid, _ in connection.execute(query).fetchall()]
        there = "select from pg_stat_activity where pid = any(%s)"
        assert until(lambda: not connection.execute(there, [killed]).fetchall())


def put(namespace: Namespace, word: str) -> None:
    with namespace.redis.client() as redis:
        redis.set("word", word)


def get(namespace: Namespace) -> bytes | None:
    with namespace.redis.client() as redis:
        found: bytes | None = redis.get("word")
        return found


def test_a_name_is_free_on_every_machine(two: Two) -> None:
    one, other = (each.namespace("mine") for each in two)
    put(one, "one")
    put(other, "other")
    assert one.id != other.id
    assert one.redis.database != other.redis.database
    assert one.environ()["POSTGRES_DB"] != other.environ()["POSTGRES_DB"]
    other.close()
    two[1].stop()
    assert get(one) == b"one"


def test_a_suspended_machine_keeps_what_it_has(small: TritonEnvironment, log: Path, tmp_path: Path) -> None:
    values = known(small) | {"triton_claim_timeout": TIMEOUT, "triton_namespaces": "everywhere", "triton_pool_size": 0}
    with (
        crowd(values, {"services": list(small.services), "runtime": "external"}, (1, 2), log) as (suspended,),
        machine(small, tmp_path / "other", triton_claim_timeout=TIMEOUT) as other,
    ):
        first = json.loads(suspended.line())
        suspended.signal(signal.SIGSTOP)
        owner = f"owner/{first['ids'][0].rpartition('_')[2]}"
        for name in small.services:
            board(other, name).put(owner, "0")  # as if it had not been renewed for long
        assert until(lambda: all(board(other, name).notes(owner)[owner].age > 0 for name in small.services))
        assert not pruned(small, tmp_path / "pruner")
        with other.namespace() as namespace:
            assert namespace.redis.database not in first["numbers"]
            put(namespace, "other")
            suspended.signal(signal.SIGCONT)
            suspended.go_on()
            assert json.loads(suspended.line())["same"]
            assert suspended.end() == 0
            assert get(namespace) == b"other"
    small.reset()


def test_flushall_frees_no_number_that_a_machine_uses(small: TritonEnvironment, two: Two, tmp_path: Path) -> None:
    one, other = two
    with one.namespace() as mine:
        number = f"number/{mine.redis.database}"
        with small.redis.client() as redis:
            redis.flushall()
        put(mine, "mine")
        with other.namespace() as namespace:  # also before anything was written down again
            assert namespace.redis.database != mine.redis.database
            put(namespace, "other")
            assert until(lambda: number in board(one).notes(number))
            mine.reset()
            assert get(mine) is None
            put(mine, "mine")
            assert get(namespace) == b"other"
            assert not pruned(small, tmp_path / "pruner")
        assert get(mine) == b"mine"


def test_a_machine_that_has_lost_its_number_leaves_it_alone(two: Two) -> None:
    one, other = two
    mine = one.namespace()
    number = mine.redis.database
    lost = board(one)
    # Cut off for so long that the server has closed the connection, and another machine removed what it had.
    end_renewals(one)
    lost._listener.close()  # type: ignore[attr-defined]
    board(other).remove(f"number/{number}")
    theirs: list[Namespace] = []
    while not theirs or theirs[-1].redis.database != number:
        assert len(theirs) < 8
        theirs.append(other.namespace())
    put(theirs[-1], "theirs")
    with pytest.raises(IsolationFailed, match="does not belong to"):
        mine.reset()
    mine.close()
    one.stop()
    assert get(theirs[-1]) == b"theirs"


def test_what_was_killed_after_flushall_holds_no_number(small: TritonEnvironment, log: Path, tmp_path: Path) -> None:
    values = known(small) | {"triton_claim_timeout": 900, "triton_namespaces": "everywhere", "triton_pool_size": 0}
    with (
        machine(small, tmp_path / "other") as other,
        crowd(values, {"services": list(small.services), "runtime": "external"}, (1, 1), log) as (killed,),
    ):
        (number,) = json.loads(killed.line())["numbers"]
        killed.kill()
        with small.redis.client() as redis:
            redis.flushall()
        with ExitStack() as stack:
            # The server sees that the connection is gone when it looks.
            assert until(lambda: stack.enter_context(other.namespace(services=("redis",))).redis.database == number, 30)
    small.reset()


def test_a_connection_that_breaks_is_made_again(small: TritonEnvironment, two: Two, tmp_path: Path) -> None:
    one, other = two
    with one.namespace() as mine:
        put(mine, "mine")
        machine_of_one = claims_of(one).machine
        with small.redis.client() as redis:
            redis.client_kill_filter(_type="pubsub")
        cut_off_from_claims(small)
        assert until(lambda: machine_of_one in board(other).present())
        postgres = board(other, "postgres")
        assert until(lambda: machine_of_one in postgres.present())
        with other.namespace() as namespace:
            assert namespace.redis.database != mine.redis.database
        assert not pruned(small, tmp_path / "pruner")
        assert get(mine) == b"mine"


def test_claims_that_a_test_drops_are_written_again(small: TritonEnvironment, two: Two, tmp_path: Path) -> None:
    one, other = two
    with one.namespace() as mine:
        with small.postgres.connect(autocommit=True) as connection:
            connection.execute("drop database triton_claims with (force)")
        assert not pruned(small, tmp_path / "pruner")
        postgres = board(other, "postgres")
        owner = f"owner/{mine.id.rpartition('_')[2]}"
        # What prune has noted of a machine that it does not know gives way to what that one says.
        assert until(lambda: (note := postgres.notes(owner).get(owner)) and note.text == f"{TIMEOUT:g}")
        assert mine.id in databases(small)


def test_without_renewals_nothing_is_made(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    one, _ = two
    with one.namespace() as mine:
        put(mine, "mine")
        found = board(one)

        def refuse(key: str, text: str) -> None:
            raise ConnectionError("cut off")

        monkeypatch.setattr(found, "put", refuse)
        end_renewals(one)  # one may be under way
        monkeypatch.setattr(claims_of(one), "_renewed", {})
        with pytest.raises(IsolationFailed, match="cut off"):
            one.namespace()
        monkeypatch.undo()
        assert get(mine) == b"mine"
        with one.namespace():
            pass


def test_a_builder_that_has_lost_its_turn_publishes_nothing(small: TritonEnvironment, two: Two) -> None:
    one, other = two
    built: list[str] = []

    def build(namespace: Namespace) -> None:
        built.append(namespace.id)
        put(namespace, "seed")
        if len(built) == 1:
            cut_off_from_claims(small)
            with other.namespace(template=template) as theirs:
                assert get(theirs) == b"seed"

    template = Template(build)
    with one.namespace(template=template) as mine:
        assert get(mine) == b"seed"
    assert len(built) == 2  # by the one that lost its turn, and by the one that got it
    assert {name for name in databases(small) if name.startswith("triton_tpl_")} == {built[1]}


@pytest.fixture
def unswept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Machines remove what is over when the test says so, not on the side."""
    monkeypatch.setattr(_IsolationSession, "_sweep", lambda session: None)


@pytest.mark.usefixtures("unswept")
def test_a_template_stays_where_a_machine_lacks_one_of_its_services(
    small: TritonEnvironment, two: Two, tmp_path: Path
) -> None:
    one, _ = two
    with one.namespace(template=Template(partial(put, word="seed"))):
        pass
    (template,) = {name for name in databases(small) if name.startswith("triton_tpl_")}
    # As if it had not been used for long.
    board(one, "postgres").put(f"kept/{template}", "0")
    with TritonEnvironment(settings_of(small, tmp_path / "few"), services=("postgres",), runtime="external") as few:
        assert until(lambda: opened(few).spaces.shelf().unused())
        opened(few).templates.expire()
        assert template in databases(small)
    opened(one).templates.expire()
    assert template not in databases(small)


def bury(dead: TritonEnvironment, other: TritonEnvironment) -> None:
    """Have a machine look as if it had been killed long ago."""
    end_renewals(dead)
    for name in dead.services:
        board(dead, name).close()
        board(other, name).put(f"owner/{claims_of(dead).machine}", "0")


@pytest.mark.parametrize("way", ["sweep", "prune"])
@pytest.mark.usefixtures("unswept")
def test_no_list_of_all_spaces_is_asked_for_between_two_removals(
    small: TritonEnvironment, two: Two, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, way: str
) -> None:
    one, other = two
    dead = {other.namespace().id for _ in range(4)}
    bury(other, one)
    look = SpaceManager._seen
    there: list[int] = []

    def counted(spaces: SpaceManager, claims: Claims) -> Mapping[str, Seen]:
        there.append(len(databases(small) & dead))
        return look(spaces, claims)

    def are_removed() -> bool:
        spaces_of(one).sweep_machines() if way == "sweep" else pruned(small, tmp_path / "pruner")
        return not databases(small) & dead

    monkeypatch.setattr(SpaceManager, "_seen", counted)
    assert until(are_removed)
    assert set(there) == {len(dead), 0}
    assert not board(one).notes(f"owner/{claims_of(other).machine}")


@pytest.mark.usefixtures("unswept")
def test_what_cannot_be_removed_holds_up_nothing_else(
    small: TritonEnvironment, two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = two
    locked, free = other.namespace(), other.namespace()
    bury(other, one)
    spaces, tidied = spaces_of(one), []
    drop, tidy = spaces._drop, spaces.tidy

    def refuse(space: Space, *arguments: Any, **options: Any) -> None:
        if space.id == locked.id:
            raise IsolationFailed("The object is locked.")
        drop(space, *arguments, **options)

    def refused() -> bool:
        try:
            spaces.sweep_machines()
        except IsolationFailed:
            return True
        return False

    with monkeypatch.context() as patched:
        patched.setattr(spaces, "_drop", refuse)
        patched.setattr(spaces, "tidy", lambda seen: (tidied.append(seen), tidy(seen)))
        assert until(refused)
        assert free.id not in databases(small)
        assert any(locked.id in each["postgres"].spaces and free.id not in each["postgres"].spaces for each in tidied)
    spaces.sweep()
    assert locked.id not in databases(small)


class PaperBoard(Board):
    """Notes in this process, whose ages the test says."""

    def __init__(self) -> None:
        self.written: dict[str, Note] = {}

    def put(self, key: str, text: str) -> None:
        self.written[key] = Note(text, 0)

    def notes(self, prefix: str) -> dict[str, Note]:
        return {key: note for key, note in self.written.items() if key.startswith(prefix)}

    def remove(self, *keys: str) -> None:
        for key in keys:
            self.written.pop(key, None)

    def pass_by(self, seconds: float) -> None:
        self.written = {key: Note(note.text, note.age + seconds) for key, note in self.written.items()}


def test_what_looks_dead_gets_time_to_say_that_it_lives() -> None:
    space, owner = "triton_ns_1_m1111111111", "owner/m1111111111"
    paper = PaperBoard()

    def look() -> dict[str, tuple[str, ...]]:
        """Of a process that has seen nothing before, such as those of short jobs."""
        claims = Claims("m0000000000", 300, dict, lambda _: nullcontext())
        seen = Seen(paper.notes(""), frozenset(), frozenset({space}))
        found = claims.ownerless({"s3": seen}, ())
        claims.suspect(seen, paper)
        paper.remove(*claims.over("s3", seen))
        return found

    paper.put(owner, "300")
    assert look() == {}
    paper.pass_by(3600)  # the clock, or the server was down
    assert look() == {}
    paper.pass_by(140)
    assert look() == {}
    paper.put(owner, "300")
    paper.pass_by(3600)  # dead now; what was suspected before does not count
    assert look() == {}
    paper.pass_by(140)
    assert look() == {}
    paper.pass_by(20)
    assert look() == {space: ("s3",)}
    paper.pass_by(1e6)
    assert look() == {space: ("s3",)}
    paper.put(owner, "300")
    assert look() == {}


def test_what_is_missing_for_a_moment_stays_kept() -> None:
    kept = "kept/triton_ns_1_m1111111111"
    claims = Claims("m0000000000", 0.2, dict, lambda _: nullcontext())

    def over(age: float = 0) -> list[str]:
        return claims.over("s3", Seen({kept: Note("3600", age)}, frozenset(), frozenset()))

    assert over(4000) == [kept]
    claims = Claims("m0000000000", 300, dict, lambda _: nullcontext())
    assert over() == over() == []
    claims.seconds = 0.2
    assert until(lambda: over() == [kept])


def test_a_lock_without_an_owner_is_given_one_that_expires() -> None:
    paper = PaperBoard()
    paper.put("lock/0123/m1111111111", "")
    claims = Claims("m0000000000", 300, dict, lambda _: nullcontext())
    assert not claims.lock(paper, "0123")
    claims.adopt(Seen(paper.notes(""), frozenset(), frozenset()), paper)
    paper.pass_by(301)
    assert claims.lock(paper, "0123")


def test_the_note_of_a_machine_goes_after_its_locks() -> None:
    notes = {"owner/m1111111111": Note("300", 400), "lock/0123/m1111111111": Note("", 400)}
    claims = Claims("m0000000000", 300, dict, lambda _: nullcontext())
    assert claims.over("s3", Seen(notes, frozenset(), frozenset())) == ["lock/0123/m1111111111"]
    del notes["lock/0123/m1111111111"]
    assert claims.over("s3", Seen(notes, frozenset(), frozenset())) == ["owner/m1111111111"]


def test_a_server_that_does_not_answer_holds_up_no_renewals_on_others() -> None:
    held_up, renewed = threading.Event(), PaperBoard()
    waits, puts = threading.Event(), []

    class Stuck(PaperBoard):
        def put(self, key: str, text: str) -> None:
            if threading.current_thread() is not threading.main_thread():
                waits.set()
                held_up.wait()

    def put(key: str, text: str) -> None:
        puts.append(waits.is_set())

    renewed.put = put  # type: ignore[method-assign]
    claims = Claims("m0000000000", 0.2, dict, lambda _: nullcontext())
    try:
        claims.attend("clickhouse", Stuck())
        claims.attend("s3", renewed)
        assert until(lambda: any(puts))
    finally:
        claims.close()
        held_up.set()


def test_a_copied_folder_is_another_machine(small: TritonEnvironment, tmp_path: Path) -> None:
    with machine(small, tmp_path / "one") as one:
        mine = one.namespace()
        put(mine, "mine")
        shutil.copytree(tmp_path / "one", tmp_path / "copy", symlinks=True)
        with machine(small, tmp_path / "copy") as copy:
            assert claims_of(copy).machine != claims_of(one).machine
            spaces_of(copy).sweep()
            assert mine.id not in {space.id for space in spaces_of(copy).ledger.known()}
            assert get(mine) == b"mine"
            assert mine.id in databases(small)
        with machine(small, tmp_path / "one") as again:
            assert claims_of(again).machine == claims_of(one).machine
    small.reset()


def test_processes_of_one_machine_give_a_server_one_identity(two: Two) -> None:
    one, _ = two
    ledger, there = spaces_of(one).ledger, PaperBoard()
    asked: list[str] = []

    @contextmanager
    def making(what: str) -> Iterator[None]:
        asked.append(what)
        with ledger.making(what):
            assert ledger.unmade(what) is None
            yield

    claims = Claims(ledger.machine(), 300, dict, making)
    assert claims.identity(there) == claims.identity(there)
    assert asked == ["id"]
    assert len(there.notes("id/")) == 1


CONNECTIONS: dict[str, Callable[[Any], Any]] = {
    "postgres": lambda held: held._made,
    "redis": lambda held: held._listener.connection._sock,
}
"""By service: what a board says with that its machine lives."""


@pytest.mark.parametrize("service", CONNECTIONS)
def test_a_child_has_nothing_of_what_its_parent_holds_on_servers(two: Two, service: str) -> None:
    one, other = two
    held, mine = board(one, service), claims_of(one).machine
    claims_of(one).attend(service, held)
    end_renewals(one)
    held.attend(mine)
    assert mine in board(other, service).present()
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    try:
        os.close(reading)
        assert mine in board(other, service).present()
        made = CONNECTIONS[service](held)
        # As if this process was killed: the system closes the socket, and says nothing to the server.
        with open(os.devnull, "rb") as nothing:
            os.dup2(nothing.fileno(), made.fileno())
        assert until(lambda: mine not in board(other, service).present())
    finally:
        os.close(writing)
        os.waitpid(child, 0)


def test_a_board_that_waits_for_its_server_can_be_closed(small: TritonEnvironment, two: Two) -> None:
    one, _ = two
    end_renewals(one)
    found = board(one, "postgres")
    found.remove("owner/none")  # what notes are kept in is made
    with small.postgres.connect(dbname="triton_claims") as connection:
        connection.execute("lock table public.notes in access exclusive mode")
        waiting = in_thread(found.notes, "owner/")
        query = "select from pg_stat_activity where datname = 'triton_claims' and wait_event_type = 'Lock'"
        assert until(lambda: connection.execute(query).fetchall())
        found.close()
        assert waiting.exception(WAIT)
    with pytest.raises(BoardClosed):
        found.notes("owner/")


@pytest.mark.parametrize("offset", [-86400.0, 86400.0])
def test_the_clock_of_a_machine_does_not_matter(
    small: TritonEnvironment, two: Two, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offset: float
) -> None:
    one, _ = two
    now = time.time
    with one.namespace() as mine:
        put(mine, "mine")
        monkeypatch.setattr("time.time", lambda: now() + offset)
        assert not pruned(small, tmp_path / "pruner")
        with one.namespace():
            pass
        assert get(mine) == b"mine"


def test_what_is_kept_outlives_its_machine(small: TritonEnvironment, tmp_path: Path) -> None:
    with machine(small, tmp_path / "one", triton_claim_timeout=0.2) as one:
        kept = one.namespace()
        put(kept, "kept")
        kept.keep()
        one.snapshot("seeded")
        before = databases(small)
    with machine(small, tmp_path / "other") as other:
        owner = f"owner/{kept.id.rpartition('_')[2]}"
        spaces = spaces_of(other)
        boards = [spaces.board_of(name) for name in spaces.services]
        assert until(lambda: all(each and each.notes(owner)[owner].age > 1 for each in boards))
        assert not pruned(small, tmp_path / "other")
        assert databases(small) == before
        assert get(kept) == b"kept"
        for each in boards:
            assert each
            each.put(f"kept/{kept.id}", "0")
        assert pruned(small, tmp_path / "other") == {kept.id}
    small.reset()


def test_a_template_of_a_version_without_claims_goes(small: TritonEnvironment, tmp_path: Path) -> None:
    with machine(small, tmp_path / "one") as one:
        session = opened(one)
        old, held = session.spaces.make("triton_tpl_0123456789ab", ("postgres", "redis"), None, is_new=True)
        number = session.ledger.slots("redis").of(old)[0]
        with small.redis.client(db=number) as redis:
            redis.set("word", "old")
            session.ledger.publish_template("0123456789ab", session.spaces.finish(old, ("postgres", "redis")))
            held.release(remove=True)
            board(one).remove(f"number/{number}")  # such a version wrote none
            board(one)._let_go([number])  # type: ignore[attr-defined]
            session.templates.expire()
            assert old.id not in databases(small)
            assert redis.dbsize() == 0
        assert not session.ledger.templates()
    small.reset()
