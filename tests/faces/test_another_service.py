"""A service that another distribution brings, on the command line and in the pytest plugin."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from platformdirs import user_cache_path

from distributions import on_path, write
from faces.plugin_runs import runs
from triton_env.cli import command_line
from triton_env.pytest_plugin import requirements

pytest_plugins = ["pytester"]

MODULE = """
from dataclasses import replace

from triton_env.pytest_plugin import service_fixture
from triton_env.services import Redis
from triton_env.services.base_fixtures import Fixtures
from triton_env.services.base_shell import ServerShell
from triton_env.services.parts import Parts


class Memo(Redis):
    name = "memo"
    title = "Memo"
    parts = Parts(way_in="triton_memo:SHELL")

    @staticmethod
    def recipe(settings):
        return replace(Redis.recipe(settings), name="memo")

    def _variables(self, endpoints, url):
        return {"MEMO_URL": url}


class MemoCli(ServerShell):
    command = program = "memo-cli"
    summary = "Open memo-cli."
    description = "Run memo-cli on the Memo that runs here."
    protocol = "redis"
    instead = "install memo-tools"

    def arguments(self, service, at, given):
        return given

    def variables(self, service, at):
        return {}

    def way_in(self, service):
        return f"memo-cli {service.port}"


SHELL = MemoCli()
FIXTURES = Fixtures("Memo for this test alone.", "Memo", "A client of it.", "Redis", Memo.aclient)
triton_memo = service_fixture("memo", FIXTURES)
"""


@pytest.fixture
def installed(tmp_path: Path) -> Iterator[Path]:
    """The folder of the distribution."""
    folder = write(tmp_path / "site-packages", "triton-memo", {"triton_memo.py": MODULE}, {"memo": "triton_memo:Memo"})
    with on_path(folder):
        yield folder
    requirements.KNOWN.pop("memo", None)


@pytest.mark.usefixtures("installed")
def test_its_shell_is_a_command() -> None:
    result = CliRunner().invoke(command_line, ["memo-cli", "--help"])
    assert result.exit_code == 0, result.output
    assert "Run memo-cli on the Memo that runs here." in result.output


@pytest.mark.usefixtures("installed")
def test_another_word_is_refused_all_the_same() -> None:
    result = CliRunner().invoke(command_line, ["memo-clu", "--help"])
    assert result.exit_code == 2
    assert "No such command" in result.output


@pytest.mark.timeout(600)
def test_tests_ask_for_it_by_a_fixture_and_it_is_in_the_report(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, embedded_packages: None, installed: Path
) -> None:
    with runs(pytester, monkeypatch, str(user_cache_path())) as project:
        monkeypatch.setenv("PYTHONPATH", str(installed), prepend=":")
        project.ini("triton_services = memo redis")
        pytester.makepyfile(
            """
            import pytest

            def test_it_runs(triton_env):
                assert triton_env.services == ("redis", "memo")
                assert triton_env["memo"].client().ping()

            @pytest.mark.triton(services="memo")
            def test_its_report(triton_env):
                raise AssertionError("to see the report")

            def test_what_it_does_not_offer_is_refused_by_name(triton_memo):
                pass
            """
        )
        done = project.run("-p", "triton_memo")
        done.assert_outcomes(passed=1, failed=1, errors=1)
        done.stdout.fnmatch_lines(["Memo  *redis://*"])
        done.stdout.fnmatch_lines(["*Memo cannot be in a namespace: no isolation is offered.*"])
