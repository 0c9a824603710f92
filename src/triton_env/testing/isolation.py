"""What namespaces, templates, snapshots and reset are in each service that offers isolation."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from triton_env.environment import TritonEnvironment
from triton_env.errors import NotOffered, UsageError
from triton_env.isolation.namespace import Namespace
from triton_env.services import SERVICES
from triton_env.services.base_isolation import SNAPSHOT
from triton_env.testing.contents import Contents, everywhere, look, put, remove


def is_lasting(env: TritonEnvironment) -> bool:
    """Whether the servers hold data of others, so that a reset is refused."""
    return env._mode.data_is_yours


class IsolationContract:
    """The tests of namespaces in a running environment, of all its services at once.

    Fixtures of the module: `env`, a `TritonEnvironment` that runs and whose services hold nothing; `contents`, by the
    names of services.
    """

    @pytest.fixture(autouse=True)
    def _cleared(self, env: TritonEnvironment) -> Iterator[None]:
        """The environment's own is empty after each test."""
        yield
        if not is_lasting(env):
            env.reset()

    def test_a_namespace_has_the_services_that_offer_isolation(self, env: TritonEnvironment) -> None:
        able = tuple(name for name in env.services if SERVICES[name].parts.isolation)
        with env.namespace() as namespace:
            assert namespace.services == able
            assert set(namespace.environ()) >= {name for each in able for name in env.service(each).environ()}
        for name in set(env.services).difference(able):
            with pytest.raises(NotOffered, match=f"{SERVICES[name].title} cannot be in a namespace"):
                env.namespace(services=(name,))

    def test_what_one_writes_no_other_sees(self, env: TritonEnvironment, contents: Mapping[str, Contents]) -> None:
        with env.namespace() as one, env.namespace() as other:
            put(one, contents, "one")
            assert look(other, contents) == everywhere(other, contents, None)
            put(other, contents, "other")
            assert look(one, contents) == everywhere(one, contents, "one")
            assert look(env, contents) == everywhere(env, contents, None)

    def test_it_starts_with_its_template_and_goes_back_to_it(
        self, env: TritonEnvironment, contents: Mapping[str, Contents]
    ) -> None:
        built = []

        def build(namespace: Namespace) -> None:
            built.append(namespace.id)
            put(namespace, contents, "template")

        with env.namespace(template=build) as one, env.namespace(template=build) as other:
            assert len(built) == 1
            assert look(one, contents) == everywhere(one, contents, "template")
            put(one, contents, "changed")
            assert look(other, contents) == everywhere(other, contents, "template")
            one.reset()
            assert look(one, contents) == everywhere(one, contents, "template")

    def test_a_template_from_a_folder(
        self, env: TritonEnvironment, contents: Mapping[str, Contents], tmp_path: Path
    ) -> None:
        seeded = {name: each.files for name, each in contents.items() if each.files}
        for name, files in seeded.items():
            for path, text in files.items():
                (tmp_path / name / path).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / name / path).write_text(text, "utf-8")
        if not seeded:
            pytest.fail("none of the contents has files, so nothing is shown here")
        with env.namespace(template=tmp_path) as namespace:
            found = look(namespace, contents)
            assert found == {name: "seeded" if name in seeded else None for name in found}
        for name in contents.keys() - seeded.keys():
            assert not SERVICES[name].parts.seeding
            (tmp_path / name).mkdir()
            (tmp_path / name / "file").write_text("")
            with pytest.raises(NotOffered, match=f"{SERVICES[name].title} cannot be filled from a template's folder"):
                env.namespace(template=tmp_path)

    def test_a_snapshot_is_a_template(self, env: TritonEnvironment, contents: Mapping[str, Contents]) -> None:
        put(env, contents, "seeded")
        env.snapshot("seeded")
        put(env, contents, "later")
        with env.namespace(template="seeded") as namespace:
            assert look(namespace, contents) == everywhere(namespace, contents, "seeded")
            put(namespace, contents, "mine")
            assert look(env, contents) == everywhere(env, contents, "later")
            if is_lasting(env):
                env.delete_snapshot("seeded")
                remove(env, contents)  # by hand: there is no reset here
                return
            env.restore("seeded")
            assert look(env, contents) == everywhere(env, contents, "seeded")
            assert look(namespace, contents) == everywhere(namespace, contents, "mine")

    def test_a_deleted_snapshot_leaves_nothing(self, env: TritonEnvironment, contents: Mapping[str, Contents]) -> None:
        before = _of_snapshots(env)
        put(env, contents, "short")
        env.snapshot("short")
        assert "short" in env.snapshots()
        assert len(_of_snapshots(env) - before) == 1
        with env.namespace(template="short") as namespace:
            env.delete_snapshot("short")
            assert look(namespace, contents) == everywhere(namespace, contents, "short")
        assert _of_snapshots(env) == before
        assert "short" not in env.snapshots()
        with pytest.raises(UsageError, match="snapshot 'short'"):
            env.delete_snapshot("short")
        if is_lasting(env):
            remove(env, contents)

    def test_reset_leaves_what_is_not_the_environments_own(
        self, env: TritonEnvironment, contents: Mapping[str, Contents]
    ) -> None:
        if is_lasting(env):
            with pytest.raises(UsageError, match="hold your data"):
                env.reset()
            with pytest.raises(UsageError, match="hold your data"):
                env.restore("any")
            return
        put(env, contents, "own")
        env.snapshot("kept")
        with env.namespace() as namespace:
            put(namespace, contents, "mine")
            env.reset()
            assert look(env, contents) == everywhere(env, contents, None)
            assert look(namespace, contents) == everywhere(namespace, contents, "mine")
            env.restore("kept")
            assert look(env, contents) == everywhere(env, contents, "own")
        env.delete_snapshot("kept")


def _of_snapshots(env: TritonEnvironment) -> set[str]:
    """The ids of the snapshots that something is there of, on the servers or among the slots."""
    isolator = env._isolation()._open()
    names = [name for name in env.services if SERVICES[name].parts.isolation]
    answers = isolator.spaces.each(names, lambda each: each.found(), "say what it has")
    found = {identifier for answer in answers.values() for identifier in answer}
    found |= {path.name for path in (isolator.ledger.path / "slots").glob("*/*")}
    return {identifier for identifier in found if identifier.startswith(SNAPSHOT)}
