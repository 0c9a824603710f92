"""Groups of settings: what follows from the roles of fields, for a service of another distribution too."""

import json
from dataclasses import replace
from importlib.metadata import EntryPoint
from math import ceil
from pathlib import Path
from typing import Any

import pytest

from triton_env import Settings, TritonEnvironment
from triton_env.attached import AttachedEnvironment
from triton_env.core.model import ContainerRecipe, Endpoint, Placement, ProcessRecipe, ServiceRecipe
from triton_env.core.setting_types import Name, PortNumber, Seconds, Secret, SecretStr
from triton_env.core.settings_group import Field, Role, SettingsGroup, UrlForm, setting, with_fields
from triton_env.errors import InvalidSetting
from triton_env.modes.arguments import Arguments
from triton_env.modes.external import External
from triton_env.persistent.settings import persistent_settings
from triton_env.services import SERVICES, Service, registry
from triton_env.services.postgres.settings import PostgresSettings
from triton_env.settings import settings_in
from triton_env.settings.external import external_id, external_settings
from triton_env.sharing.key import differences, key_of, settings_as_data, settings_from_data
from unit.records import record

OWN_PORTS = Settings.model_construct().names_in(Role.PORT)


@with_fields
class BrokerSettings(SettingsGroup):
    service = "broker"

    broker_host: Name = setting(Role.HOST, "Host.", default="localhost")
    broker_port: PortNumber = setting(Role.PORT, "Port of clients.", default=2379, protocol="client")
    broker_peer_port: PortNumber = setting(Role.PORT, "Port of peers.", default=2380, protocol="peer")
    broker_user: Name = setting(Role.USER, "The user.", default="root")
    broker_password: Secret = setting(Role.PASSWORD, "Its password.", default=Secret("known"))
    broker_url: Secret = setting(
        Role.URL, "All in one.", default=Secret("http://localhost:2379"), form=UrlForm(("http",), "http://HOST:PORT")
    )
    broker_image: Name = setting(Role.IMAGE, "The image.", default="broker:3")
    triton_broker_timeout: Seconds = setting(Role.TIMEOUT, "Seconds for its start.", default=30)


class Broker(Service):
    name = "broker"
    title = "broker"
    settings_group = BrokerSettings

    @classmethod
    def recipe(cls, settings: Settings) -> ServiceRecipe:
        image = settings.group(BrokerSettings).broker_image
        container = ContainerRecipe(image=image, image_variable="BROKER_IMAGE", alias="broker", environment={})
        return cls._recipe(settings, container=container, process=ProcessRecipe(argv=("broker",), requires=()))

    def server_version(self) -> str:
        return "3.5"

    def ensure_ready(self) -> None:
        pass

    def _url(self, endpoint: Endpoint) -> str:
        return f"http://{endpoint}"


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SERVICES._others, "broker", Broker)
    monkeypatch.setitem(vars(SERVICES), "_points", {"broker": EntryPoint("broker", "its:Broker", registry.GROUP)})


def extended(**values: Any) -> Settings:
    return Settings().with_group(BrokerSettings, **values)


def test_the_settings_of_triton_env_look_for_no_distributions(monkeypatch: pytest.MonkeyPatch) -> None:
    def look(group: str) -> None:
        raise AssertionError(group)

    monkeypatch.setattr(registry, "entry_points", look)
    monkeypatch.setenv("BROKER_PORT", "5000")
    assert not hasattr(Settings(), "broker_port")


def test_a_group_is_read_from_where_the_settings_were(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("BROKER_PORT=5000\nBROKER_PEER_PORT=5001\n")
    elsewhere = settings_in(tmp_path)
    Path(".env").write_text("BROKER_PORT=6000\n")
    monkeypatch.setenv("BROKER_PEER_PORT", "7001")
    own = elsewhere.group(BrokerSettings)
    assert (own.broker_port, own.broker_peer_port, own.broker_host) == (5000, 7001, "localhost")
    assert extended().group(BrokerSettings).broker_port == 6000
    assert extended(broker_port=1).group(BrokerSettings).broker_port == 1
    assert Settings.model_construct().group(BrokerSettings).broker_port == 2379
    assert extended().origin("broker_port") == f"line 1 of {Path('.env').absolute()}"


def test_a_group_that_is_there_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = extended()
    monkeypatch.setenv("BROKER_PORT", "5000")
    assert settings.with_group(BrokerSettings) is settings
    assert settings.group(BrokerSettings).broker_port == 2379
    assert settings.updated(broker_port=1).with_group(BrokerSettings).group(BrokerSettings).broker_port == 1
    assert settings.group(PostgresSettings) is settings


def test_a_variable_that_cannot_be_used_is_an_error_where_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER_PORT", "tcp://10.0.0.1:2379")
    settings = extended()
    assert [problem.where for problem in settings.problems] == ["BROKER_PORT comes from the process environment"]
    with pytest.raises(InvalidSetting, match="BROKER_PORT cannot be"):
        settings.group(BrokerSettings).broker_port  # noqa: B018
    with pytest.raises(InvalidSetting, match="BROKER_PORT cannot be"):
        settings.check("BROKER_HOST", "BROKER_PORT")
    monkeypatch.setenv("TRITON_BROKER_TIMEOUT", "soon")
    with pytest.raises(InvalidSetting, match="TRITON_BROKER_TIMEOUT cannot be 'soon'"):
        extended()
    with pytest.raises(InvalidSetting, match="There is no setting 'broker_prot'"):
        extended(broker_prot=1)


def test_groups_are_frozen_and_equal_by_their_values() -> None:
    settings = extended()
    assert settings == extended() != Settings()
    assert settings != settings.updated(broker_port=1)
    assert settings.group(BrokerSettings) == extended().group(BrokerSettings)
    with pytest.raises(AttributeError, match="frozen"):
        settings.group(BrokerSettings).broker_port = 1  # type: ignore[misc]
    assert "broker_port=2379" in repr(settings)
    assert "known" not in repr(settings)


def test_its_url_and_the_parts_of_it_agree() -> None:
    settings = external_settings(extended(broker_url="http://me:p%40ss@broker.example:9"), ("broker",))
    own = settings.group(BrokerSettings)
    assert (own.broker_host, own.broker_port) == ("broker.example", 9)
    assert (own.broker_user, own.broker_password) == ("me", SecretStr("p@ss"))
    assert Broker.recipe(settings).external.host == "broker.example"
    with pytest.raises(
        InvalidSetting, match="BROKER_PORT and BROKER_URL say the same thing twice and disagree: 8 and 9"
    ):
        external_settings(extended(broker_url="http://a:9", broker_port=8), ("broker",))
    with pytest.raises(InvalidSetting, match="has the scheme 'https'") as caught:
        external_settings(extended(broker_url="https://a"), ("broker",))
    assert caught.value.hint == "the form is http://HOST:PORT"


def test_two_external_servers_are_two_environments() -> None:
    """What is noted about the servers of the others is found with and without it, as long as it is not elsewhere."""
    at_defaults = external_id(Settings())
    assert external_id(extended()) == at_defaults
    elsewhere = [
        extended(broker_url="http://a.example:9"),
        extended(broker_host="b.example"),
        extended(broker_port=9),
    ]
    assert len({at_defaults, *map(external_id, elsewhere)}) == 4
    assert external_id(extended(broker_host="a.example", broker_port=9)) == external_id(elsewhere[0])
    # Whatever is set, also where it cannot be used.
    assert external_id(extended(broker_url="http://a:9", broker_port=8))


def test_an_external_environment_is_the_same_with_and_without_it(broker: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def identity(*services: str) -> str:
        return External(Arguments(TritonEnvironment(services=services).settings, services, "external")).id

    assert identity("redis") == identity("redis", "broker") == external_id(Settings())
    monkeypatch.setenv("BROKER_HOST", "a.example")
    assert identity("redis") == identity("redis", "broker") != external_id(Settings())
    monkeypatch.setenv("DATABASE_URL", "postgresql://db.example/claims")
    assert identity("redis") == identity("redis", "postgres")
    monkeypatch.setenv("TRITON_BROKER_TIMEOUT", "soon")  # it cannot be used, and is not
    assert identity("redis")


def test_a_command_knows_external_servers_by_the_id_of_who_holds_them(
    broker: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROKER_HOST", "a.example")
    mode = External(Arguments(TritonEnvironment(services=("redis",)).settings, ("redis",), "external"))
    data = json.loads(json.dumps(settings_as_data(mode.settings)))
    held = replace(record(), runtime="external", services=("redis",), settings=data)
    monkeypatch.delenv("BROKER_HOST")
    assert AttachedEnvironment(held, Settings())._new_mode().id == mode.id != external_id(Settings())


@with_fields
class _Many(SettingsGroup):
    service = "many"


def with_many_ports(settings: Settings, count: int) -> Settings:
    """With the group of a service that has so many ports."""
    fields = {
        f"many_port_{number}": Field(f"many_port_{number}", int, number, Role.PORT, "A port.")
        for number in range(1, count + 1)
    }
    return settings.with_group(type("Many", (_Many,), {"model_fields": fields}))


def test_another_project_has_ports_for_it_and_always_the_same() -> None:
    own = persistent_settings(Settings(triton_project="other"))
    ports = []
    for settings in (
        Settings(triton_project="other").with_group(BrokerSettings),
        with_many_ports(Settings(triton_project="other"), 3).with_group(BrokerSettings),
    ):
        with_it = persistent_settings(settings)
        assert [getattr(with_it, name) for name in OWN_PORTS] == [getattr(own, name) for name in OWN_PORTS]
        group = with_it.group(BrokerSettings)
        ports.append((group.broker_port, group.broker_peer_port))
    assert ports[0] == ports[1]
    assert ports[0][1] == ports[0][0] + 1
    assert persistent_settings(extended()).group(BrokerSettings).broker_port == 2379
    chosen = persistent_settings(Settings(triton_project="other").with_group(BrokerSettings, broker_port=7000))
    assert (chosen.group(BrokerSettings).broker_port, chosen.group(BrokerSettings).broker_peer_port) == (
        7000,
        ports[0][1],
    )


@pytest.mark.parametrize("count", [1, 8, 9, 30])
def test_however_many_ports_it_has_they_are_not_those_of_its_neighbours(count: int) -> None:
    blocks = {}
    for number in range(300):
        settings = persistent_settings(with_many_ports(Settings(triton_project=f"checkout-{number}"), count))
        (group,) = settings.groups_of_others
        ports = [getattr(settings, name) for name in group.names_of(Role.PORT)]
        own = {getattr(settings, name) for name in OWN_PORTS}
        assert len({*ports, *own}) == count + len(own)
        assert all(10_000 <= port < 19_600 for port in ports)
        blocks[number] = [port // 8 for port in ports]
    # Of whole blocks, so that two projects have all ports of a block in common, or none.
    assert all(len(set(each)) == ceil(count / 8) for each in blocks.values())
    assert len({min(each) for each in blocks.values()}) > 200


def test_what_a_recipe_says_of_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Broker.recipe(Settings())
    assert [(port.name, port.number, port.variable) for port in recipe.ports] == [
        ("client", 2379, "BROKER_PORT"),
        ("peer", 2380, "BROKER_PEER_PORT"),
    ]
    assert recipe.timeout == 30
    assert recipe.external.variables == ("BROKER_URL", "BROKER_HOST", "BROKER_PORT", "BROKER_USER", "BROKER_PASSWORD")
    assert (recipe.secrets, recipe.known_password) == ({"known"}, "BROKER_PASSWORD")
    set_ = Broker.recipe(extended(broker_password="own", broker_url="http://root:o%77n@localhost"))
    assert (set_.secrets, set_.known_password) == ({"own", "o%77n"}, "")
    monkeypatch.setenv("TRITON_PORTS", "fixed")
    monkeypatch.setenv("BROKER_PORT", "5000")
    assert Broker.recipe(Settings()).ports[0].fixed == 5000


def test_what_it_hands_out() -> None:
    service = Broker(extended(broker_password="own"), Placement({"client": Endpoint("127.0.0.1", 1)}))
    assert service.environ() == {
        "BROKER_HOST": "127.0.0.1",
        "BROKER_PORT": "1",
        "BROKER_USER": "root",
        "BROKER_PASSWORD": "own",
        "BROKER_URL": "http://127.0.0.1:1",
    }
    assert service.with_settings(broker_user="other").environ()["BROKER_USER"] == "other"
    assert set(Broker.fresh_credentials()) == {"broker_password"}


def test_an_environment_reads_those_of_its_services(broker: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER_PORT", "5000")
    assert TritonEnvironment(services=("broker", "redis")).settings.group(BrokerSettings).broker_port == 5000
    assert not hasattr(TritonEnvironment(services=("redis",)).settings, "broker_port")


def test_they_are_shared_as_those_of_the_others_are(broker: None) -> None:
    settings = extended(broker_password="own", broker_port=7)
    data = json.loads(json.dumps(settings_as_data(settings)))
    assert settings_from_data(data, ("broker",)) == settings
    assert settings_from_data(data) == Settings()
    one = key_of(settings, ("broker",), "docker")
    # Fresh in each session, and of no account for sessions.
    same = {"broker_password": SecretStr("x"), "broker_port": 1, "broker_host": "a", "triton_broker_timeout": 1.0}
    assert key_of(settings.updated(**same), ("broker",), "docker") == one
    assert key_of(settings.updated(broker_user="a"), ("broker",), "docker") != one
    other = settings.updated(**same, broker_user="a", broker_image="b")
    assert differences(settings, other, ("broker",), "docker") == ("broker_user", "broker_image")
    assert differences(settings, other, ("broker",), "embedded") == ("broker_user",)
    assert differences(settings, other, ("redis",), "docker") == ()
