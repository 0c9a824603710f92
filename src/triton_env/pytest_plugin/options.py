"""What a project and a command line choose for the plugin: ini options and command line options, checked at the start.

Nothing of triton-env is imported here but the names of its services and runtimes: pytest loads this in every
project of an interpreter that has triton-env installed, whether it uses the plugin or not.
"""

import re
from argparse import Namespace
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from triton_env.core.forms import RUNTIME_NAMES
from triton_env.services.built_in import BUILT_IN

SCOPES = ("function", "class", "module", "package", "session")

Scope = Literal["function", "class", "module", "package", "session"]

_CALLABLE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
"""`module:callable`. A folder may have such a name; then it is written with `./` before it."""


@dataclass(frozen=True, slots=True)
class Options:
    """The choices that are in force.

    Attributes:
        services: what `triton` and `triton_env` stand for.
        runtime: the runtime that was asked for; None for TRITON_RUNTIME.
        template: a folder, or `module:callable`; None for empty namespaces.
        scope: of `triton` and of the fixtures of services.
        export_env: whether the connection variables are there before conftest files are loaded.
        reuse: whether the environment is shared with other processes.
        keep: whether the namespaces of failed tests are kept.
        rebuild: whether templates of earlier runs are not used.
        isolated: whether the session that TRITON_SESSION names is not used.
    """

    services: tuple[str, ...]
    runtime: str | None
    template: Path | str | None
    scope: Scope
    export_env: bool
    reuse: bool
    keep: bool
    rebuild: bool
    isolated: bool

    @classmethod
    def of(cls, config: pytest.Config, line: Namespace | None = None) -> "Options":
        """Those of a run.

        Args:
            config: the run's.
            line: the command line's options; those of `config`, unless it is too early for these.

        Raises:
            pytest.UsageError: a value cannot be used; the message lists what can.
        """
        if line is None:
            line = config.option
        runtime = line.triton_runtime or config.getini("triton_runtime") or None
        if runtime is not None:
            _check("triton_runtime", runtime, RUNTIME_NAMES)
        scope = config.getini("triton_scope")
        _check("triton_scope", scope, SCOPES)
        return cls(
            services=services_of("triton_services", config.getini("triton_services")) or BUILT_IN,
            runtime=runtime,
            template=_template(config, line.triton_template),
            scope=scope,
            export_env=bool(line.triton_export_env or config.getini("triton_export_env")),
            reuse=bool(line.triton_reuse or config.getini("triton_reuse")),
            keep=bool(line.triton_keep),
            rebuild=bool(line.triton_rebuild),
            # What is kept would be gone with that session.
            isolated=bool(line.triton_isolated or config.getini("triton_isolated") or line.triton_keep),
        )


def add_options(parser: pytest.Parser) -> None:
    """Register the names with pytest."""
    every = " ".join(BUILT_IN)
    group = parser.getgroup("triton-env", "real services for tests (triton-env)")
    group.addoption(
        "--triton-runtime",
        choices=RUNTIME_NAMES,
        help="Where the services run. Default: triton_runtime, else TRITON_RUNTIME, else auto.",
    )
    group.addoption(
        "--triton-template",
        metavar="PATH|MODULE:CALLABLE",
        help="What is in every namespace: a folder of SQL files and objects, or a callable that fills one.",
    )
    group.addoption(
        "--triton-export-env",
        action="store_true",
        help="Set the connection variables before conftest files and test modules are imported.",
    )
    group.addoption(
        "--triton-reuse",
        action="store_true",
        help="Share one warm environment with other processes, and leave it running for a while.",
    )
    group.addoption(
        "--triton-keep",
        action="store_true",
        help="Keep the namespaces of failed tests, and print how to get in and how to remove them.",
    )
    group.addoption(
        "--triton-rebuild",
        action="store_true",
        help="Rebuild templates, also those that an earlier run built in the same environment.",
    )
    group.addoption(
        "--triton-isolated",
        action="store_true",
        help="Start services of this run's own also where TRITON_SESSION names a session, as in `triton-env run`.",
    )
    parser.addini("triton_services", f"What triton and triton_env stand for: any of {every}.", "args", [])
    parser.addini("triton_runtime", f"Where the services run: {' '.join(RUNTIME_NAMES)}.", "string", "")
    parser.addini("triton_template", "What is in every namespace: a folder, or MODULE:CALLABLE.", "string", "")
    parser.addini("triton_scope", f"How long a namespace lives: {' '.join(SCOPES)}.", "string", "function")
    parser.addini("triton_export_env", "The same as --triton-export-env.", "bool", False)
    parser.addini("triton_isolated", "The same as --triton-isolated.", "bool", False)
    parser.addini("triton_reuse", "The same as --triton-reuse.", "bool", False)


def services_of(where: str, value: object) -> tuple[str, ...]:
    """The names of services in a text with blanks or commas, or in a sequence of texts.

    Args:
        where: what the value was given to, for messages.
        value: it.

    Raises:
        pytest.UsageError: it is nothing of the kind, or the service does not exist.
    """
    if not isinstance(value, str | list | tuple | set | frozenset):
        raise pytest.UsageError(f"{where}: {value!r} names no services. Allowed: any of {', '.join(BUILT_IN)}.")
    texts: Iterable[Any] = [value] if isinstance(value, str) else value
    names = [name for text in texts for name in str(text).replace(",", " ").split()]
    for name in names:
        if name not in BUILT_IN and not _is_installed(name):
            _check(where, name, BUILT_IN)
    return in_order(names)


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Services in the order in which people read them, each once."""
    given = set(names)
    return (*(name for name in BUILT_IN if name in given), *sorted(given.difference(BUILT_IN)))


def _is_installed(name: str) -> bool:
    """Whether another distribution brings a service of that name."""
    from triton_env.services import SERVICES

    return name in SERVICES


def template_of(where: str, text: str, folders: Iterable[Path]) -> Path | str:
    """The template that a text names: `module:callable`, or a folder below one of `folders`.

    Raises:
        pytest.UsageError: the folder does not exist.
    """
    if _CALLABLE.fullmatch(text):
        return text
    places = [folder / text for folder in folders]
    for place in places:
        if place.is_dir():
            return place.resolve()
    raise pytest.UsageError(
        f"{where}: {text!r} cannot be used. Allowed: a folder (looked for: {', '.join(map(str, places))}),"
        " or module:callable."
    )


def _template(config: pytest.Config, on_the_line: str | None) -> Path | str | None:
    if on_the_line:
        return template_of("--triton-template", on_the_line, (config.invocation_params.dir,))
    text = config.getini("triton_template")
    return template_of("triton_template", text, (config.rootpath,)) if text else None


def _check(where: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise pytest.UsageError(f"{where}: {value!r} cannot be used. Allowed: {', '.join(allowed)}.")
