"""Secrets stay out of whatever people print."""

import pytest

from triton_env import Settings, TritonEnvironment
from triton_env.core.redaction import redacted
from triton_env.core.setting_types import SecretStr
from triton_env.services import SERVICES
from triton_env.services.base import random_password
from unit.fakes import FakeRuntimes


def secret_fields() -> list[str]:
    return [name for name, field in Settings.model_fields.items() if field.annotation is SecretStr]


def all_secret() -> Settings:
    return Settings(**{name: f"hunter2-{name}" for name in secret_fields()})  # type: ignore[arg-type]


def test_every_field_that_is_a_secret_by_its_name_is_one_by_its_type() -> None:
    by_name = [
        name
        for name in Settings.model_fields
        if name.endswith(("_password", "_token", "secret_access_key", "database_url", "redis_url"))
    ]
    assert secret_fields() == by_name


def test_settings_do_not_show_them() -> None:
    settings = all_secret()
    for text in (repr(settings), str(settings), f"{settings}", str(dict(settings))):
        assert "hunter2" not in text
        assert "development_password" not in repr(Settings())


@pytest.mark.parametrize("name", SERVICES)
def test_recipes_do_not_show_them(name: str) -> None:
    recipe = SERVICES[name].recipe(all_secret())
    assert any("hunter2" in secret for secret in recipe.secrets)
    for part in (recipe, recipe.container, recipe.ports):
        assert "hunter2" not in repr(part)
        assert "hunter2" not in str(part)


@pytest.mark.parametrize("name", SERVICES)
def test_a_recipe_lists_all_secrets_that_it_hands_to_the_container(name: str) -> None:
    recipe = SERVICES[name].recipe(all_secret())
    for value in (*recipe.container.environment.values(), *recipe.container.command):
        assert "hunter2" not in redacted(value, recipe.secrets)
    # A command line can be read by every user of the machine.
    assert "hunter2" not in " ".join(recipe.container.command)


def test_a_running_environment_does_not_show_them(runtimes: FakeRuntimes) -> None:
    with TritonEnvironment() as env:
        secrets = {env.postgres.password, env.clickhouse.password, env.redis.password, env.s3.secret_key}
        shown = [repr(thing) for thing in (env, env.settings, env.timeline, *(env.service(name) for name in SERVICES))]
        shown += [str(env), str(env.settings), str(env.postgres.placement)]
        shown += [repr(recipe) for recipe in runtimes.last.recipes.values()]
        assert not [text for text in shown for secret in secrets if secret in text]
        assert all(any(secret in recipe.secrets for recipe in runtimes.last.recipes.values()) for secret in secrets)


@pytest.mark.parametrize(
    ("text", "secrets", "expected"),
    [
        ("password=hunter2 again hunter2", {"hunter2"}, "password=*** again ***"),
        ("nothing to see", {"hunter2"}, "nothing to see"),
        ("hunter2-long", {"hunter2", "hunter2-long"}, "***"),
        ("a test", {""}, "a test"),
        ("cat and abc", {"abc"}, "cat and abc"),
        ("a.b", {"a.bc", ".*.."}, "a.b"),
    ],
)
def test_redaction(text: str, secrets: set[str], expected: str) -> None:
    assert redacted(text, secrets) == expected


def test_random_passwords_need_no_quoting_and_do_not_repeat() -> None:
    passwords = {random_password() for _ in range(1000)}
    assert len(passwords) == 1000
    assert all(len(password) == 24 and password.isalnum() for password in passwords)
