"""A service that another distribution brings, beside those that come with triton-env. It offers no isolation."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from triton_env import Settings, TritonEnvironment
from triton_env.errors import NotOffered, ServiceNotSelected, UnknownService, UsageError
from triton_env.services.registry import Registry

MODULE = """
from triton_env.services import Redis
from triton_env.services.parts import Parts


class Memo(Redis):
    name = "memo"
    title = "Memo"
    parts = Parts()

    def _variables(self, endpoints, url):
        return {"MEMO_URL": url}


class Misnamed(Memo):
    name = "other"
"""
POINTS = """
[triton_env.services]
memo = triton_memo:Memo
broken = triton_absent:Service
misnamed = triton_memo:Misnamed
nothing = triton_memo:MODULE
"""


def install(folder: Path) -> None:
    """What pip leaves of a distribution in a folder."""
    (folder / "triton_memo.py").write_text(MODULE)
    about = folder / "triton_memo-1.2.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: triton-memo\nVersion: 1.2\n")
    (about / "entry_points.txt").write_text(POINTS)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("site-packages")
    install(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        importlib.invalidate_caches()
        registry = sys.modules["triton_env.services.registry"].SERVICES
        # What was found before this distribution was there is forgotten, and afterwards what was found of it.
        registry.__dict__.pop("_points", None)
        yield
    registry.__dict__.pop("_points", None)
    registry._others.clear()
    sys.modules.pop("triton_memo", None)


@pytest.fixture(scope="module")
def env(
    installed: None, embedded_packages: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TritonEnvironment]:
    settings = Settings(triton_state_dir=str(tmp_path_factory.mktemp("state")), triton_pool_size=0)
    with TritonEnvironment(settings, services=("memo", "postgres", "redis"), runtime="embedded") as environment:
        yield environment


def test_it_starts_beside_the_others_and_is_handed_out_by_its_name(env: TritonEnvironment) -> None:
    assert env.services == ("postgres", "redis", "memo")
    assert env["memo"] is env.service("memo")
    assert env["postgres"] is env.postgres
    assert type(env["memo"]).__name__ == "Memo"
    with env["memo"].client() as memo, env.redis.client() as redis:  # type: ignore[attr-defined]
        memo.set("a", 1)
        assert redis.exists("a") == 0, "it is a server of its own"
        memo.delete("a")
    assert env.environ()["MEMO_URL"] == env["memo"].url
    assert env.logs("memo")


def test_a_namespace_takes_the_services_that_can(env: TritonEnvironment) -> None:
    with env.namespace() as namespace:
        assert namespace.services == ("postgres", "redis")
        assert namespace["redis"] is namespace.redis
        with pytest.raises(ServiceNotSelected, match="'memo' is not part of"):
            namespace["memo"]
    for services in (("memo",), ("postgres", "memo"), "memo"):
        with pytest.raises(NotOffered, match="Memo cannot be in a namespace") as caught:
            env.namespace(services=services)
        assert "services=('postgres', 'redis')" in caught.value.hint


def test_a_snapshot_and_a_reset_leave_it_alone(env: TritonEnvironment) -> None:
    with env["memo"].client() as memo, env.redis.client() as redis:  # type: ignore[attr-defined]
        memo.set("a", "stays")
        redis.set("a", "goes")
        env.reset()
        assert (memo.get("a"), redis.get("a")) == (b"stays", None)
        redis.set("a", "again")
        env.snapshot("one")
        memo.set("a", "changed")
        env.reset()
        env.restore("one")
        assert (memo.get("a"), redis.get("a")) == (b"changed", b"again")
        env.delete_snapshot("one")


def test_without_any_that_can_it_is_refused(installed: None, embedded_packages: None, tmp_path: Path) -> None:
    settings = Settings(triton_state_dir=str(tmp_path))
    with TritonEnvironment(settings, services=("memo",), runtime="embedded") as alone:
        for act in (alone.namespace, alone.reset, lambda: alone.snapshot("one"), alone.snapshots):
            with pytest.raises(NotOffered, match="None of the services offers isolation"):
                act()


@pytest.mark.usefixtures("installed")
def test_what_is_installed_is_named() -> None:
    with pytest.raises(UnknownService, match="There is no service 'nemo'") as caught:
        TritonEnvironment(services=("nemo",))
    assert "postgres, clickhouse, redis, s3, broken, memo, misnamed, nothing" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("broken", "ModuleNotFoundError: No module named 'triton_absent'"),
        ("misnamed", "<class 'triton_memo.Misnamed'>"),
        ("nothing", "AttributeError: module 'triton_memo' has no attribute 'MODULE'"),
    ],
)
@pytest.mark.usefixtures("installed")
def test_a_broken_one_is_named_with_its_distribution(name: str, cause: str) -> None:
    with pytest.raises(UsageError) as caught:
        TritonEnvironment(services=(name,))
    assert cause in caught.value.cause
    assert "triton-memo 1.2" in caught.value.where
    assert caught.value.hint == "update or remove triton-memo"


def test_what_is_installed_is_not_looked_at_for_the_sake_of_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from triton_env.services import SERVICES, registry

    def scanned(**_: object) -> None:
        raise AssertionError("it was looked for")

    monkeypatch.setattr(registry, "entry_points", scanned)
    own = Registry(SERVICES.values())
    assert [own[name].name for name in own] == ["postgres", "clickhouse", "redis", "s3"]
    assert "s3" in own
    with pytest.raises(AssertionError, match="it was looked for"):
        own.get("etcd")
