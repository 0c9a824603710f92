"""The runtime of an environment that another process keeps, as seen by one of those who use it."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from triton_env.core.ending import BEGIN_ANEW, Ending
from triton_env.core.model import Placement, Probe, Program, ServiceRecipe
from triton_env.core.readiness import refuses
from triton_env.core.redaction import redacted
from triton_env.core.timeline import Phase
from triton_env.errors import StartCancelled, TritonError
from triton_env.runtimes.base import Report

if TYPE_CHECKING:
    from triton_env.persistent.containers import ProjectContainer
    from triton_env.runtimes.docker.engine import Engine
    from triton_env.sharing.attaching import Attached
    from triton_env.sharing.joining import Joined
    from triton_env.sharing.news import Told

_NEWS_TIMEOUT = 2
"""Seconds to wait for the keeper's word about a server that does not listen any more; it looks five times a second."""
_CALLED_OFF = "The start was called off."


class AttachedRuntime:
    """Hands out what another process has started, or waits for it.

    Args:
        joined: this process's part in the environment.
        recipes: the services that it runs.
        say: is told what a person should know.

    Raises:
        TritonError: the keeper could not choose a runtime, or ended.
    """

    def __init__(
        self, joined: "Joined | Attached", recipes: Sequence[ServiceRecipe], say: Callable[[str], None]
    ) -> None:
        self._joined = joined
        self._news = joined.news
        self._recipes = {recipe.name: recipe for recipe in recipes}
        self._secrets = frozenset[str]().union(*(recipe.secrets for recipe in recipes))
        for words in joined.words:
            say(words)
        was_up = self._news.told.up
        self._news.follow()
        if not self._news.wait_for(lambda told: bool(told.runtime)):
            raise self._problem("")
        for words in () if was_up else tuple(self._news.told.said):
            say(words)
        self.name = self._news.told.runtime
        self.reason = f"{self._news.told.reason}; it is shared with other processes"

    def start(self, recipe: ServiceRecipe, probe: Probe, report: Report) -> Placement:
        # The probe is the keeper's business. That a service of a warm environment listens was seen on joining.
        seen = 0
        told = self._news.told
        while True:
            self._news.wait_for(partial(_has_news_of, recipe.name, seen))
            phases = told.phases.get(recipe.name, [])
            # Those of an environment that was up are not of this start.
            for phase, words in () if told.up else phases[seen:]:
                if phase is not Phase.FAILED:
                    report(phase, words)
            seen = len(phases)
            if recipe.name in told.placements:
                report(Phase.READY, "")
                return told.placements[recipe.name]
            if self._news.is_over:
                raise self._problem(recipe.name)

    def logs(self, service: str, lines: int, since: float | None = None) -> str:
        if self.name == "docker":
            text = _container_log(self._container(service), lines, since)
        else:
            from triton_env.runtimes.embedded.server import log_tail

            text = log_tail(self._embedded_log(service), lines, int(since or 0))
        return redacted(text, self._secrets)

    def log_position(self, service: str) -> float:
        if self.name == "docker":
            return time.time()
        from triton_env.runtimes.embedded.server import log_size

        return log_size(self._embedded_log(service))

    def ending(self, service: str, *, look: bool = True) -> Ending | None:
        told = self._news.told
        if service not in told.placements:
            return None
        if look and self.name == "docker":
            return _container_ending(self._container(service), told.placements[service])
        if look and service not in told.endings and refuses(told.placements[service]):
            alive = self._news.wait_for_ending(service, _NEWS_TIMEOUT)
            reason = "it does not listen any more" if alive else "the process that kept the environment has ended"
            return told.endings.get(service) or Ending(f"environment {self._joined.id}", BEGIN_ANEW, reason=reason)
        return told.endings.get(service)

    def program(
        self, service: str, argv: Sequence[str], environment: Mapping[str, str], *, terminal: bool = False
    ) -> Program:
        recipe = self._recipes[service]
        if self.name == "docker":
            from triton_env.runtimes.docker.engine_socket import engine_url
            from triton_env.runtimes.docker.execution import in_container

            container = self._container(service)
            return in_container(engine_url(), container, recipe, argv, environment, terminal=terminal)
        from triton_env.runtimes.embedded.runtime import program_beside

        placement, folder = self._news.told.placements[service], self._news.told.folder
        assert folder is not None
        return program_beside(recipe, placement, folder, argv, environment)

    def lines(self, service: str, tail: int | None, *, follow: bool) -> Iterator[str]:
        """The lines that a service wrote, without secrets.

        Args:
            service: the service's name.
            tail: how many at most of those that are there; None for all.
            follow: whether those come too that it writes from now on, as long as it runs.
        """
        if self.name == "docker":
            chunks = _container_lines(self._container(service), tail, follow=follow)
        elif self.name == "embedded":
            from triton_env.runtimes.embedded.server import log_lines

            chunks = log_lines(self._embedded_log(service), tail, follow=follow)
        else:
            chunks = iter(())
        return (redacted(line, self._secrets) for line in chunks)

    def containers(self, engine: "Engine") -> dict[str, "ProjectContainer"]:
        """The containers of the services on their engine, running or not, by the services' names."""
        from triton_env.persistent.containers import Project

        found = {name: Project(engine, "").inspect(self._container(name)) for name in self._recipes}
        return {name: container for name, container in found.items() if container}

    def container_has(self, service: str, program: str) -> bool:
        """Whether the container of a service has a program."""
        from triton_env.runtimes.docker.engine import Engine
        from triton_env.runtimes.docker.execution import container_has

        engine = Engine()
        try:
            return container_has(engine, self._container(service), program)
        finally:
            engine.close()

    def stop(self) -> None:
        self._joined.leave()

    def _problem(self, service: str) -> TritonError:
        """Why this service does not come up."""
        told = self._news.told
        if told.error is not None:
            # One is to blame; that the others failed too would hide it.
            return told.error if told.failed in ("", service) else StartCancelled(_CALLED_OFF)
        return self._joined.lost() if self._news.lost else StartCancelled(_CALLED_OFF)

    def _container(self, service: str) -> str:
        return f"triton-{self._joined.id}-{service}"

    def _embedded_log(self, service: str) -> Path:
        return (self._news.told.folder or Path()) / "logs" / f"{service}.log"


def _has_news_of(service: str, seen: int, told: "Told") -> bool:
    return service in told.placements or len(told.phases.get(service, ())) > seen


def _container_ending(container: str, placement: Placement) -> Ending | None:
    from triton_env.runtimes.docker.engine import Engine

    try:
        engine = Engine()
    except TritonError:
        return None
    try:
        return engine.ending(container, placement, where=f"container {container}", hint=BEGIN_ANEW)
    finally:
        engine.close()


def _container_lines(container: str, tail: int | None, *, follow: bool) -> Iterator[str]:
    from triton_env.runtimes.docker.engine import Engine

    engine = Engine()
    try:
        with engine.translated("read a log", container):
            parts = engine.client.containers.get(container).logs(
                stream=True, follow=follow, tail="all" if tail is None else tail
            )
            rest = b""
            for part in parts:
                *lines, rest = (rest + part).split(b"\n")
                yield from (line.decode(errors="replace") for line in lines)
            if rest:
                yield rest.decode(errors="replace")
    finally:
        engine.close()


def _container_log(container: str, lines: int, since: float | None) -> str:
    from docker.errors import APIError

    from triton_env.runtimes.docker.engine import Engine

    engine = Engine()
    try:
        with engine.translated("read a log", container):
            try:
                text = engine.client.containers.get(container).logs(tail=lines, since=since)
            except APIError:  # it is gone
                return ""
            return bytes(text).decode(errors="replace")
    finally:
        engine.close()
