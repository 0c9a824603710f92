"""How starts fail, in the same words on every runtime."""

from triton_env.core import shortages
from triton_env.core.model import ServiceRecipe
from triton_env.core.readiness import DeadlineExceeded
from triton_env.core.redaction import redacted
from triton_env.errors import PortTaken, ResourceExhausted, ServiceExited, ServiceNotReady

RANDOM_PORTS = "set TRITON_PORTS=random"
"""What else a session may do about a port that is taken."""

LOG_LINES = 40
"""How much of a server's log an error gets; it shows what fits a screen."""


def service_exited(
    recipe: ServiceRecipe, *, where: str, cause: str, log: str, hint: str, place: str = ""
) -> ServiceExited | ResourceExhausted:
    """The server ended while it was waited for.

    Args:
        where: its container or process.
        cause: how it ended.
        log: what it wrote.
        hint: what to do next where the log names no shortage.
        place: the folder of this machine that it writes to; empty where that is not known.
    """
    what = f"{recipe.title} exited while it started."
    cause, log = redacted(cause, recipe.secrets), redacted(log, recipe.secrets)
    if exhausted := shortages.in_log(what, cause, log, place):
        return exhausted
    if recipe.options:
        hint = f"it may not take what {recipe.options} gives it; else {hint}"
    return ServiceExited(what, where=where, cause=cause, log_tail=log, hint=hint)


def service_not_ready(
    recipe: ServiceRecipe, error: DeadlineExceeded, *, where: str, log: str, place: str = ""
) -> ServiceNotReady | ResourceExhausted:
    """The server runs, but no client could work with it in time, or it turns them down. See `service_exited`."""
    cause, log = redacted(str(error.last_error), recipe.secrets), redacted(log, recipe.secrets)
    what = f"No client could be connected to {recipe.title}."
    if exhausted := shortages.exhausted(error.last_error, what) or shortages.in_log(what, cause, log, place):
        return exhausted
    if error.refused:
        names = ", ".join(recipe.external.variables)
        return ServiceNotReady(
            f"{recipe.title} runs, but refuses its client.",
            where=where,
            cause=cause,
            log_tail=log,
            hint=f"compare {names} with what the server was set up with; waiting longer does not help",
        )
    return ServiceNotReady(
        f"{recipe.title} was not ready after {error.seconds:g} s.",
        where=where,
        cause=cause,
        log_tail=log,
        hint=f"give it more time with TRITON_{recipe.name.upper()}_TIMEOUT={error.seconds * 2:g}",
    )


def is_port_conflict(cause: str) -> bool:
    """Whether the engine said that a port is in use."""
    return "port is already allocated" in cause or "address already in use" in cause


def port_taken(recipe: ServiceRecipe, address: str, holders: dict[int, str], *, instead: str) -> PortTaken:
    """A port that was asked for is in use.

    Args:
        holders: who has each of its ports, in words; empty where that is not known.
        instead: what else one may do, to end the hint.
    """
    variables = {port.fixed: port.variable for port in recipe.ports}
    for number, holder in holders.items():
        if holder:
            return PortTaken(
                f"Port {number} of {recipe.title} is taken by {holder}.",
                where=f"{address}:{number}",
                hint=f"stop that one, set {variables[number]} to another port in .env, or {instead}",
            )
    taken = " or ".join(map(str, holders))
    names = " or ".join(variables[number] for number in holders)
    return PortTaken(
        f"Port {taken} of {recipe.title} is taken by a program that is not visible.",
        where=address,
        hint=f"sudo ss -ltnp lists who listens; or set {names} to another port in .env, or {instead}",
    )
