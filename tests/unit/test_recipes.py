"""How each service is described to a runtime. That servers take it so is what the contract tests show."""

import dataclasses
from typing import Any

import pytest

from triton_env import Settings
from triton_env.core.forms import RUNTIME_NAMES, Form, form_of, forms_for
from triton_env.core.model import Endpoint, ServiceRecipe, Storage
from triton_env.errors import LocalStackTokenRequired
from triton_env.services import SERVICES, boot_order
from triton_env.services.s3.servers.localstack import LAST_FREE_VERSION, needs_token


def recipe(name: str, **settings: Any) -> ServiceRecipe:
    return SERVICES[name].recipe(Settings(**settings))


@pytest.mark.parametrize("name", SERVICES)
class TestEveryRecipe:
    def test_names_its_service(self, name: str) -> None:
        assert recipe(name).name == SERVICES[name].name == name
        assert recipe(name).title == SERVICES[name].title

    def test_takes_image_and_timeout_from_variables_that_exist(self, name: str) -> None:
        image = recipe(name).container.image_variable.lower()
        # Error messages tell people to set these two.
        timeout = f"triton_{name}_timeout"
        changed = recipe(name, **{image: "registry.example:5000/mine:1", timeout: 7.5})
        assert changed.container.image == "registry.example:5000/mine:1"
        assert changed.timeout == 7.5
        assert recipe(name).container.image == getattr(Settings(), image)

    def test_is_frozen(self, name: str) -> None:
        with pytest.raises(dataclasses.FrozenInstanceError):
            recipe(name).timeout = 1  # type: ignore[misc]
        with pytest.raises(dataclasses.FrozenInstanceError):
            recipe(name).container.image = "other"  # type: ignore[misc]

    def test_is_the_same_for_the_same_settings(self, name: str) -> None:
        assert recipe(name) == recipe(name)

    def test_takes_fresh_credentials(self, name: str) -> None:
        one, other = (recipe(name, **SERVICES[name].fresh_credentials()) for _ in range(2))
        assert one.secrets.isdisjoint(other.secrets)

    def test_fresh_credentials_are_settings(self, name: str) -> None:
        assert set(SERVICES[name].fresh_credentials()) <= set(Settings.model_fields)


def test_the_slowest_is_started_first_and_nobody_is_forgotten() -> None:
    assert sorted(boot_order(SERVICES)) == sorted(SERVICES)
    assert boot_order(SERVICES)[0] == "s3"
    assert boot_order(("redis", "s3")) == ("s3", "redis")


def test_each_service_has_another_alias_on_the_network() -> None:
    aliases = {name: recipe(name).container.alias for name in SERVICES}
    assert aliases == {"postgres": "postgres", "clickhouse": "clickhouse", "redis": "redis", "s3": "localstack"}


def test_fixed_ports_are_those_of_the_settings() -> None:
    settings = {
        "postgres_port": 1,
        "clickhouse_http_port": 2,
        "clickhouse_port": 3,
        "redis_port": 4,
        "aws_endpoint_url": "http://localhost:5",
    }
    fixed = {port.name: port.fixed for name in SERVICES for port in recipe(name, **settings).ports}
    assert fixed == {"postgres": 1, "http": 2, "native": 3, "redis": 4, "s3": 5}
    inside = {port.name: port.number for name in SERVICES for port in recipe(name, **settings).ports}
    assert inside == {"postgres": 5432, "http": 8123, "native": 9000, "redis": 6379, "s3": 4566}


def test_postgres_in_memory_gives_durability_up() -> None:
    container = recipe("postgres").container
    assert container.storage is Storage.MEMORY
    assert container.command == (
        *("postgres", "-c", "fsync=off"),
        *("-c", "synchronous_commit=off", "-c", "full_page_writes=off"),
    )
    assert "--no-sync" in container.environment["POSTGRES_INITDB_ARGS"]


def test_postgres_on_disk_keeps_its_durability() -> None:
    container = recipe("postgres", triton_storage="disk").container
    assert container.storage is Storage.DISK
    assert container.command == ()
    assert "--no-sync" not in container.environment["POSTGRES_INITDB_ARGS"]


@pytest.mark.parametrize("storage", Storage)
def test_postgres_asks_for_a_password_also_on_its_own_loopback(storage: Storage) -> None:
    # To which a forwarded port leads.
    environment = recipe("postgres", triton_storage=storage).container.environment
    assert "--auth-host=scram-sha-256" in environment["POSTGRES_INITDB_ARGS"].split()


@pytest.mark.parametrize("image", ["postgres:14-alpine", "postgres:17", "postgres:18-alpine", "postgres:latest"])
@pytest.mark.parametrize("storage", Storage)
def test_postgres_data_is_where_the_image_declares_it(image: str, storage: Storage) -> None:
    # 18 moved it, and exits where something is mounted on the old path.
    container = recipe("postgres", postgres_image=image, triton_storage=storage).container
    assert container.data_paths == ()
    assert "/var/lib/postgresql" not in str((*container.environment.values(), *container.command))
    assert "PGDATA" not in container.environment


@pytest.mark.parametrize("storage", Storage)
def test_clickhouse_is_always_on_disk_and_boots_once(storage: Storage) -> None:
    container = recipe("clickhouse", triton_storage=storage).container
    assert container.storage is Storage.DISK
    # With CLICKHOUSE_DB the image boots a temporary server first.
    assert set(container.environment) == {
        "CLICKHOUSE_USER",
        "CLICKHOUSE_PASSWORD",
        "CLICKHOUSE_DEFAULT_ACCESS_MANAGEMENT",
    }
    # Without a password `default` could not log in from outside the container.
    assert container.environment["CLICKHOUSE_PASSWORD"]


def test_redis_in_memory_never_saves() -> None:
    container = recipe("redis").container
    assert container.storage is Storage.MEMORY
    assert container.command[-4:] == ("--save", "", "--appendonly", "no")
    assert container.data_paths == ("/data",)


def test_redis_on_disk_appends() -> None:
    container = recipe("redis", triton_storage="disk").container
    assert container.storage is Storage.DISK
    assert container.command[-2:] == ("--appendonly", "yes")
    assert "--save" not in container.command


def test_s3_is_loaded_early_and_asks_nobody_outside() -> None:
    container = recipe("s3").container
    assert container.environment == {
        "SERVICES": "s3,kms",
        "EAGER_SERVICE_LOADING": "1",
        "SKIP_SSL_CERT_DOWNLOAD": "1",
        "DISABLE_EVENTS": "1",
        "DNS_ADDRESS": "0",
        "AWS_DEFAULT_REGION": "us-east-1",
        "EXTRA_CORS_ALLOWED_ORIGINS": "",
    }
    # A mount there breaks its start.
    assert not [path for path in container.data_paths if path.startswith("/tmp")]


def test_s3_storage_follows_the_settings() -> None:
    memory, disk = recipe("s3").container, recipe("s3", triton_storage="disk").container
    assert memory.storage is Storage.MEMORY
    (door,) = memory.files.values()
    assert door.is_file()
    assert disk.storage is Storage.DISK
    assert disk.environment["PROVIDER_OVERRIDE_S3"] == "persisted"
    assert disk.files.items() > memory.files.items()
    source = disk.files[disk.environment["PYTHONPATH"]]
    assert (source / "triton_persistence" / "__init__.py").is_file()


def test_a_token_goes_through_to_localstack_and_lets_any_version_start() -> None:
    s3 = recipe("s3", localstack_auth_token="ls-token", localstack_image="localstack/localstack:latest")
    assert s3.container.environment["LOCALSTACK_AUTH_TOKEN"] == "ls-token"
    assert "ls-token" in s3.secrets


def test_a_newer_localstack_without_a_token_is_refused_with_what_to_set() -> None:
    refusal = recipe("s3", localstack_image="localstack/localstack:2026.3").container.unusable
    assert isinstance(refusal, LocalStackTokenRequired)
    for words in ("localstack/localstack:2026.3", "LOCALSTACK_IMAGE=localstack/localstack:4.14.0", "4.14.0"):
        assert words in str(refusal)


@pytest.mark.parametrize(
    ("image", "needed"),
    [
        ("localstack/localstack", True),
        ("localstack/localstack:latest", True),
        ("localstack/localstack:stable", True),
        ("localstack/localstack:4.14.0", False),
        ("localstack/localstack:v4.14.0", False),
        ("localstack/localstack:4.14.0-amd64", False),
        ("localstack/localstack:4.14.1", True),
        ("localstack/localstack:4.15.0", True),
        ("localstack/localstack:5", True),
        # Moving tags: they are what is newest under them.
        ("localstack/localstack:4.14", True),
        ("localstack/localstack:4", True),
        ("localstack/localstack:4.13", False),
        ("localstack/localstack:3", False),
        ("localstack/localstack:4.13.0", False),
        ("localstack/localstack:3.8.1", False),
        ("localstack/localstack:2026.3", True),
        ("localstack/localstack:2026.03.0", True),
        ("localstack", True),
        ("docker.io/localstack/localstack:latest", True),
        # The colon of a port is none of a tag.
        ("registry.example:5000/localstack/localstack", True),
        ("registry.example:5000/localstack/localstack:4.14.0", False),
        ("registry.example:5000/localstack/localstack:4.14.1", True),
        # A digest says nothing of the version.
        ("localstack/localstack@sha256:" + "0" * 64, False),
        ("localstack/localstack:latest@sha256:" + "0" * 64, False),
        # Other images decide for themselves.
        ("gresau/localstack-persist:4", False),
        ("motoserver/moto:latest", False),
        ("registry.example/mirrors/s3:latest", False),
    ],
)
def test_which_localstack_needs_a_token(image: str, needed: bool) -> None:
    assert needs_token(image) is needed


def test_the_default_image_is_the_last_free_version() -> None:
    assert Settings().localstack_image.endswith(":" + ".".join(map(str, LAST_FREE_VERSION)))


@pytest.mark.parametrize(("host", "text"), [("127.0.0.1", "127.0.0.1:1"), ("db", "db:1"), ("::1", "[::1]:1")])
def test_endpoints_are_written_as_in_urls(host: str, text: str) -> None:
    assert str(Endpoint(host, 1)) == text


def test_each_runtime_has_services_in_one_form() -> None:
    auto, *named = RUNTIME_NAMES
    assert {form_of(name) for name in named} == set(Form)
    assert forms_for(auto) == (Form.CONTAINER, Form.PROCESS)
