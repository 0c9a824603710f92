"""What `doctor` looks at of Docker: the engine, what is on it, and what persistent services need besides."""

import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from triton_env.cli.images import checks_of, images_of
from triton_env.core.findings import Finding, Verdict, finding_of
from triton_env.core.sizes import size_words
from triton_env.core.threads import in_thread
from triton_env.errors import InvalidSetting, TritonError
from triton_env.persistent.compose_file import used_file
from triton_env.persistent.docker.compose import compose_program, compose_version
from triton_env.persistent.settings import persistent_settings
from triton_env.runtimes.docker.address import EVERYWHERE, LOOPBACK, AddressPlan
from triton_env.runtimes.ports import listener_on
from triton_env.services import SERVICES
from triton_env.services.selection import with_groups
from triton_env.settings import HUB_PREFIX, Settings, process_environment

if TYPE_CHECKING:
    from triton_env.runtimes.docker.engine import Engine

_ENGINE_TIMEOUT = 15
"""Seconds after which an engine counts as one that does not answer; the SDK itself would wait for a minute."""
_GB = 1e9
_LITTLE_MEMORY = 4 * _GB
"""Less than this, and four servers beside an editor and a browser get tight. A rule of thumb, hence a warning."""
_LITTLE_DISK, _NO_DISK = 5 * _GB, 1 * _GB
"""The four official images take some 3 GB unpacked."""


def reached(settings: Settings) -> "tuple[Engine | None, Finding]":
    """The engine, to be closed, and what is to be said of it; None where none answers."""
    from triton_env.runtimes.docker.engine import Engine

    try:
        engine = in_thread(Engine).result(_ENGINE_TIMEOUT)
    except TritonError as error:
        words = f"{error.what} {error.cause}".strip()
        return None, Finding("engine", Verdict.BAD, f"{words} ({error.where})", error.hint)
    except TimeoutError:
        words = f"no answer within {_ENGINE_TIMEOUT} s"
        return None, Finding("engine", Verdict.BAD, words, "docker info, or set DOCKER_HOST to where an engine is")
    words = f"{engine.info.name} {engine.info.version} (API {engine.info.api}) at {engine.url}"
    return engine, Finding("engine", Verdict.GOOD, words)


def examine(
    engine: "Engine | None", settings: Settings, names: Sequence[str], *, pulls: bool = True
) -> Iterator[Finding]:
    """Look at all that containers need. Without an engine, at what can be seen without one.

    Args:
        engine: the one that answers.
        names: of the services.
        pulls: whether a start pulls images that are not there.
    """
    yield _compose()
    yield _compose_file(settings)
    plan: AddressPlan | None = None
    if engine is not None:
        plan, finding = _addresses(engine, settings)
        yield finding
        yield from _resources(engine, plan)
    yield from _images(engine, settings, names, pulls=pulls)
    for name in names:
        for finding in checks_of(name).of_settings(with_groups(settings, (name,))):
            yield _about(name, finding)
    yield from _persistent_ports(engine, plan, settings, names)


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
        with engine.translated("say where this process runs"):
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
        f"{words}; every machine that reaches this address can connect, and firewalls such as ufw do not prevent it",
        "set TRITON_BIND_ADDRESS to an address that only you reach",
    )


def _resources(engine: "Engine", plan: AddressPlan | None) -> Iterator[Finding]:
    try:
        with engine.translated("report its resources"):
            info: dict[str, Any] = engine.ask("/info")
    except TritonError as error:
        yield Finding("memory", Verdict.WARNING, f"{error.what} {error.cause}", error.hint)
        return
    memory = info["MemTotal"]
    words = f"{size_words(memory)} and {info['NCPU']} CPUs for the engine"
    local = psutil.virtual_memory()
    if memory == local.total:  # the same machine, and no virtual one on it
        words += f", {size_words(local.available)} of it available"
    if memory < _LITTLE_MEMORY:
        light = sorted(SERVICES, key=lambda name: SERVICES[name].boot_rank)[:2]
        fewer = ",".join(name for name in SERVICES if name in light)
        hint = f"give the engine more memory, or start fewer services: --services {fewer}"
        yield Finding("memory", Verdict.WARNING, f"{words}, which is little for all services", hint)
    else:
        yield Finding("memory", Verdict.GOOD, words)
    root = Path(info.get("DockerRootDir") or "/var/lib/docker")
    # The engine's folder is to be seen only where it is on this machine, and not in a virtual machine on it.
    if plan is None or plan.beyond or plan.host != LOOPBACK or not root.is_dir():
        yield Finding("disk", Verdict.GOOD, "the engine's disk cannot be seen from here; see: docker system df")
        return
    free = shutil.disk_usage(root).free
    verdict = Verdict.BAD if free < _NO_DISK else Verdict.WARNING if free < _LITTLE_DISK else Verdict.GOOD
    hint = "" if verdict is Verdict.GOOD else "see what takes it: docker system df"
    yield Finding("disk", verdict, f"{size_words(free)} free in {root}", hint)


def _images(engine: "Engine | None", settings: Settings, names: Sequence[str], *, pulls: bool) -> Iterator[Finding]:
    if prefix := process_environment().get(HUB_PREFIX):
        yield Finding("images", Verdict.GOOD, f"those of Docker Hub come from {prefix} ({HUB_PREFIX})")
    for name in names:
        for variable, image in images_of(name, settings).items():
            if engine is not None:
                yield _about(name, _image(engine, image, variable, settings, pulls=pulls))
            for finding in checks_of(name).of_image(image):
                yield _about(name, finding)


def _about(name: str, finding: Finding) -> Finding:
    """A finding about a service. One that a start has only where it is named keeps no other from its start."""
    if name in tuple(SERVICES) or finding.verdict is not Verdict.BAD:
        return finding
    return replace(finding, verdict=Verdict.WARNING)


def _image(engine: "Engine", image: str, variable: str, settings: Settings, *, pulls: bool) -> Finding:
    try:
        with engine.translated("look up an image"):
            found = engine.image(image)
    except TritonError as error:
        return Finding("images", Verdict.BAD, f"{error.what} {error.cause}", error.hint)
    if found:
        return Finding("images", Verdict.GOOD, f"{image} is on the engine ({size_words(found['Size'])})")
    pull = f"docker pull {image}"
    if settings.triton_pull == "never":
        words = f"{image} is not on the engine, and TRITON_PULL is never"
        return Finding("images", Verdict.BAD, words, f"{pull}, or set {variable}")
    words = f"{image} is not on the engine{'; the first start pulls it' if pulls else ''}"
    return Finding("images", Verdict.WARNING, words, f"{pull}, or set {variable} to one that is there")


def fixed_ports(settings: Settings, names: Sequence[str]) -> Iterator[Finding]:
    """The ports of a session, where they are those of the settings."""
    if settings.triton_ports == "fixed":
        instead = ", or TRITON_PORTS=random"
        yield from _ports(settings, names, lambda port: listener(LOOPBACK, port), Verdict.BAD, instead)


def _persistent_ports(
    engine: "Engine | None", plan: AddressPlan | None, settings: Settings, names: Sequence[str]
) -> Iterator[Finding]:
    """The ports of the persistent services, which a session with fixed ports takes as well."""
    try:
        fixed = settings.triton_ports == "fixed"
        if not fixed:
            names = [name for name in names if SERVICES[name].recipe(settings).data]
            settings = persistent_settings(with_groups(settings, names))
        own = _own_ports(engine, settings)

        def holder_of(port: int) -> str:
            return "" if port in own else _holder(engine, plan, port)

        verdict, instead = (Verdict.BAD, ", or TRITON_PORTS=random") if fixed else (Verdict.WARNING, "")
        yield from _ports(settings, names, holder_of, verdict, instead)
    except InvalidSetting as error:
        yield finding_of(error, Verdict.WARNING)


def _own_ports(engine: "Engine | None", settings: Settings) -> set[int]:
    """Those that the persistent services of this project have, which is what they are for."""
    if engine is None or settings.triton_ports == "fixed":
        return set()
    from triton_env.persistent.docker.containers import Project

    with suppress(TritonError):
        containers = Project(engine, settings.triton_project).containers().values()
        return {port for container in containers if container.ours for port in container.published.values()}
    return set()


def _ports(
    settings: Settings, names: Sequence[str], holder_of: Callable[[int], str], verdict: Verdict, instead: str
) -> Iterator[Finding]:
    free: list[int] = []
    settings = with_groups(settings, names)
    for name in names:
        recipe = SERVICES[name].recipe(settings)
        for port in recipe.ports:
            number = port.fixed if settings.triton_ports == "fixed" else int(settings.or_default(port.variable.lower()))
            holder = holder_of(number)
            if not holder:
                free.append(number)
                continue
            unless = "" if verdict is Verdict.BAD else "; only persistent services need it, sessions take free ports"
            words = f"{number} of {recipe.title} is taken by {holder}{unless}"
            hint = f"stop that one, or set {port.variable} to another{instead}"
            yield _about(name, Finding("ports", verdict, words, hint))
    if free:
        yield Finding("ports", Verdict.GOOD, f"{', '.join(str(port) for port in free)} can be used")


def _holder(engine: "Engine | None", plan: AddressPlan | None, port: int) -> str:
    """Who has that port, in words; empty if it is free."""
    if engine is not None:
        with suppress(TritonError), engine.translated("list its ports"):
            if container := engine.publisher_of(port):
                return container
    if plan is not None and plan.host != LOOPBACK:
        return ""  # ports of another machine, of which only the engine knows
    return listener(plan.bind if plan else LOOPBACK, port)


def listener(address: str, port: int) -> str:
    """Who has that port of this machine, in words; empty if it is free."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        try:
            probe.bind((address, port))
        except OSError as error:
            return listener_on(port) or f"another program ({error.strerror})"
    return ""
