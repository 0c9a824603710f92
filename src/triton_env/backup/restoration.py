"""Restoring backups: first everything is checked, then everything is loaded aside, then all services take over what was
loaded. A journal says how far that has come, so that whatever comes next can finish it or take it back."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Any, cast

from triton_env.archive.archive import Archive
from triton_env.archive.manifest import Manifest
from triton_env.archive.steps import Meter, Report, Step, silent
from triton_env.backup.creation import place_of, programs_of, running_services
from triton_env.backup.environment import RunningEnvironment
from triton_env.backup.failures import reason_of
from triton_env.backup.journal import Entry, Phase, Place, command_to_settle
from triton_env.backup.parts import check_restorable, restorer_of
from triton_env.backup.recovery import settle
from triton_env.core import interrupts
from triton_env.core.model import TakesOver
from triton_env.core.printable import listed, one_line
from triton_env.core.programming_errors import PROGRAMMING_ERRORS
from triton_env.errors import RestoreFailed, RestoreUnfinished
from triton_env.services import SERVICES, Service
from triton_env.services.base_backup import LateRestorer, Restorer
from triton_env.services.names import RESTORE
from triton_env.services.selection import title_of

_NEXT = "the next restore, or the next start of these services (python -m triton_env up)"


def restore(
    env: RunningEnvironment,
    path: str | Path,
    *,
    services: Sequence[str] | None = None,
    replace: bool = False,
    trusted: bool = False,
    report: Report = silent,
) -> Manifest:
    """Make services hold what a backup holds, and nothing else of the user's.

    The whole backup is verified before anything is touched, and loaded beside what is there before any service takes
    over. Should anything fail until all have, everything is taken back. However the process ends, what comes next
    finishes the restore or takes it back: another restore, or a start of these services. Namespaces, templates and
    snapshots stay as they are.

    Args:
        env: a running environment, also of another runtime than the backup's.
        path: the backup.
        services: which services; by default all in the backup.
        replace: replace what is there. Without it, a service that holds anything is an error.
        trusted: let code in the backup run with the rights of the servers' superusers, where it needs them. Without
            it, a backup with such code is an error.
        report: called with each step.

    Returns:
        What the backup holds.

    Raises:
        RestoreFailed: the backup cannot be used or not here, something is there, another process restores or makes a
            backup, or a service failed. Nothing was changed.
        RestoreUnfinished: it counts and is not finished yet, or an earlier one is neither finished nor taken back.
        NotOffered: one of these cannot be restored.
        UnknownService, ServiceNotSelected, NotStarted: the service is not running.
    """
    with Archive(Path(path), trusted=trusted) as archive:
        meter = Meter("", report)
        meter.begin("checking the backup")
        archive.check_members(meter.count)
        names = held_services(archive.manifest, services, archive.path)
        # Also those of which there is none: before anything else is done.
        check_restorable(env.service(name) for name in names)
        place = place_of(env)
        with place.held():
            _settle_earlier(env, place, archive, report)
            _Run(env, place, archive, names, report).restore(replace_present=replace)
        return archive.manifest


def _settle_earlier(env: RunningEnvironment, place: Place, archive: Archive, report: Report) -> None:
    """Finish an earlier restore that was interrupted, or take it back, before another one begins.

    Raises:
        RestoreUnfinished: that could not be done, or not in all services.
    """
    entry = place.read()
    if entry is None:
        return
    running = running_services(env)
    finishers = {}
    for name in entry.pending if entry.digest == _digest(archive) else ():
        if name in running and running[name].takes_over is TakesOver.IN_THE_END:
            make, programs, meter = restorer_of(running[name]), programs_of(env, name), Meter(name, report)
            restorer = cast("LateRestorer", make(running[name], programs, archive, meter, place, entry.mark))
            finishers[name] = partial(restorer.finish, plan=entry.plans[name])
    settle(place, running, lambda words: report(Step("", words, done=True)), finishers)
    if left := place.read():
        raise RestoreUnfinished(
            f"An earlier restore is unfinished in {_titles(left.pending)}, and this one does not have "
            f"{'it' if len(left.pending) == 1 else 'them'}.",
            where=f"environment {place.environment}",
            hint=command_to_settle(place) if place.lasting else "restore in an environment with all its services",
        )


def held_services(manifest: Manifest, services: Sequence[str] | None, path: Path) -> tuple[str, ...]:
    """The services of a backup, or those of them that were asked for.

    Raises:
        RestoreFailed: the backup does not hold one of these, or one is not installed here.
    """
    held = manifest.services
    if unknown := [name for name in held if name not in SERVICES and (not services or name in services)]:
        others = [name for name in held if name in SERVICES]
        raise RestoreFailed(
            f"The backup holds a service that is not installed here: {', '.join(map(one_line, unknown))}.",
            where=str(path),
            hint="install the distribution that brings it"
            + (f"; or restore the others: python -m triton_env restore FILE {' '.join(others)}" if others else ""),
        )
    wanted = tuple(services or held)
    if missing := [name for name in wanted if name in SERVICES and name not in held]:
        raise RestoreFailed(
            f"The backup does not hold {_titles(missing)}.",
            where=str(path),
            cause=f"it holds {_titles(held)}",
        )
    return wanted


class _Run:
    """One restore: how far it has come, and the words for it."""

    def __init__(
        self, env: RunningEnvironment, place: Place, archive: Archive, names: Sequence[str], report: Report
    ) -> None:
        self._env = env
        self._place = place
        self._archive = archive
        self._report = report
        # The one that decides takes over last.
        self._names = sorted(names, key=lambda name: self._takes_over(name) is TakesOver.FOR_GOOD)
        self._mark = RESTORE + token_hex(4)
        self._restorers: dict[str, Restorer] = {}

    def restore(self, *, replace_present: bool) -> None:
        """Do it, or nothing."""
        for name in self._names:
            self._do(name, partial(self._check, name))
        if not replace_present:
            self._refuse_to_replace()
        plans: dict[str, dict[str, Any]] = {}
        for name in self._names:
            self._do(name, lambda name=name: plans.update({name: self._restorers[name].plan()}))  # type: ignore[misc]
        entry = Entry(
            mark=self._mark,
            phase=Phase.STAGING,
            pid=os.getpid(),
            file=str(self._archive.path),
            addresses={name: f"{service.host}:{service.port}" for name, service in self._services().items()},
            plans=plans,
            pending=tuple(self._names),
            returned=(),
            environment=self._place.environment,
            digest=_digest(self._archive),
            is_persistent=self._env._mode.is_of_project,
        )
        try:
            self._place.write(entry)
            for name in self._names:
                self._do(name, self._restorers[name].stage)
            self._take_over(entry)
        except BaseException as error:
            if not self._after(error):
                raise
        self._finish()

    def _check(self, name: str) -> None:
        programs, meter = programs_of(self._env, name), Meter(name, self._report)
        make = restorer_of(self._env.service(name))
        restorer = make(self._env.service(name), programs, self._archive, meter, self._place, self._mark)
        self._restorers[name] = restorer
        restorer.check()

    def _refuse_to_replace(self) -> None:
        for name, restorer in self._restorers.items():
            present: list[str] = []
            self._do(name, lambda restorer=restorer, present=present: present.extend(restorer.present()))  # type: ignore[misc]
            if present:
                raise RestoreFailed(
                    f"{title_of(name)} is not empty, and a restore replaces what is there: {listed(present)}. "
                    "Nothing was changed.",
                    hint="replace it with `restore FILE --yes` (replace=True in Python)",
                )

    def _take_over(self, entry: Entry) -> None:
        """Let services take over what was loaded. From the end on, the restore counts."""
        entry = replace(entry, phase=Phase.TAKING_OVER)
        self._place.write(entry)
        for name in self._names:
            if self._takes_over(name) is TakesOver.FOR_GOOD:
                entry = replace(entry, phase=Phase.COMMITTING)
                self._place.write(entry)
            self._do(name, self._restorers[name].swap)
            if self._takes_over(name) is not TakesOver.IN_THE_END:
                self._report(Step(name, "restored", done=True))
        self._place.write(replace(entry, phase=Phase.COMMITTED))

    def _after(self, error: BaseException) -> bool:
        """Take everything back after an error, unless it came too late for that; whether the restore counts."""
        with interrupts.shielded():
            try:
                counts = settle(self._place, self._services(), lambda words: None)
            except RestoreUnfinished as unfinished:
                if isinstance(error, Exception):
                    raise unfinished from error
                error.add_note(str(unfinished))
                return False
        if counts and (not isinstance(error, Exception) or isinstance(error, PROGRAMMING_ERRORS)):
            error.add_note("The restore was complete.")
            return False
        return bool(counts)

    def _finish(self) -> None:
        finishers = {name: restorer.finish for name, restorer in self._restorers.items()}
        try:
            settle(self._place, self._services(), lambda words: None, finishers)
        except BaseException as error:
            if not isinstance(error, Exception):
                error.add_note(f"The restored data has taken over, and what is left to do is done by: {_NEXT}")
            raise
        for name in self._names:
            if self._takes_over(name) is TakesOver.IN_THE_END:
                self._report(Step(name, "restored", done=True))

    def _takes_over(self, name: str) -> TakesOver:
        return self._env.service(name).takes_over

    def _services(self) -> dict[str, Service]:
        return {name: self._env.service(name) for name in self._names}

    def _do(self, name: str, action: Callable[[], object]) -> None:
        """Do what is taken back where it fails, with errors that say so."""
        try:
            action()
        except (RestoreUnfinished, *PROGRAMMING_ERRORS):
            raise
        except Exception as error:
            raise _failed(error, self._env.service(name)) from error


def _failed(error: Exception, service: Service) -> RestoreFailed:
    reason = reason_of(error, service)
    # What a server held that has ended may be gone, which its hint says.
    state = "No other service was changed." if reason.died else "Nothing was changed: every service holds what it held."
    return RestoreFailed(
        f"{reason.what or f'{service.title} could not be restored.'} {state}",
        where=reason.where,
        cause=reason.cause,
        log_tail=reason.log_tail,
        hint=reason.hint,
    )


def _digest(archive: Archive) -> str:
    """By which a backup is known again: its manifest has the checksums of all that it holds."""
    return hashlib.sha256(json.dumps(archive.manifest.as_data()).encode()).hexdigest()


def _titles(names: Iterable[str]) -> str:
    return ", ".join(map(title_of, names))
