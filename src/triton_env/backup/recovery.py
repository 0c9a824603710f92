"""What becomes of a restore that was interrupted: it is finished, or all of it is taken back.

All services go the same way, and the journal says which. It can be done service by service, by any process that has
them, and be interrupted and begun again.
"""

import threading
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, cast

from triton_env.backup.failures import reason_of
from triton_env.backup.journal import Entry, Phase, Place, command_to_settle
from triton_env.backup.parts import takeover_of
from triton_env.core.model import TakesOver
from triton_env.core.programming_errors import PROGRAMMING_ERRORS
from triton_env.errors import RestoreUnfinished
from triton_env.services import SERVICES, Service
from triton_env.services.base_backup import DecidingTakeover, Note
from triton_env.services.selection import title_of

_PATIENCE = 120
"""Seconds that a start waits for another process that finishes a restore or takes it back."""
_INTERVAL = 0.1

Say = Callable[[str], None]


def settle(
    place: Place,
    services: Mapping[str, Service],
    say: Say,
    finishers: Mapping[str, Callable[[Note], None]] | None = None,
) -> bool | None:
    """Finish what the journal describes, or take it back, in these services. The caller holds the place alone.

    Args:
        services: those that run, by name.
        say: receives a line about what was done.
        finishers: by service, what finishes it instead of its takeover, given what notes its plan.

    Returns:
        True where it was finished, False where it was taken back, None where there was nothing to do.

    Raises:
        RestoreUnfinished: a server refused, or the one that decides is not among the services. The journal stays.
    """
    entry = place.read()
    if entry is None:
        return None
    entry = _decided(place, entry, services)
    # Those first that still hold what they held: the others hold what was restored already.
    here = [name for name in entry.pending if name in services]
    here.sort(key=lambda name: services[name].takes_over is not TakesOver.IN_THE_END)
    problems: dict[str, Exception] = {}
    for name in here:
        try:
            entry = _settle_one(place, entry, services[name], (finishers or {}).get(name))
        except Exception as error:
            problems[name] = error
            entry = place.read() or entry
    # When the other services are settled, which have nothing to do with it.
    for problem in problems.values():
        if isinstance(problem, PROGRAMMING_ERRORS):
            raise problem
    if problems:
        raise _unfinished(entry, problems, place, services)
    if not entry.pending:
        place.remove()
    if here:
        say(_done(entry, here))
    return bool(entry.counts) if here else None


def _decided(place: Place, entry: Entry, services: Mapping[str, Service]) -> Entry:
    if entry.counts is not None:
        return entry
    *_, name = entry.plans
    if name not in services:
        raise RestoreUnfinished(
            f"{_capital(entry.summary())}. Whether it counts is known to {title_of(name)} alone, which is not in use "
            "here.",
            where=f"environment {entry.environment}",
            hint=command_to_settle(place),
        )
    try:
        # Its plan does not change by that.
        takeover = takeover_of(services[name], entry.plans[name], lambda plan: None)
        happened = cast("DecidingTakeover", takeover).happened()
    except (RestoreUnfinished, *PROGRAMMING_ERRORS):
        raise
    except Exception as error:
        raise _unfinished(entry, {name: error}, place, services) from error
    decided = replace(entry, phase=Phase.COMMITTED if happened else Phase.TAKING_OVER)
    place.write(decided)
    return decided


def _settle_one(place: Place, entry: Entry, service: Service, finisher: Callable[[Note], None] | None) -> Entry:
    def note(plan: dict[str, Any]) -> None:
        nonlocal entry
        entry = replace(entry, plans={**entry.plans, service.name: plan})
        place.write(entry)

    takeover = takeover_of(service, entry.plans[service.name], note)
    if entry.counts:
        finisher(note) if finisher else takeover.finish()
    else:
        if entry.phase is Phase.TAKING_OVER and service.name not in entry.returned:
            takeover.put_back()
            entry = replace(entry, returned=(*entry.returned, service.name))
            place.write(entry)
        takeover.discard()
    entry = entry.without(service.name)
    place.write(entry)
    return entry


class Recovery:
    """Settles an unfinished restore while an environment starts, as soon as the services that it is about are ready.

    Args:
        names: of the services that start.
        say: receives a line about what was done.
    """

    def __init__(self, place: Place, entry: Entry, names: Collection[str], say: Say) -> None:
        self._place = place
        self._say = say
        self._lock = threading.Lock()
        self._concerned = frozenset(entry.pending) & frozenset(names)
        self._awaited = set(self._concerned)
        self._ready: dict[str, Service] = {}
        self._settled: Future[None] = Future()

    def concerns(self, name: str) -> bool:
        """Whether there is still something to be done in this service."""
        return name in self._concerned and not self._settled.done()

    def ready(self, service: Service) -> None:
        """A service answers; returns when it holds what it is to hold.

        Raises:
            RestoreUnfinished: that could not be done.
            RestoreFailed: another process restores.
        """
        if service.name in self._concerned:
            self._arrived(service.name, service)
            self._settled.result()

    def failed(self, name: str) -> None:
        """A service does not come up: the others do not wait for it."""
        if name in self._concerned:
            self._arrived(name, None)

    def _arrived(self, name: str, service: Service | None) -> None:
        with self._lock:
            if name not in self._awaited:
                return
            self._awaited.discard(name)
            if service is not None:
                self._ready[name] = service
            is_last = not self._awaited
        if is_last:
            try:
                self._settle()
            except BaseException as error:
                self._settled.set_exception(error)
            else:
                self._settled.set_result(None)

    def _settle(self) -> None:
        deadline = time.monotonic() + _PATIENCE
        while (held := self._place.try_hold()) is None:
            if (entry := self._place.read()) and entry.phase is Phase.STAGING:
                self._say(f"process {entry.pid} is restoring {entry.file}; everything is as it was until it has loaded")
                return
            if time.monotonic() > deadline:
                raise self._place.busy()
            time.sleep(_INTERVAL)
        try:
            settle(self._place, self._ready, self._say)
        finally:
            held.release()


def recovery(place: Place, names: Collection[str], say: Say) -> Recovery | None:
    """What is to be done by a start of an environment; None where no restore was interrupted.

    Raises:
        RestoreUnfinished: the journal cannot be read.
    """
    entry = place.read()
    return Recovery(place, entry, names, say) if entry else None


def _done(entry: Entry, names: Collection[str]) -> str:
    rest = [title_of(name) for name in entry.pending]
    which = "finished" if entry.counts else "taken back"
    words = f"the restore of {entry.file} that was interrupted is {which}: {_hold(entry, names)}"
    return f"{words}; still to do: {', '.join(rest)}" if rest else words


def _hold(entry: Entry, names: Collection[str]) -> str:
    """What services hold that are done."""
    titles = ", ".join(title_of(name) for name in names)
    if len(names) == 1:
        return f"{titles} holds {'what was restored' if entry.counts else 'what it held before'}"
    return f"{titles} hold {'what was restored' if entry.counts else 'what they held before'}"


def _unfinished(
    entry: Entry, problems: Mapping[str, Exception], place: Place, services: Mapping[str, Service]
) -> RestoreUnfinished:
    titles = ", ".join(title_of(name) for name in problems)
    todo = {True: "finished", False: "taken back", None: "finished or taken back"}[entry.counts]
    name, error = next(iter(problems.items()))
    reason = reason_of(error, services[name])
    # The data of a session ends with its server, and its hint says so.
    is_lost = reason.died and not place.lasting
    words = [f"The restore of {entry.file} could not be {todo} in {titles}{'' if is_lost else ' yet'}."]
    if done := [other for other in SERVICES.installed() if other in entry.plans and other not in entry.pending]:
        words.append(f"{_hold(entry, done)}.")
    if not is_lost:
        words.append("Nothing is lost: its journal stays.")
    raised = RestoreUnfinished(
        " ".join(words),
        where=reason.where,
        cause=f"{reason.what} {reason.cause}".strip(),
        log_tail=reason.log_tail,
        hint=command_to_settle(place) if reason.died and place.lasting else reason.hint or command_to_settle(place),
    )
    raised.__cause__ = error
    return raised


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
