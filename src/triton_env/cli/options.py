"""Options that several commands take. What they may be is looked up when they are used, not for `--help`."""

from difflib import get_close_matches

import click


def _services(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    if value is None:
        return None
    from triton_env.services import SERVICES

    names = tuple(name.strip().lower() for name in value.split(",") if name.strip())
    for name in names:
        if name not in SERVICES:
            raise click.BadParameter(_no_such("service", name, tuple(SERVICES)), context, parameter)
    if not names:
        raise click.BadParameter(f"name at least one of {', '.join(SERVICES)}.", context, parameter)
    return names


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


def selected(services: tuple[str, ...] | None) -> tuple[str, ...]:
    """The services that were asked for, or all."""
    from triton_env.services import SERVICES

    return services or tuple(SERVICES)
