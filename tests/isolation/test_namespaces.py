"""Namespaces one by one: names, ends, what is kept, and that nothing is left."""

from pathlib import Path

import psutil
import pytest

import contents
from patience import until
from triton_env import Namespace, Settings, Template, TritonEnvironment
from triton_env.errors import (
    InvalidSetting,
    NotStarted,
    ServiceNotSelected,
    TemplateFailed,
    UnknownService,
    UsageError,
)
from triton_env.isolation import state
from triton_env.isolation.slots import slots_of


def settle(folder: Path) -> None:
    """Wait until the background has removed what was closed."""
    assert until(lambda: not list(folder.glob("*.lease")))


def files(folder: Path) -> set[str]:
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    return {name for name in found if not name.startswith(("templates/", "snapshots/"))}


def databases(env: TritonEnvironment) -> set[str]:
    with env.postgres.connect() as connection:
        rows = connection.execute("select datname from pg_database where datname like 'triton\\_ns%'").fetchall()
    return {name for (name,) in rows}


@pytest.mark.parametrize("name", ["", "Upper", "a-b", "_a", "a_", "a" * 25, "ä", "a b", "../x"])
def test_names_that_cannot_be(small: TritonEnvironment, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be named"):
        small.namespace(name)


def test_a_name_that_is_taken_is_free_again_afterwards(small: TritonEnvironment, folder: Path) -> None:
    with small.namespace("a_1") as namespace:
        assert namespace.id == "triton_ns_a_1"
        with pytest.raises(UsageError, match=r"triton_ns_a_1 is in use") as caught:
            small.namespace("a_1")
        assert small.id in caught.value.where
    settle(folder)
    with small.namespace("a_1"):
        pass


def test_a_mistake_of_ours_is_not_taken_for_the_servers(
    small: TritonEnvironment, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mistaken(*arguments: object, **options: object) -> None:
        raise KeyError("no such key")

    def refused(*arguments: object, **options: object) -> None:
        raise ValueError("no")

    spaces = small._isolation()._open().spaces
    for name, other in (("postgres", "redis"), ("redis", "postgres")):
        with monkeypatch.context() as patch:
            patch.setattr(spaces.isolation(name), "create", mistaken)
            with pytest.raises(KeyError, match="no such key"):
                small.namespace()
            # Also where a server refuses at the same time.
            patch.setattr(spaces.isolation(other), "create", refused)
            with pytest.raises(KeyError, match="no such key"):
                small.namespace()
    settle(folder)


def test_a_closed_one_says_so(small: TritonEnvironment) -> None:
    namespace = small.namespace(services="redis")
    namespace.close()
    namespace.close()
    with pytest.raises(UsageError, match=f"{namespace.id} is closed"):
        _ = namespace.redis
    assert "closed" in repr(namespace)


def test_services_that_cannot_be(small: TritonEnvironment) -> None:
    with pytest.raises(UnknownService):
        small.namespace(services=("mongo",))
    with pytest.raises(ServiceNotSelected):
        small.namespace(services=("s3",))
    with pytest.raises(UsageError, match="at least one service"):
        small.namespace(services=())


def test_templates_that_cannot_be(small: TritonEnvironment, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'absent' is neither a snapshot nor a folder"):
        small.namespace(template="absent")
    with pytest.raises(UsageError, match="not a folder"):
        small.namespace(template=tmp_path / "absent")
    with pytest.raises(UsageError, match="template's folder holds nothing"):
        small.namespace(template=tmp_path)
    with pytest.raises(UsageError, match="The snapshot 'absent' does not exist"):
        small.restore("absent")
    with pytest.raises(UsageError, match="cannot be named"):
        small.snapshot("../x")


def test_an_error_in_a_file_names_the_file_and_the_place(
    small: TritonEnvironment, folder: Path, tmp_path: Path
) -> None:
    settle(folder)
    before = databases(small)
    (tmp_path / "1.sql").write_text("create table a (id int);\n")
    (tmp_path / "2.sql").write_text("select 1;\n\nselect 2;\nselect oops from a;\nselect 3;\n")
    with pytest.raises(TemplateFailed) as caught:
        small.namespace(template=tmp_path)
    assert caught.value.where == f"{tmp_path / '2.sql'}, statement 3, line 4"
    assert 'column "oops" does not exist' in caught.value.cause
    (tmp_path / "2.sql").write_text("select 1;\nselect 1 / (select count(*) from a);\n")
    with pytest.raises(TemplateFailed, match="refused a statement") as caught:
        small.namespace(template=tmp_path)
    # The server names no place for this one.
    assert caught.value.where == f"{tmp_path / '2.sql'}, statement 2, line 2"
    (tmp_path / "2.sql").write_text("copy a from stdin;\n")
    with pytest.raises(TemplateFailed) as caught:
        small.namespace(template=tmp_path)
    assert "use INSERT" in caught.value.cause
    (tmp_path / "2.sql").write_text("create index concurrently on a (id);\nselect 1;\n")
    with pytest.raises(TemplateFailed) as caught:
        small.namespace(template=tmp_path)
    assert "a file of its own" in caught.value.hint
    (tmp_path / "2.sql").write_text("create index concurrently on a (id);\n")
    with small.namespace(template=tmp_path) as namespace, namespace.postgres.connect() as connection:
        assert connection.execute("select count(*) from pg_indexes where tablename = 'a'").fetchone() == (1,)
    settle(folder)
    assert databases(small) == before


def test_a_function_that_fails_is_the_cause(small: TritonEnvironment) -> None:
    def build(namespace: Namespace) -> None:
        namespace.redis.client().set("a", 1)
        raise ValueError("no such file")

    with pytest.raises(TemplateFailed, match="ValueError: no such file") as caught:
        small.namespace(template=build)
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_template_is_built_anew_when_it_changes(small: TritonEnvironment, tmp_path: Path) -> None:
    seed = tmp_path / "seed"
    seed.write_text("one")

    def build(namespace: Namespace) -> None:
        with namespace.redis.client() as redis:
            redis.set("seed", seed.read_text())

    template = Template(build, inputs=[seed])
    for word in ("one", "another"):
        seed.write_text(word)
        with small.namespace(template=template) as namespace, namespace.redis.client(decode_responses=True) as redis:
            assert redis.get("seed") == word


def test_a_build_cannot_lose_or_keep_its_namespace(small: TritonEnvironment) -> None:
    def build(namespace: Namespace) -> None:
        with namespace:
            contents.fill(namespace, "first")
            namespace.reset()
        contents.fill(namespace, "second")
        with pytest.raises(UsageError):
            namespace.keep()

    with small.namespace(template=build) as namespace:
        assert contents.look(namespace) == contents.everywhere(namespace, "second")


def test_it_is_kept_when_its_block_fails(
    small: TritonEnvironment, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    namespace = small.namespace(keep_on_error=True)
    contents.fill(namespace, "evidence")
    with pytest.raises(ZeroDivisionError), namespace:
        raise ZeroDivisionError
    printed = capsys.readouterr().err
    assert namespace.postgres.url in printed
    assert namespace.redis.url in printed
    assert "python -m triton_env prune --kept" in printed
    settle(folder)
    small.reset()
    assert contents.look(namespace) == contents.everywhere(namespace, "evidence")
    (left,) = [each for each in state.left_over(small.settings) if each.space == namespace.id]
    assert left.is_kept
    assert left.environment == small.id
    with pytest.raises(UsageError, match="is kept"):
        small.namespace(namespace.id.removeprefix("triton_ns_"))
    assert not state.remove(left)
    assert state.remove(left, kept=True)
    small._isolation()._open().spaces.sweep()
    settle(folder)  # the background may have been quicker, and still be at it
    assert namespace.id not in databases(small)


def test_it_is_gone_when_its_block_does_not_fail(small: TritonEnvironment, folder: Path) -> None:
    with small.namespace(keep_on_error=True) as namespace:
        pass
    settle(folder)
    assert namespace.id not in databases(small)


def held(small: TritonEnvironment, folder: Path) -> int:
    """How many files in the folder this process has open, and connections to these servers. It has others too."""
    process = psutil.Process()
    ports = {small.service(name).port for name in small.services}
    connections = [each for each in process.net_connections("tcp4") if each.raddr and each.raddr.port in ports]
    return len(connections) + sum(Path(each.path).is_relative_to(folder) for each in process.open_files())


def test_sixty_leave_nothing(small: TritonEnvironment, folder: Path) -> None:
    def build(namespace: Namespace) -> None:
        contents.fill(namespace, "template")

    with small.namespace(template=build):
        pass
    settle(folder)
    small.reset()
    before = databases(small), files(folder)
    before_all = held(small, folder)
    for n in range(60):
        services = None if n % 3 else ("redis",)
        namespace = small.namespace(template=build if n % 2 else None, services=services)
        with namespace, namespace.redis.client() as redis:
            redis.set("n", n)
    settle(folder)
    assert (databases(small), files(folder)) == before
    # Connections of background threads may have come; one a namespace would be 60.
    assert held(small, folder) < before_all + 30
    with small.redis.client() as redis:
        # The template's is there.
        assert set(redis.info("keyspace")) <= {f"db{number}" for number in slots_of(folder, "redis").taken()}


def test_the_folder_goes_with_the_environment(embedded_packages: None, tmp_path: Path) -> None:
    settings = Settings(triton_state_dir=str(tmp_path))
    with TritonEnvironment(settings, services=("redis",), runtime="embedded") as env:
        namespace = env.namespace(template=lambda namespace: namespace.redis.client().set("a", 1))
        assert namespace.redis.client().get("a") == b"1"
        env.namespace("kept").keep()
        assert (tmp_path / "spaces" / env.id).is_dir()
    assert not list((tmp_path / "spaces").iterdir())
    namespace.close()
    with pytest.raises(NotStarted):
        env.namespace()
    with env, env.namespace() as again, again.redis.client() as redis:
        assert redis.dbsize() == 0


def test_servers_with_somebodys_data_need_a_word_of_permission(small: TritonEnvironment) -> None:
    from dataclasses import replace

    from triton_env.isolation.isolator import Isolator

    lasting = Isolator(replace(small._isolation()._environment, lasting=True, outlives=True))
    with pytest.raises(InvalidSetting, match="hold your data") as caught:
        lasting.namespace(None, None, services=None, keep_on_error=False)
    assert "TRITON_NAMESPACES=everywhere" in caught.value.hint
    for forbidden in (lasting.reset, lambda: lasting.restore("x")):
        with pytest.raises(UsageError, match="hold your data"):
            forbidden()


def test_reset_is_refused_while_others_use_it(small: TritonEnvironment) -> None:
    from dataclasses import replace

    from triton_env.isolation.isolator import Isolator

    shared = Isolator(replace(small._isolation()._environment, outlives=True, is_shared=lambda: True))
    for forbidden in (shared.reset, lambda: shared.restore("x")):
        with pytest.raises(UsageError, match="other processes use the environment"):
            forbidden()
