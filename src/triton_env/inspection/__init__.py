"""What runs: every environment of this user as data. `ps` and what else shows environments are views of it."""

import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from triton_env.core.printable import in_one_line
from triton_env.core.threads import in_thread
from triton_env.errors import InvalidSetting, TritonError
from triton_env.inspection.asking import Asker
from triton_env.inspection.data import (
    EnvironmentEntry,
    Health,
    Inspection,
    LeftoverEntry,
    Owner,
    ServiceEntry,
    SpaceEntry,
    SpanEntry,
)
from triton_env.inspection.leftovers import found_leftovers
from triton_env.inspection.owners import command_of
from triton_env.inspection.persistent import Project, asked_project, here, on_engine
from triton_env.inspection.sessions import asked_session, of_record
from triton_env.inspection.starts import with_starts
from triton_env.inspection.urls import without_password
from triton_env.runtimes.choice import ENGINE_TIMEOUT
from triton_env.settings import Settings
from triton_env.settings.project_folders import project_root
from triton_env.state.registry import Record, Registry
from triton_env.state.starting import Starts

if TYPE_CHECKING:
    from triton_env._startup import Startup

__all__ = [
    "EnvironmentEntry",
    "Health",
    "Inspection",
    "Inspector",
    "LeftoverEntry",
    "Owner",
    "ServiceEntry",
    "SpaceEntry",
    "SpanEntry",
    "command_of",
    "inspect",
    "of_startup",
    "without_password",
]

ASK_TIMEOUT = 15.0
"""Seconds that the servers of an environment get for all that they are asked. They need more than a few where one of
them, or the engine that has them, hangs."""
LEFTOVERS_INTERVAL = 30.0
"""Seconds for which what dead owners left is taken to be as it was."""


class Inspector:
    """Looks at what runs, again and again. To be closed, best by `with`.

    Between two looks with `ask` it keeps connections to the servers, and for half a minute what takes long to find out:
    sizes, and what dead owners left.

    Args:
        settings: where this user's state is kept.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._asker = Asker()
        self._left: Future[tuple[tuple[LeftoverEntry, ...] | None, str]] | None = None
        self._looked = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. It makes no others: later looks go without what servers measure of themselves."""
        self._asker.close()

    def inspect(self, *, ask: bool = False, only: str = "", show_secrets: bool = False) -> Inspection:
        """Look at everything that this user has running.

        Args:
            ask: whether servers and engines are asked for all that they know, and what dead owners left is looked for.
                Otherwise it is only seen whether they listen.
            only: the key of the one environment that is asked, and nothing else; empty for all.
            show_secrets: whether URLs have their passwords.

        Raises:
            InvalidSetting: the state folder cannot be used.
        """
        settings = self._settings
        # All at once: what is on a machine or an engine that does not answer takes as long as it may.
        left = self._leftovers() if ask and not only else None
        containers = in_thread(on_engine, settings)
        # Before what runs: one that becomes ready in between is seen all the same.
        starts = Starts.of(settings).under_way()
        records = Registry.of(settings).running()
        sessions = [in_thread(partial(of_record, record, settings, show_secrets=show_secrets)) for record in records]
        looks: list[_Look] = []

        def look(entry: EnvironmentEntry, asked: Callable[[], EnvironmentEntry]) -> None:
            is_asked = ask and only in ("", entry.key)
            looks.append(_Look(entry, in_thread(asked) if is_asked else None, time.monotonic() + ASK_TIMEOUT))

        options: Any = {"asker": self._asker, "show_secrets": show_secrets}
        for record, session in zip(records, sessions, strict=True):
            entry = session.result()
            look(entry, partial(asked_session, entry, record, settings, **options))
        for project in here(settings):
            look(project.entry, partial(asked_project, project, **options))
        projects: tuple[Project, ...] = ()
        try:
            projects, problem = containers.result(ENGINE_TIMEOUT)
        except TimeoutError:
            problem = f"no engine answers within {ENGINE_TIMEOUT:g} s"
        for project in projects:
            look(project.entry, partial(asked_project, project, **options))
        environments = tuple(with_starts([each.result() for each in looks], starts))
        self._asker.keep(environments)
        leftovers, engine_problem = left.result() if left else (None, "")
        return Inspection(
            asked=ask,
            environments=environments,
            leftovers=leftovers,
            engine_problem=problem or engine_problem or None,
        )

    def _leftovers(self) -> "Future[tuple[tuple[LeftoverEntry, ...] | None, str]]":
        """What dead owners left, found now or a moment ago: all engines and folders are looked through."""
        now = time.monotonic()
        if self._left is None or now - self._looked > LEFTOVERS_INTERVAL:
            self._left, self._looked = in_thread(found_leftovers, self._settings), now
        return self._left


@dataclass(frozen=True, slots=True)
class _Look:
    """A look at an environment that is under way.

    Attributes:
        entry: what was seen without asking.
        asked: what its servers answer; None where they are not asked.
        deadline: by when.
    """

    entry: EnvironmentEntry
    asked: "Future[EnvironmentEntry] | None"
    deadline: float

    def result(self) -> EnvironmentEntry:
        """What was found in time."""
        if self.asked is None:
            return self.entry
        try:
            return self.asked.result(max(0.0, self.deadline - time.monotonic()))
        except TimeoutError:
            problem = f"not all of it answered within {ASK_TIMEOUT:g} s"
        except TritonError as error:
            problem = in_one_line(error)
        return self.entry.model_copy(update={"problem": problem})


def inspect(settings: Settings, *, ask: bool = False, only: str = "", show_secrets: bool = False) -> Inspection:
    """Look at everything that this user has running; see `Inspector.inspect`.

    Raises:
        InvalidSetting: the state folder cannot be used.
    """
    with Inspector(settings) as inspector:
        return inspector.inspect(ask=ask, only=only, show_secrets=show_secrets)


def of_startup(startup: "Startup", *, ask: bool = False, show_secrets: bool = False) -> EnvironmentEntry:
    """An environment that this process has or uses; its services are waited for. The arguments are those of `inspect`.

    Raises:
        TritonError: an engine that was to be asked failed.
    """
    from triton_env.sharing.listing import record_of

    mode = startup.mode
    record: Record | None = None
    with suppress(InvalidSetting):  # it is not listed where no list can be kept
        record = next((each for each in Registry.of(mode.settings).running() if each.id == mode.id), None)
    if record is None:
        project, wanted = str(project_root(Path.cwd())), mode.settings.triton_runtime
        record = record_of(startup, mode.id, held_by="python", is_offered=False, project=project, asked_runtime=wanted)
    entry = of_record(record, mode.settings, show_secrets=show_secrets)
    if ask:
        asker = Asker()
        try:
            entry = asked_session(entry, record, mode.settings, asker, show_secrets=show_secrets)
        finally:
            asker.close()
    return entry.model_copy(update={"mode": "persistent", "owner": None}) if mode.is_of_project else entry
