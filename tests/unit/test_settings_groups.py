"""Groups of settings: what follows from the roles of fields, for a service of another distribution too."""

import json
from pathlib import Path
from typing import Any

import pytest

from triton_env import Settings, TritonEnvironment
from triton_env.core.model import ContainerRecipe, Endpoint, Placement, ProcessRecipe, ServiceRecipe
from triton_env.core.setting_types import Name, PortNumber, Seconds, Secret, SecretStr
from triton_env.core.settings_group import Role, SettingsGroup, UrlForm, setting, with_fields
from triton_env.errors import InvalidSetting
from triton_env.persistent.settings import persistent_settings
from triton_env.services import SERVICES, Service, registry
from triton_env.services.postgres.settings import PostgresSettings
from triton_env.settings import settings_in
from triton_env.settings.external import external_id, external_settings
from triton_env.sharing.key import differences, key_of, settings_as_data, settings_from_data


@with_fields
class EtcdSettings(SettingsGroup):
    service = "etcd"

    etcd_host: Name = setting(Role.HOST, "Host.", default="localhost")
    etcd_port: PortNumber = setting(Role.PORT, "Port of clients.", default=2379, protocol="client")
    etcd_peer_port: PortNumber = setting(Role.PORT, "Port of peers.", default=2380, protocol="peer")
    etcd_user: Name = setting(Role.USER, "The user.", default="root")
    etcd_password: Secret = setting(Role.PASSWORD, "Its password.", default=Secret("known"))
    etcd_url: Secret = setting(
        Role.URL, "All in one.", default=Secret("http://localhost:2379"), form=UrlForm(("http",), "http://HOST:PORT")
    )
    etcd_image: Name = setting(Role.IMAGE, "The image.", default="etcd:3")
    triton_etcd_timeout: Seconds = setting(Role.TIMEOUT, "Seconds for its start.", default=30)


class Etcd(Service):
    name = "etcd"
    title = "etcd"
    settings_group = EtcdSettings

    @classmethod
    def recipe(cls, settings: Settings) -> ServiceRecipe:
        image = settings.group(EtcdSettings).etcd_image
        container = ContainerRecipe(image=image, image_variable="ETCD_IMAGE", alias="etcd", environment={})
        return cls._recipe(settings, container=container, process=ProcessRecipe(argv=("etcd",), requires=()))

    def server_version(self) -> str:
        return "3.5"

    def ensure_ready(self) -> None:
        pass

    def _url(self, endpoint: Endpoint) -> str:
        return f"http://{endpoint}"


@pytest.fixture
def etcd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SERVICES._others, "etcd", Etcd)


def extended(**values: Any) -> Settings:
    return Settings().with_group(EtcdSettings, **values)


def test_the_settings_of_triton_env_look_for_no_distributions(monkeypatch: pytest.MonkeyPatch) -> None:
    def look(group: str) -> None:
        raise AssertionError(group)

    monkeypatch.setattr(registry, "entry_points", look)
    monkeypatch.setenv("ETCD_PORT", "5000")
    assert not hasattr(Settings(), "etcd_port")


def test_a_group_is_read_from_where_the_settings_were(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("ETCD_PORT=5000\nETCD_PEER_PORT=5001\n")
    elsewhere = settings_in(tmp_path)
    Path(".env").write_text("ETCD_PORT=6000\n")
    monkeypatch.setenv("ETCD_PEER_PORT", "7001")
    own = elsewhere.group(EtcdSettings)
    assert (own.etcd_port, own.etcd_peer_port, own.etcd_host) == (5000, 7001, "localhost")
    assert extended().group(EtcdSettings).etcd_port == 6000
    assert extended(etcd_port=1).group(EtcdSettings).etcd_port == 1
    assert Settings.model_construct().group(EtcdSettings).etcd_port == 2379
    assert extended().origin("etcd_port") == f"line 1 of {Path('.env').absolute()}"


def test_a_group_that_is_there_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = extended()
    monkeypatch.setenv("ETCD_PORT", "5000")
    assert settings.with_group(EtcdSettings) is settings
    assert settings.group(EtcdSettings).etcd_port == 2379
    assert settings.updated(etcd_port=1).with_group(EtcdSettings).group(EtcdSettings).etcd_port == 1
    assert settings.group(PostgresSettings) is settings


def test_a_variable_that_cannot_be_used_is_an_error_where_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETCD_PORT", "tcp://10.0.0.1:2379")
    settings = extended()
    assert [problem.where for problem in settings.problems] == ["ETCD_PORT comes from the process environment"]
    with pytest.raises(InvalidSetting, match="ETCD_PORT cannot be"):
        settings.group(EtcdSettings).etcd_port  # noqa: B018
    with pytest.raises(InvalidSetting, match="ETCD_PORT cannot be"):
        settings.check("ETCD_HOST", "ETCD_PORT")
    monkeypatch.setenv("TRITON_ETCD_TIMEOUT", "soon")
    with pytest.raises(InvalidSetting, match="TRITON_ETCD_TIMEOUT cannot be 'soon'"):
        extended()
    with pytest.raises(InvalidSetting, match="There is no setting 'etcd_prot'"):
        extended(etcd_prot=1)


def test_groups_are_frozen_and_equal_by_their_values() -> None:
    settings = extended()
    assert settings == extended() != Settings()
    assert settings != settings.updated(etcd_port=1)
    assert settings.group(EtcdSettings) == extended().group(EtcdSettings)
    with pytest.raises(AttributeError, match="frozen"):
        settings.group(EtcdSettings).etcd_port = 1  # type: ignore[misc]
    assert "etcd_port=2379" in repr(settings)
    assert "known" not in repr(settings)


def test_its_url_and_the_parts_of_it_agree() -> None:
    settings = external_settings(extended(etcd_url="http://me:p%40ss@etcd.example:9"), ("etcd",))
    own = settings.group(EtcdSettings)
    assert (own.etcd_host, own.etcd_port) == ("etcd.example", 9)
    assert (own.etcd_user, own.etcd_password) == ("me", SecretStr("p@ss"))
    assert Etcd.recipe(settings).external.host == "etcd.example"
    with pytest.raises(InvalidSetting, match="ETCD_PORT and ETCD_URL say the same thing twice and disagree: 8 and 9"):
        external_settings(extended(etcd_url="http://a:9", etcd_port=8), ("etcd",))
    with pytest.raises(InvalidSetting, match="has the scheme 'https'") as caught:
        external_settings(extended(etcd_url="https://a"), ("etcd",))
    assert caught.value.hint == "the form is http://HOST:PORT"
    # What is noted about the servers of the others is found with and without it.
    assert external_id(settings) == external_id(Settings())


def test_another_project_has_ports_for_it() -> None:
    settings = persistent_settings(Settings(triton_project="other").with_group(EtcdSettings))
    own = settings.group(EtcdSettings)
    assert (own.etcd_port, own.etcd_peer_port) == (settings.localstack_port + 1, settings.localstack_port + 2)


def test_what_a_recipe_says_of_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Etcd.recipe(Settings())
    assert [(port.name, port.number, port.variable) for port in recipe.ports] == [
        ("client", 2379, "ETCD_PORT"),
        ("peer", 2380, "ETCD_PEER_PORT"),
    ]
    assert recipe.timeout == 30
    assert recipe.external.variables == ("ETCD_URL", "ETCD_HOST", "ETCD_PORT", "ETCD_USER", "ETCD_PASSWORD")
    assert (recipe.secrets, recipe.known_password) == ({"known"}, "ETCD_PASSWORD")
    set_ = Etcd.recipe(extended(etcd_password="own", etcd_url="http://root:o%77n@localhost"))
    assert (set_.secrets, set_.known_password) == ({"own", "o%77n"}, "")
    monkeypatch.setenv("TRITON_PORTS", "fixed")
    monkeypatch.setenv("ETCD_PORT", "5000")
    assert Etcd.recipe(Settings()).ports[0].fixed == 5000


def test_what_it_hands_out() -> None:
    service = Etcd(extended(etcd_password="own"), Placement({"client": Endpoint("127.0.0.1", 1)}))
    assert service.environ() == {
        "ETCD_HOST": "127.0.0.1",
        "ETCD_PORT": "1",
        "ETCD_USER": "root",
        "ETCD_PASSWORD": "own",
        "ETCD_URL": "http://127.0.0.1:1",
    }
    assert service.with_settings(etcd_user="other").environ()["ETCD_USER"] == "other"
    assert set(Etcd.fresh_credentials()) == {"etcd_password"}


def test_an_environment_reads_those_of_its_services(etcd: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETCD_PORT", "5000")
    assert TritonEnvironment(services=("etcd", "redis")).settings.group(EtcdSettings).etcd_port == 5000
    assert not hasattr(TritonEnvironment(services=("redis",)).settings, "etcd_port")


def test_they_are_shared_as_those_of_the_others_are(etcd: None) -> None:
    settings = extended(etcd_password="own", etcd_port=7)
    data = json.loads(json.dumps(settings_as_data(settings)))
    assert settings_from_data(data, ("etcd",)) == settings
    assert settings_from_data(data) == Settings()
    one = key_of(settings, ("etcd",), "docker")
    # Fresh in each session, and of no account for sessions.
    same = {"etcd_password": SecretStr("x"), "etcd_port": 1, "etcd_host": "a", "triton_etcd_timeout": 1.0}
    assert key_of(settings.updated(**same), ("etcd",), "docker") == one
    assert key_of(settings.updated(etcd_user="a"), ("etcd",), "docker") != one
    other = settings.updated(**same, etcd_user="a", etcd_image="b")
    assert differences(settings, other, ("etcd",), "docker") == ("etcd_user", "etcd_image")
    assert differences(settings, other, ("etcd",), "embedded") == ("etcd_user",)
    assert differences(settings, other, ("redis",), "docker") == ()
