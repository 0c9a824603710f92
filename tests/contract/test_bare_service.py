"""A service of another distribution that offers nothing but a recipe, beside one that comes with triton-env.

What it does not offer is refused by its name where it is asked for by its name, and keeps nothing else from being done.
"""

import json
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from platformdirs import user_cache_path

import forkserver
from distributions import bare
from faces.plugin_runs import Runs, runs
from triton_env import Settings, TritonEnvironment, backup
from triton_env.cli import command_line
from triton_env.cli.checks import examine
from triton_env.core.findings import Verdict
from triton_env.errors import NotOffered, RestoreFailed, ServiceNotSelected, UnknownService, UsageError
from triton_env.notebook import magic
from triton_env.services import SERVICES, registry
from triton_env.services.parts import Parts
from triton_env.services.registry import Registry
from triton_env.sharing.offering import offered

pytest_plugins = ["pytester"]

Command = Callable[..., Result]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with bare(tmp_path_factory.mktemp("site-packages") / "own") as folder:
        yield folder


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="module")
def env(installed: Path, embedded_packages: None, state: str) -> Iterator[TritonEnvironment]:
    settings = Settings(triton_state_dir=state, triton_pool_size=0)
    with TritonEnvironment(settings, services=("bare", "redis"), runtime="embedded") as environment:
        yield environment


@pytest.fixture
def command(env: TritonEnvironment, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """The command line in a project in which the environment is the session that runs."""
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRITON_STATE_DIR", state)
    monkeypatch.setenv("TRITON_PROGRESS", "off")

    def invoke(*words: str, status: int = 0) -> Result:
        result = CliRunner().invoke(command_line, words)
        assert result.exit_code == status, result.output
        return result

    with offered(env, held_by="serve", project=str(tmp_path), asked_runtime="embedded"):
        yield invoke


@pytest.fixture
def persistent(installed: Path, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Commands for persistent services that fail; what they say."""
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRITON_STATE_DIR", state)
    monkeypatch.setenv("TRITON_PROJECT", "no-such-project")

    def invoke(*words: str) -> str:
        result = CliRunner().invoke(command_line, words)
        assert result.exit_code == 2, result.output
        return " ".join(result.stderr.split())

    return invoke


class TestInPython:
    def test_it_starts_beside_the_others_and_is_handed_out_by_its_name(self, env: TritonEnvironment) -> None:
        assert env.services == ("redis", "bare")
        service = env["bare"]
        assert service is env.service("bare")
        assert env["redis"] is env.redis
        assert service.server_version() == "1.0"
        assert env.environ()["BARE_PORT"] == str(service.port)
        assert env.logs("bare") == "bare serves\n"
        assert env.deaths() == {}

    def test_a_namespace_takes_the_services_that_can(self, env: TritonEnvironment) -> None:
        with env.namespace() as namespace:
            assert namespace.services == ("redis",)
            assert namespace["redis"] is namespace.redis
            with pytest.raises(ServiceNotSelected, match="'bare' is not part of"):
                namespace["bare"]
        for services in (("bare",), ("redis", "bare"), "bare"):
            with pytest.raises(NotOffered, match="Bare cannot be in a namespace") as caught:
                env.namespace(services=services)
            assert caught.value.hint == "leave it out: services=('redis',)"

    def test_the_folder_of_a_template_is_for_those_that_can(self, env: TritonEnvironment, tmp_path: Path) -> None:
        for name in ("bare", "redis"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "note").write_text("x")
        with pytest.raises(NotOffered, match=r"^Redis cannot be filled from a template's folder\.") as caught:
            env.namespace(template=tmp_path)
        assert caught.value.where.endswith("/redis")

    def test_a_snapshot_and_a_reset_leave_it_alone(self, env: TritonEnvironment) -> None:
        with env.redis.client() as redis:
            redis.set("a", "goes")
            env.reset()
            assert redis.get("a") is None
            redis.set("a", "again")
            env.snapshot("one")
            env.reset()
            env.restore("one")
            assert redis.get("a") == b"again"
        env.delete_snapshot("one")
        env.reset()
        assert env["bare"].server_version() == "1.0"

    def test_without_any_that_can_it_is_refused(self, installed: Path, tmp_path: Path) -> None:
        settings = Settings(triton_state_dir=str(tmp_path))
        with TritonEnvironment(settings, services=("bare",), runtime="embedded") as alone:
            for act in (alone.namespace, alone.reset, lambda: alone.snapshot("one"), alone.snapshots):
                with pytest.raises(NotOffered, match="None of the services offers isolation"):
                    act()
            with pytest.raises(NotOffered, match="No service of this environment offers a backup"):
                backup.create(alone, tmp_path / "backup")
            assert not (tmp_path / "backup").exists()

    def test_a_backup_names_it_and_has_the_others(self, env: TritonEnvironment, tmp_path: Path) -> None:
        steps: list[Any] = []
        manifest = backup.create(env, tmp_path / "all", report=steps.append)
        assert tuple(manifest.services) == ("redis",)
        assert [(step.service, step.note) for step in steps if "offers no backup" in step.words] == [("bare", True)]
        with pytest.raises(NotOffered, match="Bare"):
            backup.create(env, tmp_path / "named", services=("redis", "bare"))
        with pytest.raises(RestoreFailed, match="does not hold Bare"):
            backup.restore(env, tmp_path / "all", services=("bare",), replace=True)
        backup.restore(env, tmp_path / "all", replace=True)

    def test_it_is_shared_like_the_others(
        self, installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TRITON_BARE_TIMEOUT", "777")
        settings = Settings(triton_state_dir=str(tmp_path), triton_linger=0)

        def part() -> TritonEnvironment:
            return TritonEnvironment(settings, services=("bare",), runtime="embedded", reuse=True)

        with part() as one, part() as other:
            assert one.id == other.id
            assert one["bare"].port == other["bare"].port
            assert other["bare"].server_version() == "1.0"
            assert SERVICES["bare"].recipe(other.settings).timeout == 777

    def test_it_is_not_external(self, installed: Path) -> None:
        with pytest.raises(NotOffered, match="Bare cannot be external: no setting says where its server is"):
            TritonEnvironment(services=("redis", "bare"), runtime="external").start()

    @pytest.mark.docker
    def test_it_is_not_persistent(self, installed: Path) -> None:
        with pytest.raises(NotOffered, match="Bare cannot be persistent"):
            TritonEnvironment(services=("redis", "bare"), persistent=True).start()

    def test_it_is_a_row_of_a_notebooks_page(self, env: TritonEnvironment) -> None:
        shown = env._repr_html_()
        assert "<b>Bare</b>" in shown
        assert f"<code>bare://127.0.0.1:{env['bare'].port}</code>" in shown
        with pytest.raises(UsageError, match="There is no SQL for 'bare': it is postgres or clickhouse"):
            magic._parsed("bare select 1")


class TestOnTheCommandLine:
    def test_status(self, command: Command) -> None:
        services = json.loads(command("status", "--json").stdout)["services"]
        assert (services["bare"]["healthy"], services["bare"]["version"]) == (True, "1.0")
        assert command("status", "bare").stdout.count("Bare") == 1

    def test_logs(self, command: Command) -> None:
        assert command("logs", "bare").stdout == "bare  | bare serves\n"
        assert "bare   | bare serves" in command("logs").stdout

    def test_env_and_run(self, command: Command, env: TritonEnvironment) -> None:
        assert f"BARE_PORT={env['bare'].port}\n" in command("env").stdout
        assert "REDIS_URL" not in command("env", "bare").stdout
        check = f"import os, socket; socket.create_connection(('127.0.0.1', int(os.environ['BARE_PORT'])), {2})"
        command("run", "--services", "bare", "--runtime", "embedded", "--", sys.executable, "-c", check)

    def test_backup_and_restore(self, command: Command) -> None:
        saved = command("backup", "all", "--json")
        assert list(json.loads(saved.stdout)["services"]) == ["redis"]
        assert "Bare" in command("backup", "named", "bare", status=2).stderr
        assert not Path("named").exists()
        command("restore", "all", "--yes")
        assert "does not hold Bare" in command("restore", "all", "bare", "--yes", status=1).stderr

    def test_there_is_no_shell_of_it(self, command: Command) -> None:
        assert "No such command 'bare'" in command("bare", status=2).stderr

    def test_serve(self, installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PYTHONPATH", str(installed))
        monkeypatch.setenv("TRITON_STATE_DIR", str(tmp_path / "state"))
        words = ["serve", "--json", "--runtime", "embedded", "bare"]
        process = forkserver.Popen(
            [sys.executable, "-m", "triton_env", *words], stdout=-1, stderr=-1, text=True, cwd=tmp_path
        )
        with process:
            try:
                assert process.stdout is not None
                data = json.loads(process.stdout.readline() or "{}")
            finally:
                process.terminate()
                _, words_of_it = process.communicate()
        assert data, words_of_it
        assert data["services"]["bare"]["version"] == "1.0"
        assert data["environ"]["BARE_PORT"] == str(data["services"]["bare"]["port"])

    @pytest.mark.parametrize(
        "words",
        [
            "up bare",
            "status bare",
            "logs bare",
            "env bare",
            "restart bare",
            "reset bare --yes",
            "reset redis bare -y",
        ],
    )
    def test_among_persistent_services_it_is_refused(self, words: str, persistent: Callable[..., str]) -> None:
        assert "Bare cannot be persistent: no data of theirs is known to stay." in persistent(*words.split())


class TestDoctor:
    def test_it_is_looked_at_like_the_others(self, installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TRITON_RUNTIME", "embedded")
        found = [each for each in examine() if each.subject == "services"]
        assert found[0].words == "Bare, of triton-bare 1.2"
        assert [each.words.partition(" ")[0] for each in found[1:]] == ["broken", "misnamed", "nothing"]
        assert [each.verdict for each in found] == [Verdict.GOOD, *[Verdict.WARNING] * 3]
        assert found[1].hint == "update or remove triton-bare"
        assert "ModuleNotFoundError: No module named 'triton_absent'" in found[1].words

    def test_its_ports_are_no_reason_that_the_others_cannot_start(
        self, installed: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TRITON_RUNTIME", "embedded")
        monkeypatch.setenv("TRITON_PORTS", "fixed")
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            monkeypatch.setenv("BARE_PORT", str(port))
            (found,) = (each for each in examine() if each.subject == "ports" and "Bare" in each.words)
        assert found.words.startswith(f"{port} of Bare is taken by ")
        assert found.verdict is Verdict.WARNING

    def test_a_client_of_it_that_is_not_installed_is_a_finding(
        self, installed: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TRITON_RUNTIME", "embedded")
        monkeypatch.setattr(SERVICES["bare"], "driver", "triton-absent")
        found = next(each for each in examine() if each.subject == "services")
        assert found.words == "Bare, of triton-bare 1.2, without triton-absent"
        assert (found.verdict, found.hint) == (Verdict.WARNING, "pip install triton-absent")
        monkeypatch.setattr(SERVICES["bare"], "driver", "pytest")
        found = next(each for each in examine() if each.subject == "services")
        assert found.words == f"Bare, of triton-bare 1.2, with pytest {pytest.__version__}"

    def test_a_variable_of_it_that_cannot_be_used_is_a_finding(
        self, installed: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TRITON_RUNTIME", "embedded")
        monkeypatch.setenv("TRITON_BARE_TIMEOUT", "soon")
        found = [each for each in examine() if each.verdict is not Verdict.GOOD]
        assert found[0].words.startswith("bare cannot be used: TRITON_BARE_TIMEOUT cannot be 'soon'")
        assert found[0].verdict is Verdict.WARNING

    @pytest.mark.docker
    def test_its_image_is_looked_up(self, installed: Path) -> None:
        (found,) = (each for each in examine() if "triton-env.invalid/bare:1" in each.words)
        assert (found.subject, found.verdict) == ("images", Verdict.WARNING)
        assert found.hint.endswith("or set BARE_IMAGE to one that is there")


class TestWhereItIsNotInstalled:
    @pytest.fixture
    def saved(self, env: TritonEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A backup that holds it, of an environment that has it."""
        with monkeypatch.context() as patch:
            patch.setattr(type(env["bare"]), "parts", Parts(saver="triton_bare:save", restorer="triton_bare:save"))
            manifest = backup.create(env, tmp_path / "all")
        assert tuple(manifest.services) == ("redis", "bare")
        return tmp_path / "all"

    @pytest.fixture
    def gone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(vars(SERVICES), "_points", {})
        monkeypatch.setattr(SERVICES, "_others", {})

    def test_the_others_of_a_backup_are_restored(self, env: TritonEnvironment, saved: Path, gone: None) -> None:
        assert tuple(backup.verify(saved).services) == ("redis", "bare")
        for services in (None, ("redis", "bare"), ("bare",)):
            with pytest.raises(RestoreFailed, match="a service that is not installed here: bare") as caught:
                backup.restore(env, saved, services=services, replace=True)
            assert caught.value.hint.endswith("restore the others: python -m triton_env restore FILE redis")
        assert backup.restore(env, saved, services=("redis",), replace=True)

    def test_a_command_restores_the_others_of_a_backup(self, command: Command, saved: Path, gone: None) -> None:
        assert "bare 1.0: nothing" in command("backup", str(saved), "--verify").stderr
        assert "not installed here: bare" in command("restore", str(saved), "--yes", status=1).stderr
        command("restore", str(saved), "redis", "--yes")

    def test_commands_see_the_others_of_a_session(self, command: Command, gone: None) -> None:
        assert list(json.loads(command("status", "--json").stdout)["services"]) == ["redis"]
        assert "redis" in command("logs").stdout
        assert "BARE_PORT=" in command("env").stdout
        assert "REDIS_URL" in command("env", "redis").stdout
        assert "there is no service 'bare'" in command("status", "bare", status=2).stderr


class TestInPytest:
    @pytest.fixture
    def project(
        self,
        pytester: pytest.Pytester,
        monkeypatch: pytest.MonkeyPatch,
        embedded_packages: None,
        installed: Path,
    ) -> Iterator[Runs]:
        with runs(pytester, monkeypatch, str(user_cache_path())) as project:
            monkeypatch.setenv("PYTHONPATH", str(installed), prepend=":")
            yield project

    def test_a_namespace_takes_the_services_that_can(self, project: Runs) -> None:
        project.ini("triton_services = bare redis")
        project.pytester.makepyfile(
            """
            import os, pytest

            def test_its_namespace(triton, triton_env):
                assert triton.services == ("redis",)
                assert triton_env["bare"].server_version() == "1.0"

            @pytest.mark.triton(services="bare")
            def test_in_its_report(triton_env):
                raise AssertionError("to see the report")

            @pytest.mark.triton(services="bare")
            def test_that_is_refused(triton):
                pass
            """
        )
        done = project.run("--triton-keep")
        done.assert_outcomes(passed=1, failed=1, errors=1)
        done.stdout.fnmatch_lines(["Bare  *bare://*"])
        done.stdout.fnmatch_lines(["*Bare cannot be in a namespace: no isolation is offered.*"])

    def test_the_variables_of_the_others_are_exported(self, project: Runs) -> None:
        project.ini("triton_services = bare redis")
        project.pytester.makepyfile(
            """
            import os

            URL = os.environ["REDIS_URL"]

            def test_them(triton_exported):
                assert triton_exported.services == ("redis",)
            """
        )
        project.run("--triton-export-env").assert_outcomes(passed=1)

    def test_alone_it_cannot_be_exported(self, project: Runs) -> None:
        project.ini("triton_services = bare")
        project.pytester.makepyfile("def test_nothing(): pass")
        done = project.run("--triton-export-env")
        assert done.ret == pytest.ExitCode.USAGE_ERROR
        done.stderr.fnmatch_lines(["*Bare cannot be in a namespace: no isolation is offered.*"])


class TestTheRegistry:
    def test_what_is_installed_is_named(self, installed: Path) -> None:
        with pytest.raises(UnknownService, match="There is no service 'nemo'") as caught:
            TritonEnvironment(services=("nemo",))
        assert "postgres, clickhouse, redis, s3, bare, broken, misnamed, nothing" in caught.value.hint

    @pytest.mark.parametrize(
        ("name", "cause"),
        [
            ("broken", "ModuleNotFoundError: No module named 'triton_absent'"),
            ("misnamed", "<class 'triton_bare.Misnamed'>"),
            ("nothing", "AttributeError: module 'triton_bare' has no attribute 'MODULE'"),
        ],
    )
    def test_a_broken_one_is_named_with_its_distribution(self, name: str, cause: str, installed: Path) -> None:
        with pytest.raises(UsageError) as caught:
            TritonEnvironment(services=(name,))
        assert cause in caught.value.cause
        assert "triton-bare 1.2" in caught.value.where
        assert caught.value.hint == "update or remove triton-bare"

    def test_what_is_installed_is_not_looked_at_for_the_sake_of_our_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def scanned(**_: object) -> None:
            raise AssertionError("it was looked for")

        monkeypatch.setattr(registry, "entry_points", scanned)
        own = Registry(SERVICES.values())
        assert [own[name].name for name in own] == ["postgres", "clickhouse", "redis", "s3"]
        assert "s3" in own
        with pytest.raises(AssertionError, match="it was looked for"):
            own.get("bare")
