"""What `doctor` looks at. Each check yields findings, and none needs another to have gone well."""

import importlib.metadata
import platform
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import psutil

from triton_env import dotenv_file
from triton_env._version import __version__
from triton_env.cli.support import MOVE_ON, postgres_end_of_life
from triton_env.errors import InvalidSetting, TritonError
from triton_env.runtimes.address import EVERYWHERE, LOOPBACK, AddressPlan
from triton_env.runtimes.choice import docker_problem
from triton_env.runtimes.compose import compose_program, compose_version
from triton_env.runtimes.compose_file import used_file
from triton_env.runtimes.embedded import packages
from triton_env.runtimes.ports import listener_on
from triton_env.services import SERVICES
from triton_env.services.s3 import LAST_FREE_VERSION, needs_token
from triton_env.settings import HUB_PREFIX, Settings, process_environment
from triton_env.unknown_variables import unknown_variables

if TYPE_CHECKING:
    from triton_env.runtimes.engine import Engine

_DRIVERS = ("psycopg", "clickhouse-connect", "redis", "boto3", "testcontainers", "docker")
_ENGINE_TIMEOUT = 15
"""Seconds after which an engine counts as one that does not answer; the SDK itself would wait for a minute."""
_GB = 1e9
_LITTLE_MEMORY = 4 * _GB
"""Less than this, and four servers beside an editor and a browser get tight. A rule of thumb, hence a warning."""
_LITTLE_DISK, _NO_DISK = 5 * _GB, 1 * _GB
"""The four official images take some 3 GB unpacked."""

_Answer = TypeVar("_Answer")


class Verdict(StrEnum):
    """How a finding is to be taken."""

    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `doctor`.

    Attributes:
        subject: what was looked at.
        verdict: whether it is fine.
        words: what was found.
        mend: what to do about it, best a command; empty where there is nothing to do.
    """

    subject: str
    verdict: Verdict
    words: str
    mend: str = ""


def examine() -> Iterator[Finding]:
    """Look at everything, the settings first, and yield findings as they are made."""
    settings, findings = _settings()
    yield from findings
    yield from _versions()
    yield from _unknown_variables()
    engine, finding = _engine(settings)
    yield finding
    yield _compose()
    yield _compose_file(settings)
    plan: AddressPlan | None = None
    if engine is not None:
        plan, finding = _addresses(engine, settings)
        yield finding
        yield from _resources(engine, plan)
    yield from _images(engine, settings)
    yield _token(settings)
    yield _embedded()
    yield _runtime(settings)
    yield from _ports(engine, plan, settings)
    if engine is not None:
        engine.close()


def _settings() -> tuple[Settings, list[Finding]]:
    path = dotenv_file.find()
    origin = f"{path} and the process environment" if path else "the process environment"
    try:
        settings = Settings()
    except InvalidSetting as error:
        # The rest is looked at with the defaults.
        return Settings.model_construct(), [_finding_of(error, Verdict.BAD)]
    # Checked where they are used, which need not be.
    problems = [_finding_of(problem, Verdict.WARNING) for problem in settings.problems]
    return settings, problems or [Finding("settings", Verdict.GOOD, f"read from {origin}")]


def _finding_of(error: InvalidSetting, verdict: Verdict) -> Finding:
    return Finding("settings", verdict, f"{error.what} {error.cause or error.where}".strip(), error.hint)


def _versions() -> Iterator[Finding]:
    machine = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    yield Finding("python", Verdict.GOOD, machine)
    found: list[str] = []
    missing: list[str] = []
    for name in _DRIVERS:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    yield Finding("triton-env", Verdict.GOOD, f"{__version__} with {', '.join(found)}")
    if missing:
        yield Finding(
            "triton-env", Verdict.BAD, f"without {', '.join(missing)}", "pip install --force-reinstall triton-env"
        )


def _unknown_variables() -> Iterator[Finding]:
    for variable in unknown_variables():
        unset = f"unset {variable.name}, unless it belongs to another program"
        hint = f"did you mean {variable.close}?" if variable.close else unset
        yield Finding("variables", Verdict.WARNING, str(variable), hint)


def _engine(settings: Settings) -> "tuple[Engine | None, Finding]":
    # Loads the Docker SDK.
    from triton_env.runtimes.engine import Engine

    needed = settings.triton_runtime == "docker" or (settings.triton_runtime == "auto" and bool(_embedded_problem()))
    verdict = Verdict.BAD if needed else Verdict.WARNING
    try:
        engine = _within(_ENGINE_TIMEOUT, Engine)
    except TritonError as error:
        words = f"{error.what} {error.cause}".strip()
        return None, Finding("engine", verdict, f"{words} ({error.where})", error.hint)
    except TimeoutError:
        words = f"no answer within {_ENGINE_TIMEOUT} s"
        return None, Finding("engine", verdict, words, "docker info, or set DOCKER_HOST to where an engine is")
    words = f"Docker {engine.info.version} (API {engine.info.api}) at {engine.url}"
    return engine, Finding("engine", Verdict.GOOD, words)


def _compose() -> Finding:
    try:
        program, version = compose_program(), compose_version()
    except TritonError as error:
        words = f"{error.what} {error.cause}; sessions do without".strip()
        return Finding("compose", Verdict.WARNING, words, error.hint)
    return Finding("compose", Verdict.GOOD, f"Compose {version} ({' '.join(program)})")


def _compose_file(settings: Settings) -> Finding:
    try:
        return Finding("compose file", Verdict.GOOD, f"{used_file(settings)}, for persistent services")
    except InvalidSetting as error:
        return Finding("compose file", Verdict.BAD, f"{error.what} {error.where}: {error.cause}", error.hint)


def _addresses(engine: "Engine", settings: Settings) -> tuple[AddressPlan | None, Finding]:
    try:
        with engine.translated("tell where this process runs"):
            plan = engine.addresses(settings)
    except TritonError as error:
        return None, Finding("address", Verdict.BAD, f"{error.what} {error.cause}", error.hint)
    except ValueError as error:
        return None, Finding("address", Verdict.BAD, str(error), "set TRITON_BIND_ADDRESS=127.0.0.1")
    words = f"ports are published on {plan.bind} and reached at {plan.host}: {plan.reason}"
    if plan.bind != EVERYWHERE:
        return plan, Finding("address", Verdict.GOOD, words)
    return plan, Finding(
        "address",
        Verdict.WARNING,
        f"{words}; whoever reaches that machine can connect, a firewall such as ufw does not keep them out",
        "set TRITON_BIND_ADDRESS to an address that only you reach",
    )


def _resources(engine: "Engine", plan: AddressPlan | None) -> Iterator[Finding]:
    try:
        with engine.translated("tell its resources"):
            info: dict[str, Any] = engine.client.info()
    except TritonError as error:
        yield Finding("memory", Verdict.WARNING, f"{error.what} {error.cause}", error.hint)
        return
    memory = info["MemTotal"]
    words = f"{memory / _GB:.1f} GB and {info['NCPU']} CPUs for the engine"
    local = psutil.virtual_memory()
    if memory == local.total:  # the same machine, and no virtual one on it
        words += f", {local.available / _GB:.1f} GB of it available"
    if memory < _LITTLE_MEMORY:
        mend = "give the engine more memory, or start fewer services: --services postgres,redis"
        yield Finding("memory", Verdict.WARNING, f"{words}, which is little for all four services", mend)
    else:
        yield Finding("memory", Verdict.GOOD, words)
    root = Path(info.get("DockerRootDir") or "/var/lib/docker")
    # The engine's folder is to be seen only where it is on this machine, and not in a virtual machine on it.
    if plan is None or plan.host != LOOPBACK or not root.is_dir():
        yield Finding("disk", Verdict.GOOD, "the engine's disk cannot be seen from here; see: docker system df")
        return
    free = shutil.disk_usage(root).free
    verdict = Verdict.BAD if free < _NO_DISK else Verdict.WARNING if free < _LITTLE_DISK else Verdict.GOOD
    mend = "" if verdict is Verdict.GOOD else "see what takes it: docker system df"
    yield Finding("disk", verdict, f"{free / _GB:.1f} GB free in {root}", mend)


def _images(engine: "Engine | None", settings: Settings) -> Iterator[Finding]:
    if engine is None:
        yield Finding("images", Verdict.WARNING, "cannot be looked up without an engine")
    if prefix := process_environment().get(HUB_PREFIX):
        yield Finding("images", Verdict.GOOD, f"those of Docker Hub come from {prefix} ({HUB_PREFIX})")
    for name in SERVICES:
        variable = f"{'localstack' if name == 's3' else name}_image"
        image = getattr(settings, variable)
        if engine is not None:
            yield _image(engine, image, variable.upper(), settings)
        if name == "postgres" and (ended := postgres_end_of_life(image)):
            yield Finding("images", Verdict.WARNING, ended, MOVE_ON)


def _image(engine: "Engine", image: str, variable: str, settings: Settings) -> Finding:
    from docker.errors import ImageNotFound

    try:
        with engine.translated("look up an image"):
            try:
                size = engine.client.images.get(image).attrs["Size"]
            except ImageNotFound:
                pull = f"docker pull {image}"
                if settings.triton_pull == "never":
                    words = f"{image} is not on the engine, and TRITON_PULL is never"
                    return Finding("images", Verdict.BAD, words, f"{pull}, or set {variable}")
                words = f"{image} is not on the engine; the first start pulls it"
                return Finding("images", Verdict.WARNING, words, f"{pull}, or set {variable} to one that is there")
    except TritonError as error:
        return Finding("images", Verdict.BAD, f"{error.what} {error.cause}", error.hint)
    return Finding("images", Verdict.GOOD, f"{image} is on the engine ({size / 1e6:.0f} MB)")


def _token(settings: Settings) -> Finding:
    image = settings.localstack_image
    if settings.localstack_auth_token.get_secret_value():
        return Finding("token", Verdict.GOOD, "LOCALSTACK_AUTH_TOKEN is set")
    if not needs_token(image):
        return Finding("token", Verdict.GOOD, f"no LOCALSTACK_AUTH_TOKEN, and {image} needs none")
    last = ".".join(str(part) for part in LAST_FREE_VERSION)
    elsewhere = settings.triton_runtime not in ("auto", "docker") or (
        settings.triton_runtime == "auto" and not _embedded_problem()
    )
    return Finding(
        "token",
        Verdict.WARNING if elsewhere else Verdict.BAD,
        f"{image} does not start without LOCALSTACK_AUTH_TOKEN",
        f"export LOCALSTACK_IMAGE=localstack/localstack:{last}, or set LOCALSTACK_AUTH_TOKEN",
    )


def _embedded_problem() -> str:
    # The defaults will do: which programs are needed does not depend on settings.
    return packages.problem_of(service.recipe(Settings.model_construct()) for service in SERVICES.values())


def _embedded() -> Finding:
    if problem := _embedded_problem():
        words = f"servers that need no Docker: {problem}; they are only needed where Docker cannot be used"
        return Finding("embedded", Verdict.GOOD, words)
    recipes = [service.recipe(Settings.model_construct()) for service in SERVICES.values()]
    names = dict.fromkeys(recipe.process.requires[0] for recipe in recipes)
    found = ", ".join(f"{name} {packages.version(name)}" for name in names)
    return Finding("embedded", Verdict.GOOD, f"servers that need no Docker: {found}")


def _runtime(settings: Settings) -> Finding:
    """What a start would do."""
    if settings.triton_runtime != "auto":
        return Finding("runtime", Verdict.GOOD, f"TRITON_RUNTIME is {settings.triton_runtime}")
    recipes = [service.recipe(settings) for service in SERVICES.values()]
    docker = docker_problem(settings, recipes)
    if not docker:
        return Finding("runtime", Verdict.GOOD, "docker, since an engine answers and has the images or can pull them")
    embedded = packages.problem_of(recipes)
    if not embedded:
        return Finding("runtime", Verdict.GOOD, f"embedded, since Docker cannot be used: {docker}")
    words = f"neither can be used. Docker: {docker}. Embedded: {embedded}"
    return Finding("runtime", Verdict.BAD, words, packages.INSTALL)


def _ports(engine: "Engine | None", plan: AddressPlan | None, settings: Settings) -> Iterator[Finding]:
    """The fixed ports of `.env`. A session on random ports does not need them."""
    verdict = Verdict.BAD if settings.triton_ports == "fixed" else Verdict.WARNING
    free: list[int] = []
    for service, port in _fixed_ports(settings):
        holder = _holder(engine, plan, port)
        if not holder:
            free.append(port)
            continue
        unless = "" if settings.triton_ports == "fixed" else "; a session on random ports does not mind"
        words = f"{port} of {service} is taken by {holder}{unless}"
        yield Finding("ports", verdict, words, "stop that one, set another port in .env, or set TRITON_PORTS=random")
    if free:
        yield Finding("ports", Verdict.GOOD, f"{', '.join(str(port) for port in free)} free")


def _fixed_ports(settings: Settings) -> Iterator[tuple[str, int]]:
    for service in SERVICES.values():
        recipe = service.recipe(settings)
        for port in recipe.ports:
            yield recipe.title, port.fixed


def _holder(engine: "Engine | None", plan: AddressPlan | None, port: int) -> str:
    """Who has that port, in words; empty if it is free."""
    if engine is not None:
        with suppress(TritonError), engine.translated("list its ports"):
            if container := engine.publisher_of(port):
                return container
    if plan is not None and plan.host != LOOPBACK:
        return ""  # ports of another machine, of which only the engine knows
    with socket.socket() as probe:
        try:
            probe.bind((plan.bind if plan else LOOPBACK, port))
        except OSError as error:
            return listener_on(port) or f"somebody ({error.strerror})"
    return ""


def _within(seconds: float, action: Callable[[], _Answer]) -> _Answer:
    """The result of `action`, given up after so many seconds: libraries wait for a minute and longer."""
    results: list[_Answer] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(action())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError
    return results[0]
