"""Which runtime an environment gets, and why."""

import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING

from triton_env.core.model import ServiceRecipe
from triton_env.core.threads import in_thread
from triton_env.errors import RuntimeUnavailable, TritonError
from triton_env.runtimes.base import Runtime
from triton_env.runtimes.docker.engine_socket import engine_url, socket_path
from triton_env.runtimes.embedded import packages
from triton_env.runtimes.last_choice import change
from triton_env.runtimes.start_tracker import check_usable
from triton_env.settings import Settings

if TYPE_CHECKING:
    from triton_env.runtimes.docker.engine import Engine

IMAGES_TIMEOUT = 3.0
"""Seconds that a registry gets, for all images together, to say that it has what the engine lacks. The pull itself
may take long; that the registry cannot be reached should not."""
ENGINE_TIMEOUT = 10.0
"""Seconds that an engine gets for all that it is asked; the SDK itself would wait for minutes."""
_SOCKET_TIMEOUT = 2
_NO_IMAGE = "it lacks {}, which cannot be pulled: {}"


def open_runtime(
    name: str,
    settings: Settings,
    environment: str,
    recipes: Sequence[ServiceRecipe] = (),
    say: Callable[[str], None] = lambda words: None,
) -> Runtime:
    """The runtime of that name, ready to start services.

    Args:
        name: `docker`, `embedded`, `kubernetes`, `external`, or `auto`: Docker where an engine answers and has the
            images or can pull them, else embedded where its packages are installed.
        say: called with what `auto` means, and why, where that is news: at the first time in a project that it is not
            Docker, and wherever it is not what it was the last time.

    Raises:
        RuntimeUnavailable: it cannot run here. One that was named is never replaced by another.
    """
    if name == "docker":
        check_usable(recipes)
        return _docker(settings, environment, "it was asked for")
    if name == "embedded":
        return _embedded(settings, environment, recipes, "it was asked for")
    if name == "external":
        from triton_env.runtimes.external import ExternalRuntime, check_offered

        check_offered(recipes)
        return ExternalRuntime(settings)
    if name == "kubernetes":
        from triton_env.runtimes.kubernetes.runtime import KubernetesRuntime

        check_usable(recipes)
        return KubernetesRuntime(settings, environment)
    assert name == "auto", name
    problem = docker_problem(settings, recipes)
    if not problem:
        runtime = _docker(settings, environment, "a Docker engine answers and the images are there or can be pulled")
        _say_what_is_news(settings, runtime, say)
        return runtime
    if other := packages.problem_of(recipes):
        check_usable(recipes)
        raise _neither(problem, other, packages.install(recipes))
    runtime = _embedded(settings, environment, recipes, f"Docker cannot be used: {problem}")
    _say_what_is_news(settings, runtime, say)
    return runtime


def _say_what_is_news(settings: Settings, runtime: Runtime, say: Callable[[str], None]) -> None:
    last = change(settings, runtime.name)
    if last is None or (runtime.name == "docker" and not last):
        return
    where = {"docker": "on Docker", "embedded": "embedded, without Docker"}
    before = f"; the last time in this project they ran {where[last]}" if last in where else ""
    say(
        f"the services run {where[runtime.name]}, since {runtime.reason}{before}"
        f" (to keep it this way: TRITON_RUNTIME={runtime.name} in .env)"
    )


def docker_problem(settings: Settings, recipes: Sequence[ServiceRecipe]) -> str:
    """Why the Docker runtime cannot run these services, in one line; empty where it can.

    Takes `IMAGES_TIMEOUT` seconds at most where the engine answers, `ENGINE_TIMEOUT` where it hangs, and next to
    nothing where there is none.
    """
    try:
        check_usable(recipes)
    except TritonError as error:
        return _one_line(error)
    if problem := quick_problem():
        return problem
    answer: Future[str] = Future()

    def ask() -> None:
        try:
            answer.set_result(_engine_problem(settings, recipes))
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        return answer.result(ENGINE_TIMEOUT)
    except TimeoutError:
        return f"no engine answers within {ENGINE_TIMEOUT:g} s"


def _engine_problem(settings: Settings, recipes: Iterable[ServiceRecipe]) -> str:
    from triton_env.runtimes.docker.engine import Engine

    try:
        engine = Engine()
    except TritonError as error:
        return _one_line(error)
    try:
        images = dict.fromkeys(recipe.container.image for recipe in recipes)
        return _images_problem(engine, settings, tuple(images))
    except TritonError as error:
        return _one_line(error)
    finally:
        engine.close()


def _docker(settings: Settings, environment: str, reason: str) -> Runtime:
    from triton_env.runtimes.docker.containers import DockerRuntime

    return DockerRuntime(settings, environment, reason)


def _embedded(settings: Settings, environment: str, recipes: Sequence[ServiceRecipe], reason: str) -> Runtime:
    packages.check(recipes)
    from triton_env.runtimes.embedded.runtime import EmbeddedRuntime

    return EmbeddedRuntime(settings, environment, reason)


def quick_problem() -> str:
    """Why no engine can be there, as its socket shows; empty where it has to be asked."""
    path = socket_path(engine_url())
    if not path:
        return ""
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(_SOCKET_TIMEOUT)
            probe.connect(path)
    except OSError as error:
        return f"no engine answers at {path} ({error.strerror or error})"
    return ""


def _images_problem(engine: "Engine", settings: Settings, images: tuple[str, ...]) -> str:
    """Why these images cannot be had, in words; empty where they are there or can be pulled."""
    absent: list[str] = []
    with engine.translated("look up images"):
        for image in images:
            if not engine.image(image):
                absent.append(image)
    if not absent:
        return ""
    if settings.triton_pull == "never":
        return _NO_IMAGE.format(", ".join(absent), "TRITON_PULL is never")
    # In daemons: a registry that does not answer would hold them for minutes.
    answers = {image: in_thread(_pull_problem, engine, image) for image in absent}
    # All of them, so that the words are the same each time.
    _, silent = wait(answers.values(), timeout=IMAGES_TIMEOUT)
    slow = f"no registry answers within {IMAGES_TIMEOUT:g} s"
    problems = {image: slow if answer in silent else answer.result() for image, answer in answers.items()}
    bad = {image: problem for image, problem in problems.items() if problem}
    return _NO_IMAGE.format(", ".join(bad), next(iter(bad.values()))) if bad else ""


def _pull_problem(engine: "Engine", image: str) -> str:
    """Why the engine could not pull this image, in its registry's words; empty where it could."""
    from triton_env.runtimes.docker.engine_errors import explanation, without_the_way

    try:
        engine.client.images.get_registry_data(image)
    except Exception as error:  # whatever the SDK raises, also because the engine was closed in between
        return without_the_way(explanation(error).splitlines()[0])
    return ""


def _neither(docker: str, embedded: str, install: str) -> RuntimeUnavailable:
    return RuntimeUnavailable(
        "There are two ways to run the services, with Docker or embedded, and neither works here.",
        where="TRITON_RUNTIME=auto",
        cause=f"Docker: {docker}\nembedded: {embedded}",
        hint=f"install the embedded servers: {install}; or start an engine that has the images: docker info",
    )


def _one_line(error: TritonError) -> str:
    words = f"{error.what.rstrip('.')} ({error.cause})" if error.cause else error.what.rstrip(".")
    return " ".join(words.split())
