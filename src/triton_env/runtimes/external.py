"""The external runtime: servers that triton-env does not run. It starts, creates and removes nothing."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

from triton_env.core.ending import Ending
from triton_env.core.model import Endpoint, Placement, Probe, Program, ServiceRecipe
from triton_env.core.readiness import DeadlineExceeded, check_listening, wait_until_ready
from triton_env.core.redaction import redacted
from triton_env.core.timeline import Phase
from triton_env.errors import NotOffered, RuntimeUnavailable, ServiceUnusable, UsageError
from triton_env.runtimes.access import Access
from triton_env.runtimes.base import Report
from triton_env.runtimes.start_tracker import StartTracker
from triton_env.settings import Settings

_PATIENCE = 10.0
"""Seconds that a server gets that does not listen yet, is starting, or is slow. That it refused a client is reported
at once."""
_NO_ANSWER = "timed out|timeout (expired|reading|connecting|on endpoint)"
"""What clients report where a server does not answer."""


def check_offered(recipes: Iterable[ServiceRecipe]) -> None:
    """See that servers of others can be found.

    Raises:
        NotOffered: no setting says where one is.
    """
    if unable := [recipe.title for recipe in recipes if not recipe.external.host]:
        raise NotOffered(
            f"{' and '.join(unable)} cannot be external: no setting says where its server is.",
            where="TRITON_RUNTIME=external",
            hint="leave it out, or start one: TRITON_RUNTIME=auto",
        )


class ExternalRuntime:
    """Hands out servers where the settings say they are, once a client has worked with them.

    Args:
        settings: poll interval.
    """

    name: ClassVar[str] = "external"
    reason = "it was asked for"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._starts = StartTracker()

    def start(self, recipe: ServiceRecipe, probe: Probe, report: Report) -> Placement:
        placement = Placement({port.name: Endpoint(recipe.external.host, port.fixed) for port in recipe.ports})
        with self._starts.track(recipe):
            report(Phase.BOOT, "asking it")
            self._wait(recipe, placement, probe)
            report(Phase.READY, "")
        return placement

    def restart(self, recipe: ServiceRecipe, probe: Probe) -> None:
        raise UsageError(
            f"{recipe.title} is run by others, and is not restarted from here.", where="TRITON_RUNTIME=external"
        )

    def access(self, service: str) -> Access:
        raise RuntimeUnavailable(
            "Logs and programs of a service are with its server, which triton-env did not start.",
            where=f"{service}, TRITON_RUNTIME=external",
        )

    def logs(self, service: str, lines: int, since: float | None = None) -> str:
        return ""

    def log_position(self, service: str) -> float:
        return 0.0

    def ending(self, service: str, *, look: bool = True) -> Ending | None:
        return None

    def program(self, service: str, argv: Sequence[str], environment: Mapping[str, str]) -> Program:
        raise RuntimeUnavailable(
            f"{argv[0]} cannot be run: programs of a service are with its server, which triton-env did not start.",
            where=f"{service}, TRITON_RUNTIME=external",
            hint=f"install {argv[0]} on this machine, and run it with the variables of: python -m triton_env env",
        )

    def stop(self) -> None:
        self._starts.cancel()

    def _wait(self, recipe: ServiceRecipe, placement: Placement, probe: Probe) -> None:
        main = next(iter(placement.endpoints.values()))
        not_yet = "|".join(filter(None, (recipe.external.starting, _NO_ANSWER)))

        def ask() -> None:
            try:
                check_listening(main.host, main.port)
            except OSError as error:
                raise _Silent(str(error)) from error
            probe(placement)

        def explained(error: Exception) -> ServiceUnusable | None:
            if isinstance(error, _Silent) or re.search(not_yet, str(error), re.IGNORECASE):
                return None
            return _unusable(recipe, main, error, refused=True)

        try:
            wait_until_ready(
                ask,
                timeout=min(recipe.timeout, _PATIENCE),
                interval=self._settings.triton_poll_interval,
                check_alive=lambda: None,
                cancelled=self._starts.cancelled,
                explain=explained,
            )
        except DeadlineExceeded as error:
            raise _unusable(recipe, main, error.last_error, refused=False) from error.last_error


class _Silent(Exception):
    """No server listens."""


def _unusable(recipe: ServiceRecipe, main: Endpoint, error: Exception, *, refused: bool) -> ServiceUnusable:
    if refused:
        what = f"The external {recipe.title} cannot be used with these settings."
        hint = "correct the variables, or create there what is missing: triton-env creates nothing on external servers"
    else:
        what = f"No {recipe.title} answers at {main}."
        hint = "start it, point the variables to it, or set TRITON_RUNTIME=auto for one of your own"
    return ServiceUnusable(
        what,
        where=f"{main}, by {', '.join(recipe.external.variables)}",
        cause=redacted(str(error) or type(error).__name__, recipe.secrets),
        hint=hint,
    )
