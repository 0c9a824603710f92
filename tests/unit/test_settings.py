"""Settings: where values come from, and what is said about bad ones."""

import re
from pathlib import Path

import pydantic
import pytest

from triton_env import Settings
from triton_env.core.model import Storage
from triton_env.core.packaged_files import packaged_file
from triton_env.errors import InvalidSetting, UsageError


def write_dotenv(text: str) -> None:
    Path(".env").write_text(text, encoding="utf-8")


def test_arguments_win_over_the_environment_which_wins_over_dotenv_which_wins_over_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = [Settings().postgres_port]
    write_dotenv("POSTGRES_PORT=1111\n")
    seen.append(Settings().postgres_port)
    monkeypatch.setenv("POSTGRES_PORT", "2222")
    seen.append(Settings().postgres_port)
    seen.append(Settings(postgres_port=3333).postgres_port)
    assert seen == [5432, 1111, 2222, 3333]


def test_nothing_is_frozen_at_import(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTGRES_DB", "one")
    first = Settings()
    monkeypatch.setenv("POSTGRES_DB", "two")
    assert (first.postgres_db, Settings().postgres_db) == ("one", "two")


def test_dotenv_is_that_of_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("S3_BUCKET=from-a-file\n")
    assert Settings().s3_bucket == "triton-documents"
    monkeypatch.chdir(tmp_path)
    assert Settings().s3_bucket == "from-a-file"


def test_names_of_others_in_dotenv_and_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    write_dotenv("DJANGO_SECRET=x\nPOSTGRES_DB=mine\nPOSTGRES_POOL=5\nTRITON_FUTURE=1\n")
    monkeypatch.setenv("POSTGRES_VERSION", "14")
    settings = Settings()
    assert settings.postgres_db == "mine"
    assert not hasattr(settings, "django_secret")


@pytest.mark.parametrize("name", ["nope", "postgres_prot", "TRITON_FUTURE"])
def test_unknown_arguments_are_refused(name: str) -> None:
    with pytest.raises(InvalidSetting, match=f"There is no setting '{name}'"):
        Settings(**{name: 1})


@pytest.mark.parametrize("name", ["postgres_port", "postgres_db", "redis_password", "triton_runtime", "debug_mode"])
def test_an_empty_variable_means_the_default(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    default = getattr(Settings(), name)
    write_dotenv(f"{name.upper()}=\n")
    assert getattr(Settings(), name) == default
    monkeypatch.setenv(name.upper(), "")
    assert getattr(Settings(), name) == default


def test_an_empty_variable_does_not_hide_the_value_in_dotenv(monkeypatch: pytest.MonkeyPatch) -> None:
    write_dotenv("POSTGRES_DB=from_dotenv\n")
    monkeypatch.setenv("POSTGRES_DB", "")
    assert Settings().postgres_db == "from_dotenv"


def test_settings_are_frozen() -> None:
    settings = Settings()
    with pytest.raises(AttributeError, match="frozen"):
        settings.postgres_db = "other"
    with pytest.raises(AttributeError, match="frozen"):
        del settings.postgres_db


def test_settings_with_a_variable_that_cannot_be_used_are_not_those_with_its_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("POSTGRES_PORT", "tcp://10.0.0.1:5432")
    bad = Settings()
    monkeypatch.delenv("POSTGRES_PORT")
    assert bad != Settings()
    assert bad.updated(postgres_port=5432) == Settings(postgres_port=5432)
    assert bad != 5


def test_any_name_of_an_argument_that_is_not_a_setting_is_named() -> None:
    with pytest.raises(InvalidSetting, match="There is no setting 'self'"):
        Settings(self=1)


def test_a_subclass_cannot_change_fields_unnoticed() -> None:
    class WithMethods(Settings):
        @property
        def both(self) -> str:
            return f"{self.postgres_db} {self.clickhouse_db}"

    assert WithMethods().both == "triton triton"
    with pytest.raises(TypeError, match=r"fields of Settings are not extended or changed \(api_host, mine\)"):

        class WithFields(Settings):
            mine: int = 5
            api_host = "localhost"


def test_secrets_of_pydantic_are_secrets() -> None:
    assert Settings(postgres_password=pydantic.SecretStr("s3cret")) == Settings(postgres_password="s3cret")


def test_a_current_folder_that_was_removed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    with pytest.raises(UsageError, match="current folder cannot be used") as caught:
        Settings()
    assert caught.value.cause == "it has been removed"


def test_updated_returns_a_copy() -> None:
    settings = Settings()
    assert settings.updated(postgres_db="other").postgres_db == "other"
    assert settings.postgres_db == "triton"


BAD = {
    "POSTGRES_PORT": ("http", "whole number"),
    "CLICKHOUSE_PORT": ("65536", "it must be 65535 or less"),
    "REDIS_PORT": ("0", "it must be 1 or more"),
    "API_PORT": ("-1", "it must be 1 or more"),
    "POSTGRES_DB": ("my-db", "it may only hold "),
    "POSTGRES_USER": ("a" * 64, "at most 63 characters"),
    "CLICKHOUSE_DB": ("drop table", "it may only hold "),
    "S3_BUCKET": ("Upper_Case", "it may only hold "),
    "AWS_ENDPOINT_URL": ("localhost:4566", "a URL such as http://localhost:4566"),
    "TRITON_RUNTIME": (
        "embeded",
        "'auto', 'docker', 'embedded', 'kubernetes' or 'external' (did you mean 'embedded'?)",
    ),
    "TRITON_PORTS": ("any", "'random' or 'fixed'"),
    "TRITON_STORAGE": ("ssd", "'memory' or 'disk'"),
    "TRITON_PULL": ("always", "'missing' or 'never'"),
    "TRITON_PROGRESS": ("bar", "'auto', 'live', 'plain' or 'off'"),
    "TRITON_BIND_ADDRESS": ("localhost", "IPv4 or IPv6 address"),
    "TRITON_S3_TIMEOUT": ("-5", "greater than 0"),
    "TRITON_POLL_INTERVAL": ("inf", "finite number"),
    "TRITON_PULL_TIMEOUT": ("ten", "it must be a number"),
    "DEBUG_MODE": ("perhaps", "it must be true or false"),
}


@pytest.mark.parametrize(("variable", "value", "allowed"), [(name, *rest) for name, rest in BAD.items()])
def test_a_bad_value_is_answered_with_its_name_value_and_what_is_allowed(
    variable: str, value: str, allowed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidSetting) as caught:
        getattr(Settings(), variable.lower())
    message = str(caught.value)
    assert f"{variable} cannot be '{value}'"[:60] in message
    assert allowed in message.replace("\n", " ")
    assert f"{variable} comes from the process environment" in message
    # A command that works where triton-env is installed as well: the file is in the wheel.
    assert f"cat {packaged_file('.env.example')}" in message
    assert packaged_file(".env.example").is_file()
    # Nothing of pydantic's remains, neither in the words nor behind them.
    assert not re.search(r"pydantic|(Input|String) should|value_error|Value error|type=", message)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("postgres_port", 1.5, "it must be a whole number"),
        ("postgres_port", None, "a whole number"),
        ("postgres_port", 10**30, "it must be 65535 or less"),
        ("triton_linger", [], "it must be a number"),
        ("triton_linger", "nan", "a finite number"),
        ("triton_pool_size", 65, "it must be 64 or less"),
        pytest.param("triton_linger", 10**400, "it must be a number", id="beyond floats"),
        ("triton_linger", "\N{ARABIC-INDIC DIGIT THREE}", "it must be a number"),
        ("postgres_port", "\N{FULLWIDTH DIGIT FIVE}", "it must be a whole number"),
        ("debug_mode", 2, "it must be true or false"),
        ("debug_mode", "1.0", "it must be true or false"),
        ("postgres_db", 5, "it must be text"),
        ("postgres_db", "a\n", "it may only hold "),
        ("triton_project", "a", "at least 2 characters"),
        ("triton_runtime", 1, "'auto', 'docker', 'embedded', 'kubernetes' or 'external'"),
        ("localstack_host", "a\nb", "line breaks"),
    ],
)
def test_a_bad_argument_is_answered_with_what_is_allowed(field: str, value: object, words: str) -> None:
    with pytest.raises(InvalidSetting, match=words) as caught:
        Settings(**{field: value})
    assert caught.value.where == f"{field.upper()} comes from an argument"


@pytest.mark.parametrize(
    ("field", "value", "taken"),
    [
        ("postgres_port", " 5 ", 5),
        ("postgres_port", "5.0", 5),
        ("triton_linger", 3, 3.0),
        ("triton_linger", "1e3", 1000.0),
        ("debug_mode", "ON", True),
        ("debug_mode", 0, False),
        ("debug_mode", 1.0, True),
        ("triton_storage", Storage.DISK, Storage.DISK),
    ],
)
def test_good_arguments(field: str, value: object, taken: object) -> None:
    found = getattr(Settings(**{field: value}), field)
    assert (found, type(found)) == (taken, type(taken))


@pytest.mark.parametrize("url", ["http://localhost:99999", "http://:4566", "ftp://localhost", "http://localhost:0"])
def test_bad_s3_endpoints(url: str) -> None:
    with pytest.raises(InvalidSetting, match="AWS_ENDPOINT_URL"):
        Settings(aws_endpoint_url=url)


def test_bad_values_are_traced_to_where_they_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidSetting, match="POSTGRES_PORT") as caught:
        Settings(postgres_port=0)
    assert caught.value.where == "POSTGRES_PORT comes from an argument"

    write_dotenv("# of the project\n\nexport postgres_port = 0\n")
    monkeypatch.setenv("POSTGRES_PORT", "")  # empty: does not count
    with pytest.raises(InvalidSetting, match="POSTGRES_PORT") as caught:
        _ = Settings().postgres_port
    assert caught.value.where == f"POSTGRES_PORT comes from line 3 of {Path('.env').absolute()}"

    monkeypatch.setenv("postgres_port", "-1")
    with pytest.raises(InvalidSetting, match="POSTGRES_PORT") as caught:
        _ = Settings().postgres_port
    assert caught.value.where == "POSTGRES_PORT comes from the process environment"
    with pytest.raises(InvalidSetting, match="POSTGRES_PORT") as caught:
        Settings(postgres_port=-2)
    assert caught.value.where == "POSTGRES_PORT comes from an argument"


def test_several_bad_values_are_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_PULL", "x")
    write_dotenv("TRITON_PORTS=y\n")
    with pytest.raises(InvalidSetting, match="2 settings cannot be used") as caught:
        Settings()
    for words in ("TRITON_PULL cannot be 'x'", "TRITON_PORTS cannot be 'y'", "TRITON_PORTS comes from line 1 of"):
        assert words in str(caught.value)


def test_a_bad_secret_is_not_shown() -> None:
    with pytest.raises(InvalidSetting, match=r"POSTGRES_PASSWORD cannot be its value \(a secret\)") as caught:
        Settings(postgres_password=["hunter2"])  # type: ignore[arg-type]
    assert "hunter2" not in str(caught.value)


def test_a_long_bad_value_is_cut() -> None:
    with pytest.raises(InvalidSetting) as caught:
        Settings(postgres_db="-" * 10_000)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        ("LOG_LEVEL", "debug", "DEBUG"),
        ("LOG_LEVEL", "trace", "TRACE"),
        ("DEBUG_MODE", "true", True),
        ("DEBUG_MODE", "0", False),
        ("TRITON_STORAGE", "disk", Storage.DISK),
        ("TRITON_POLL_INTERVAL", "0.5", 0.5),
        ("TRITON_BIND_ADDRESS", "0.0.0.0", "0.0.0.0"),
        ("TRITON_BIND_ADDRESS", "::1", "::1"),
        ("AWS_ENDPOINT_URL", "https://s3.example.com", "https://s3.example.com"),
    ],
)
def test_good_values(variable: str, text: str, value: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, text)
    assert getattr(Settings(), variable.lower()) == value


@pytest.mark.parametrize(
    ("named", "used"),
    [
        ("redis:7-alpine", "registry.example/hub/redis:7-alpine"),
        ("docker.io/library/redis:7", "registry.example/hub/library/redis:7"),
        ("registry.example/hub/redis:7", "registry.example/hub/redis:7"),
        ("other.example/redis:7", "other.example/redis:7"),
        ("localhost/redis", "localhost/redis"),
        ("mirror:5000/redis", "mirror:5000/redis"),
    ],
)
def test_testcontainers_prefix_is_for_images_of_docker_hub(
    named: str, used: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TESTCONTAINERS_HUB_IMAGE_NAME_PREFIX", "registry.example/hub/")
    monkeypatch.setenv("REDIS_IMAGE", named)
    assert Settings().redis_image == used
    assert Settings().postgres_image == "registry.example/hub/postgres:14-alpine"


@pytest.mark.parametrize(
    "value", ["ftp://me:hunter2@host", "//:hunter2@host", "ftp://hunter2@host", "me:hunter2@@host"]
)
def test_a_password_in_a_url_that_cannot_be_used_is_not_shown(value: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        Settings(aws_endpoint_url=value)
    assert "hunter2" not in str(caught.value)
    assert "***@host" in str(caught.value)
