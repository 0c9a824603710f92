"""Which environments are the same, so that one will do: a hash of everything that makes a difference to them."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from triton_env._version import __version__
from triton_env.core.forms import Form, form_of, forms_for
from triton_env.core.setting_types import SecretStr
from triton_env.core.settings_group import LOGIN, Field, Role
from triton_env.runtimes.embedded import packages
from triton_env.services import SERVICES
from triton_env.services.credentials import credentials
from triton_env.settings import Settings, process_environment

_LENGTH = 16
"""Hexadecimal digits: 64 bits distinguish more environments than are ever started."""
_NO_DIFFERENCE = frozenset(
    {
        # How it is started and shown, and what sessions do not read.
        *(Role.HANDLING, Role.TIMEOUT, Role.PERSISTENT, Role.APPLICATION),
        # Of servers that others run.
        *(Role.URL, Role.HOST),
    }
)
"""Roles of settings that make no difference. One of another role makes one."""
_ENGINE = ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "TC_HOST", "TESTCONTAINERS_HOST_OVERRIDE", "KUBECONFIG")
"""Variables that choose the engine or cluster, and how it is reached."""


def key_of(settings: Settings, names: Sequence[str], runtime: str, suffix: str = "") -> str:
    """The key of an environment: 16 hexadecimal digits, which are the same where all that matters is.

    Args:
        suffix: a word that keeps it apart from others.

    Raises:
        UsageError: a service cannot be described with these settings.
    """
    # Fresh in each session, so they make no difference.
    fresh = credentials(settings, names)
    plain = settings.updated(
        **{field: SecretStr("x") if isinstance(value, SecretStr) else "x" for field, value in fresh.items()},
        triton_runtime=runtime,
    )
    ignored = {*_without_difference(settings, settings.triton_ports), *fresh}
    if Form.PROCESS not in forms_for(runtime):
        ignored.update(settings.names_in(Role.PROGRAM))
    if Form.POD not in forms_for(runtime):
        ignored.update(_of_clusters(settings))
    content = {
        "version": __version__,
        "runtime": runtime,
        "suffix": suffix,
        "services": {name: _service(plain, name, runtime) for name in sorted(names)},
        "settings": {field: value for field, value in settings_as_data(settings).items() if field not in ignored},
        "engine": {name: value for name, value in process_environment().items() if name in _ENGINE},
    }
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:_LENGTH]


def differences(settings: Settings, theirs: Settings, names: Sequence[str], runtime: str) -> tuple[str, ...]:
    """The settings that would make another environment of these services, by fields.

    Args:
        theirs: of the other one.
    """
    ignored = {*_without_difference(settings, theirs.triton_ports), "triton_runtime", *settings.names_in(*LOGIN)}
    for group in settings.groups:
        if group.service not in names:
            ignored.update(group.model_fields)
    form = form_of(runtime)
    if not form.has_image:
        ignored.update(settings.names_in(Role.IMAGE, Role.TOKEN))
    if form is not Form.PROCESS:
        ignored.update(settings.names_in(Role.PROGRAM))
    if form is not Form.POD:
        ignored.update(_of_clusters(settings))
    one, other = settings_as_data(settings), settings_as_data(theirs)
    return tuple(field for field in one if field not in ignored and one[field] != other[field])


def _without_difference(settings: Settings, ports: str) -> set[str]:
    """The settings that make no difference, by fields."""
    roles = _NO_DIFFERENCE | ({Role.PORT} if ports == "random" else frozenset())
    return {name for name, field in settings.model_fields.items() if field.role in roles}


def _of_clusters(settings: Settings) -> set[str]:
    """The settings of services in a cluster, by fields."""
    return {name for name, field in settings.model_fields.items() if field.role is Role.CLUSTER}


def settings_as_data(settings: Settings) -> dict[str, Any]:
    """All values of settings, secrets included, as what JSON can hold."""
    return {field: value.get_secret_value() if isinstance(value, SecretStr) else value for field, value in settings}


def settings_from_data(data: Mapping[str, Any], services: Iterable[str] = ()) -> Settings:
    """Settings with exactly these values: neither the process environment nor `.env` is looked at.

    Args:
        data: the values by field.
        services: whose settings are among them, as far as they are installed here; those of the services that come with
            triton-env always are.
    """
    settings = Settings.model_construct(**_values(Settings.model_fields, data))
    for name in services:
        if name not in SERVICES:
            continue
        group = SERVICES[name].settings_group
        settings = settings.with_group(group, **_values(group.model_fields, data))
    return settings


def _values(fields: Mapping[str, Field], data: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, field in fields.items():
        kind = type(field.default)
        value = data.get(name, field.default)
        # JSON keeps all kinds but these: secrets and choices (enumerations of strings).
        values[name] = value if isinstance(value, kind) or not issubclass(kind, SecretStr | str) else kind(value)
    return values


def _service(settings: Settings, name: str, runtime: str) -> dict[str, Any]:
    recipe = SERVICES[name].recipe(settings)
    described, forms = dict[str, Any](), forms_for(runtime)
    if any(form.has_image for form in forms):
        # The same files may come from another folder.
        files = {path: _digest(source) for path, source in recipe.container.files.items()}
        described["container"] = asdict(replace(recipe.container, unusable=None)) | {"files": files}
    if Form.PROCESS in forms:
        described["process"] = asdict(replace(recipe.process, unusable=None))
        described["packages"] = [packages.version(distribution) for distribution in recipe.process.requires]
    return described


def _digest(path: Path) -> str:
    """A hash of a file, or of all files of a folder with their names."""
    digest = hashlib.sha256()
    files = sorted(found for found in path.rglob("*") if found.is_file()) if path.is_dir() else [path]
    for file in files:
        if "__pycache__" not in file.parts:
            digest.update(f"{file.relative_to(path)}\0".encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()
