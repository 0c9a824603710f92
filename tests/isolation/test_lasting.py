"""Servers that outlive processes: data of others, templates that were lost or grow old, snapshots that are replaced."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import contents
from patience import until
from triton_env import Namespace, Settings, Template, TritonEnvironment
from triton_env.errors import InvalidSetting, IsolationFailed, UsageError
from triton_env.isolation.isolator import Isolator
from triton_env.isolation.slots import slots_of
from triton_env.services.base_isolation import Space


@pytest.fixture
def lasting(small: TritonEnvironment, tmp_path: Path) -> Iterator[Isolator]:
    """As if the servers of `small` held data of a user who has had a namespace there before."""
    had_one_before(small)
    environment = small._isolation()._environment
    settings = environment.settings.updated(triton_namespaces="everywhere", triton_state_dir=str(tmp_path))
    isolator = Isolator(replace(environment, id="lasting", settings=settings, lasting=True, outlives=True))
    yield isolator
    isolator.close()


def had_one_before(env: TritonEnvironment) -> None:
    """Have the database there from which empty ones are copied, and no namespace."""
    env.namespace().close()
    assert until(lambda: not list(env._isolation()._open().ledger.path.glob("*.lease")))


def get(isolator: Isolator, template: object = None) -> Namespace:
    return isolator.namespace(None, template, services=None, keep_on_error=False)  # type: ignore[arg-type]


def databases(env: TritonEnvironment) -> set[str]:
    with env.postgres.connect() as connection:
        rows = connection.execute("select datname from pg_database where datname like 'triton\\_%'").fetchall()
    return {name for (name,) in rows}


def test_a_number_that_holds_keys_of_others_is_not_taken(small: TritonEnvironment, lasting: Isolator) -> None:
    with get(lasting) as namespace:
        usual = namespace.redis.database
    lasting.close()
    again = Isolator(lasting._environment)
    with small.redis.client(db=usual) as redis:
        redis.set("precious", 1)
        try:
            with get(again) as namespace:
                assert namespace.redis.database != usual
            again.close()
            assert redis.get("precious") == b"1"
        finally:
            redis.flushdb()


def test_closing_it_removes_everything_that_it_made(small: TritonEnvironment, lasting: Isolator) -> None:
    before = databases(small)
    names = {get(lasting).id for _ in range(3)}
    assert names <= databases(small)
    lasting.close()
    assert databases(small) == before
    folder = Path(lasting._environment.settings.triton_state_dir) / "spaces" / "lasting"
    assert not list(folder.glob("*.lease"))
    assert not slots_of(folder, "redis").taken()


def test_a_template_that_the_servers_have_lost_is_built_again(small: TritonEnvironment, lasting: Isolator) -> None:
    built: list[str] = []

    def build(namespace: Namespace) -> None:
        built.append(namespace.id)
        contents.fill(namespace, "template")

    template = Template(build)
    get(lasting, template).close()
    lasting.close()
    (name,) = set(built)
    with small.postgres.connect(autocommit=True) as connection:
        connection.execute(f"alter database {name} is_template false")
        connection.execute(f"drop database {name} with (force)")
    again = Isolator(lasting._environment)
    try:
        with get(again, template) as namespace:
            assert contents.look(namespace) == contents.everywhere(namespace, "template")
        with get(again, template):
            assert len(built) == 2
        # Of the one that was lost nothing is left, in Redis either.
        folder = again._open().ledger
        known = {finished.space.id for finished in folder.templates().values()}
        assert built[1] in known
        assert name not in known
        assert not folder.slots("redis").of(Space(name))
    finally:
        again.close()


def test_a_template_that_nobody_uses_goes_after_a_while(small: TritonEnvironment, lasting: Isolator) -> None:
    used, unused = (lambda namespace: contents.fill(namespace, "a")), (lambda namespace: contents.fill(namespace, "b"))
    for build in (used, unused):
        get(lasting, build).close()
    opened = lasting._open()
    records = opened.ledger.templates()
    spaces = {digest: finished.space.id for digest, finished in records.items()}
    assert set(spaces.values()) <= databases(small)
    old = next(iter(records))
    opened.spaces.noted(("postgres", "redis"), lambda board: board.put(f"kept/{spaces[old]}", "0"), "age it")
    opened.templates.expire()
    assert set(opened.ledger.templates()) == set(records) - {old}
    # The thread in the background may be the one that removes it.
    assert until(lambda: spaces[old] not in databases(small))
    assert until(lambda: not opened.ledger.slots("redis").of(Space(spaces[old])))
    assert {name for digest, name in spaces.items() if digest != old} <= databases(small)


def test_a_snapshot_of_the_same_name_replaces_the_other(small: TritonEnvironment, folder: Path) -> None:
    assert until(lambda: not list(folder.glob("*.lease")))
    contents.fill(small, "one")
    small.snapshot("same")
    before = databases(small), len(slots_of(folder, "redis").taken())
    contents.fill(small, "two")
    small.snapshot("same")
    contents.fill(small, "three")
    small.restore("same")
    assert contents.look(small) == contents.everywhere(small, "two")
    after = databases(small), len(slots_of(folder, "redis").taken())
    assert len(after[0]) == len(before[0])
    assert after[0] != before[0]
    assert after[1] == before[1]
    small.reset()


def test_what_a_server_refuses_is_an_error_in_its_words(small: TritonEnvironment, folder: Path) -> None:
    assert until(lambda: not list(folder.glob("*.lease")))
    before = databases(small)
    with small.redis.client() as redis:
        redis.execute_command("ACL", "SETUSER", "default", "-flushdb")
        try:
            with pytest.raises(IsolationFailed, match="Redis could not make a namespace") as caught:
                small.namespace()
        finally:
            redis.execute_command("ACL", "SETUSER", "default", "+flushdb")
    assert "flushdb" in caught.value.cause
    # Neither could it be removed, for the same reason.
    small._isolation()._open().spaces.sweep()
    assert databases(small) == before
    assert not list(folder.glob("*.lease"))


def test_on_servers_of_somebody_else(small: TritonEnvironment, tmp_path: Path) -> None:
    def build(namespace: Namespace) -> None:
        contents.fill(namespace, "template")

    had_one_before(small)
    contents.fill(small, "theirs")
    known = {name.lower(): value for name, value in small.environ().items() if name.lower() in Settings.model_fields}
    settings = Settings(**known, triton_namespaces="everywhere", triton_state_dir=str(tmp_path))
    before = databases(small)
    for _ in range(2):
        with TritonEnvironment(settings, services=("postgres", "redis"), runtime="external") as external:
            with external.namespace("of_mine", template=build) as namespace:
                assert contents.look(namespace) == contents.everywhere(namespace, "template")
                contents.fill(namespace, "mine")
            with pytest.raises(UsageError, match="hold your data"):
                external.reset()
        assert contents.look(small) == contents.everywhere(small, "theirs")
        # The template stays for the next process, and what is noted of those who make namespaces.
        left = databases(small) - before - {"triton_claims"}
        assert [name.startswith("triton_tpl_") for name in left] == [True], left
    small.reset()
    unasked = settings.updated(triton_namespaces="session")
    forbidden = TritonEnvironment(unasked, services=("redis",), runtime="external")
    with forbidden, pytest.raises(InvalidSetting, match="hold your data"):
        forbidden.namespace()
