"""The settings of the persistent mode."""

from itertools import combinations

import pytest

from triton_env import Settings
from triton_env.core.settings_group import Role
from triton_env.errors import InvalidSetting
from triton_env.persistent.settings import persistent_settings

PORTS = ("postgres_port", "clickhouse_http_port", "clickhouse_port", "redis_port", "localstack_port")
"""In the order in which they got their numbers in other projects, which have to stay."""


def ports(settings: Settings) -> list[int]:
    return [getattr(settings, name) for name in PORTS]


def test_the_defaults_are_taken_as_they_are() -> None:
    assert persistent_settings(Settings()) == Settings()


def test_a_url_alone_says_what_its_parts_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://anna:p%40ss@localhost:5544/claims")
    monkeypatch.setenv("REDIS_URL", "redis://:secret@127.0.0.1:6444/0")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://localhost:4577")
    settings = persistent_settings(Settings())
    assert (settings.postgres_user, settings.postgres_password.get_secret_value()) == ("anna", "p@ss")
    assert (settings.postgres_db, settings.postgres_port) == ("claims", 5544)
    assert (settings.redis_password.get_secret_value(), settings.redis_port) == ("secret", 6444)
    assert settings.localstack_port == 4577


def test_parts_alone_need_no_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTGRES_PORT", "5544")
    assert persistent_settings(Settings()).postgres_port == 5544


@pytest.mark.parametrize(
    ("name", "value", "url", "text"),
    [
        ("POSTGRES_PORT", "5433", "DATABASE_URL", "postgresql://triton_user:x@localhost:5432/triton"),
        ("POSTGRES_USER", "anna", "DATABASE_URL", "postgresql://berta:x@localhost:5432/triton"),
        ("POSTGRES_DB", "claims", "DATABASE_URL", "postgresql://triton_user:x@localhost:5432/triton"),
        ("POSTGRES_PASSWORD", "hunter2", "DATABASE_URL", "postgresql://triton_user:hunter3@localhost:5432/triton"),
        ("REDIS_PORT", "6380", "REDIS_URL", "redis://localhost:6379/0"),
        ("REDIS_PASSWORD", "hunter2", "REDIS_URL", "redis://:hunter3@localhost:6379/0"),
        ("LOCALSTACK_PORT", "4567", "AWS_ENDPOINT_URL", "http://localhost:4566"),
    ],
)
def test_a_url_and_its_parts_may_not_disagree(
    name: str, value: str, url: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    monkeypatch.setenv(url, text)
    with pytest.raises(InvalidSetting, match=rf"{name} and {url}") as caught:
        persistent_settings(Settings())
    assert "hunter" not in str(caught.value)


def test_a_url_of_another_machine_is_no_persistent_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://anna:x@db.example.com:5432/claims")
    with pytest.raises(InvalidSetting, match=r"db\.example\.com"):
        persistent_settings(Settings())


def test_another_project_has_ports_of_its_own_and_always_the_same() -> None:
    names = [f"checkout-{number}" for number in range(20)]
    taken = {name: ports(persistent_settings(Settings(triton_project=name))) for name in names}
    assert taken == {name: ports(persistent_settings(Settings(triton_project=name))) for name in names}
    for name in names:
        assert len(set(taken[name])) == len(PORTS)
        assert all(10_000 <= port < 20_000 for port in taken[name])
    shared = [pair for pair in combinations(names, 2) if set(taken[pair[0]]) & set(taken[pair[1]])]
    assert not shared


def test_the_ports_of_a_project_stay_what_they_were() -> None:
    assert Settings().names_in(Role.PORT) == PORTS
    assert ports(persistent_settings(Settings(triton_project="checkout-1"))) == [17264, 17265, 17266, 17267, 17268]


def test_a_port_that_was_chosen_stays() -> None:
    settings = persistent_settings(Settings(triton_project="other", redis_port=7000))
    assert settings.redis_port == 7000
    assert settings.postgres_port != 5432


@pytest.mark.parametrize("name", ["x", "Upper", "with space", "-dash", "a/b", "ü"])
def test_a_project_is_named_as_compose_allows(name: str) -> None:
    with pytest.raises(InvalidSetting, match="TRITON_PROJECT"):
        Settings(triton_project=name)
