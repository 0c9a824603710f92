"""The compose file says what the settings say, and is found where people work."""

import re
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import pytest

from triton_env import Settings
from triton_env.errors import ComposeUnavailable
from triton_env.persistent.docker import compose
from triton_env.services import SERVICES

REPOSITORY = Path(__file__).parents[2]
TEXT = (REPOSITORY / "docker-compose.yml").read_text("utf-8")
REFERENCE = re.compile(r"(?<!\$)\$\{([A-Z_]+)(?::-([^}]*))?\}")


def plain(value: object) -> str:
    return str(value.get_secret_value() if hasattr(value, "get_secret_value") else value)


def test_every_variable_of_the_compose_file_is_a_setting_with_the_same_default() -> None:
    references = REFERENCE.findall(TEXT)
    assert len(references) > 20
    for name, default in references:
        if name == "COMPOSE_PROJECT_NAME":
            continue
        # Empty means 127.0.0.1 for an engine on this machine, and Compose knows no other.
        expected = "127.0.0.1" if name == "TRITON_BIND_ADDRESS" else plain(Settings.model_fields[name.lower()].default)
        assert default == expected, name


def test_the_services_are_those_of_the_project() -> None:
    choices = (Settings(), Settings(triton_s3_server="seaweedfs"))
    aliases = {service.recipe(each).container.alias for service in SERVICES.values() for each in choices}
    services = TEXT.split("\nservices:\n")[1].split("\nnetworks:\n")[0]
    assert set(re.findall(r"^  ([a-z]+):$", services, re.MULTILINE)) == aliases


def test_every_port_of_a_service_is_published() -> None:
    for service in SERVICES.values():
        for port in service.recipe(Settings()).ports:
            published = f"${{TRITON_BIND_ADDRESS:-127.0.0.1}}:${{{port.variable}:-{port.fixed}}}:{port.number}"
            assert published in TEXT


def test_seaweedfs_gets_the_options_of_a_session() -> None:
    recipe = SERVICES["s3"].recipe(Settings(triton_s3_server="seaweedfs"))
    text = TEXT.partition("\n  seaweedfs:\n")[2].partition("    environment:\n")[0]
    assert tuple(re.findall(r"^      - (.*)$", text, re.MULTILINE)) == recipe.container.command
    assert recipe.data is not None
    assert f"- {recipe.data.volume}:{recipe.data.path}\n" in TEXT


def test_what_is_mounted_exists() -> None:
    mounted = re.findall(r"- (\./[^:]+):", TEXT)
    assert len(mounted) >= 6
    for path in mounted:
        assert (REPOSITORY / path).exists(), path


@pytest.mark.parametrize("name", ["small-machine.xml", "small-queries.xml", "web-pages.xml"])
def test_the_clickhouse_files_are_well_formed(name: str) -> None:
    path = REPOSITORY / "docker" / "clickhouse" / name
    assert ElementTree.parse(path).getroot().tag == "clickhouse"


def refuses_page(headers: Mapping[str, str]) -> bool:
    """Whether a rule of ours answers a request with these headers, as ClickHouse chooses."""
    handlers = ElementTree.parse(REPOSITORY / "docker" / "clickhouse" / "web-pages.xml").find("http_handlers")
    assert handlers is not None
    # The first that matches counts.
    assert [child.tag for child in handlers] == ["rule", "rule", "defaults"]
    found = False
    for rule in handlers.findall("rule"):
        assert (rule.findtext("handler/type"), rule.findtext("handler/status")) == ("static", "403")
        (wanted,) = rule.findall("headers/*")
        text = wanted.text or ""
        pattern = text.removeprefix("regex:") if text.startswith("regex:") else re.escape(text)
        found |= re.fullmatch(pattern, headers.get(wanted.tag, "")) is not None
    return found


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "http://EVIL.example:8080"},
        {"Origin": "http://1.2.3.com"},
        {"Origin": "https://xn--e1afmkfd.xn--p1ai"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1.evil.example:8123"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_clickhouse_refuses_pages_of_other_sites(headers: dict[str, str]) -> None:
    assert refuses_page(headers)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://localhost:8123", "Sec-Fetch-Site": "same-origin"},
        {"Origin": "http://127.0.0.1:8123"},
        {"Origin": "http://[::1]:8123"},
        {"Origin": "http://clickhouse:8123"},
        {"Sec-Fetch-Site": "none"},
    ],
)
def test_clickhouse_answers_programs_and_its_own_pages(headers: dict[str, str]) -> None:
    assert not refuses_page(headers)


def test_settings_of_a_profile_are_in_users_d_and_those_of_the_server_are_not() -> None:
    folder = REPOSITORY / "docker" / "clickhouse"
    server = ElementTree.parse(folder / "small-machine.xml").getroot()
    profile = ElementTree.parse(folder / "small-queries.xml").getroot()
    assert server.find("profiles") is None
    assert {child.tag for child in profile} == {"profiles"}
    memory = int(server.findtext("max_server_memory_usage") or 0)
    assert 0 < int(profile.findtext("profiles/default/max_memory_usage") or 0) < memory < 2 * 2**30


def test_all_together_need_less_than_four_gigabytes() -> None:
    limits = re.findall(r"limits: \{memory: (\d+)([MG])\}", TEXT)
    # Of the two S3 servers, one.
    assert len(limits) == 5
    assert limits.pop() == limits[-1]
    assert sum(int(number) * {"M": 1, "G": 1024}[unit] for number, unit in limits) < 4 * 1024


def test_the_compose_file_is_that_of_the_nearest_folder_that_has_one_of_ours(tmp_path: Path) -> None:
    inner = tmp_path / "project" / "src" / "app"
    inner.mkdir(parents=True)
    assert compose.compose_file(inner) == REPOSITORY / "docker-compose.yml"
    # One of the application's own is none of ours.
    (inner / "docker-compose.yml").write_text("services: {}\n")
    ours = tmp_path / "project" / "docker-compose.yml"
    ours.write_text(TEXT)
    assert compose.compose_file(inner) == ours


def test_a_compose_that_is_too_old_is_reported_with_its_version(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, answer in (("docker", "exit 1"), ("docker-compose", "echo 1.29.2")):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\n{answer}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(compose, "find_spec", lambda name: None)
    with pytest.raises(ComposeUnavailable) as caught:
        compose.compose_program.__wrapped__()
    assert "1.29.2" in caught.value.cause
    assert "pip install" in caught.value.hint
