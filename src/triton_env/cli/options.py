"""Options that several commands take. What they may be is looked up when they are used, not for `--help`."""

from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, TypeVar

import click

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])

passed_on = {"ignore_unknown_options": True, "allow_interspersed_args": False, "help_option_names": ["--help"]}
"""Context settings of commands that pass their arguments on to a program, `-h` included."""


def _services(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    if value is None:
        return None
    from triton_env.services import SERVICES

    names = _checked_names(context, parameter, tuple(value.split(",")))
    if not names:
        raise click.BadParameter(f"name at least one of {', '.join(SERVICES)}.", context, parameter)
    return names


def _checked_names(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...], aliases: dict[str, str] | None = None
) -> tuple[str, ...]:
    """Names of services, each once, in lower case and without empty ones."""
    from triton_env.services import SERVICES

    given = (value.strip().lower() for value in values)
    names = tuple(dict.fromkeys((aliases or {}).get(name, name) for name in given if name))
    for name in names:
        if name not in SERVICES:
            raise click.BadParameter(_no_such("service", name, tuple(SERVICES)), context, parameter)
    return names


def _arguments(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    # `s3` is `localstack` in the compose file, and so in what Docker lists.
    return _checked_names(context, parameter, values, {"localstack": "s3"})


def _runtime(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    from triton_env.settings import RUNTIME_NAMES

    name = value.strip().lower()
    if name not in RUNTIME_NAMES:
        raise click.BadParameter(_no_such("runtime", name, RUNTIME_NAMES), context, parameter)
    return name


def _no_such(kind: str, name: str, known: tuple[str, ...]) -> str:
    close = get_close_matches(name, known, 1)
    guess = f" Did you mean {close[0]!r}?" if close else ""
    return f"there is no {kind} {name!r}; choose from {', '.join(known)}.{guess}"


services_option = click.option(
    "--services",
    callback=_services,
    metavar="NAME,...",
    help="Only these of postgres, clickhouse, redis, s3 (with commas between).  [default: all]",
)

runtime_option = click.option(
    "--runtime",
    callback=_runtime,
    metavar="NAME",
    help="Where they run: auto, docker, embedded or external.  [default: TRITON_RUNTIME]",
)

project_option = click.option(
    "--project",
    metavar="NAME",
    help="Which persistent services, by their project.  [default: TRITON_PROJECT]",
)


def service_arguments(*, required: bool) -> Callable[[_Decorated], _Decorated]:
    """The argument SERVICE..., names of services."""
    metavar = "SERVICE..." if required else "[SERVICE]..."
    return click.argument("services", nargs=-1, required=required, callback=_arguments, metavar=metavar)


def selected(services: tuple[str, ...] | None) -> tuple[str, ...]:
    """The services that were asked for, or all."""
    from triton_env.services import SERVICES

    return services or tuple(SERVICES)
