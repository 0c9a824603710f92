"""Restoring backups: first everything is checked, then everything is loaded aside, then one service after another
takes over what was loaded."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from triton_env import interrupts
from triton_env.backup.archive import Archive
from triton_env.backup.base import HalfApplied, Restorer
from triton_env.backup.clickhouse import ClickHouseRestorer
from triton_env.backup.creation import programs_of
from triton_env.backup.manifest import Manifest
from triton_env.backup.postgres import PostgresRestorer
from triton_env.backup.redis import RedisRestorer
from triton_env.backup.s3 import S3Restorer
from triton_env.backup.steps import Meter, Report, Step, silent
from triton_env.environment import TritonEnvironment
from triton_env.errors import RestoreFailed, TritonError
from triton_env.services import SERVICES

_RESTORERS: Mapping[str, Callable[..., Restorer]] = {
    "postgres": PostgresRestorer,
    "clickhouse": ClickHouseRestorer,
    "redis": RedisRestorer,
    "s3": S3Restorer,
}
_SHOWN = 6
"""How many things that would be replaced are named."""


def restore(
    env: TritonEnvironment,
    path: str | Path,
    *,
    services: Sequence[str] | None = None,
    replace: bool = False,
    trusted: bool = False,
    report: Report = silent,
) -> Manifest:
    """Make services hold what a backup holds, and nothing else.

    The whole backup is verified before anything is touched, and loaded beside what is there before any service takes
    over. Then one service after another does; should one fail, the error says which hold what.

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
        RestoreFailed: the backup cannot be used or not here, something is there, or a service failed.
        UnknownService, ServiceNotSelected, NotStarted: there is no such running service.
    """
    with Archive(Path(path), trusted=trusted) as archive:
        meter = Meter("", report)
        meter.begin("checking the backup")
        archive.check_members(meter.count)
        names = _names(archive, services)
        # Also those of which there is none: before anything else is done.
        for name in names:
            env.service(name)
        run = _Run()
        try:
            for name in names:
                run.do(name, lambda name=name: run.add(name, _restorer(env, name, archive, report)))  # type: ignore[misc]
            if not replace:
                _refuse_to_replace(run)
            for name in names:
                run.do(name, run.restorers[name].stage)
            for name in names:
                run.take_over(name, report)
        except BaseException as error:
            if not isinstance(error, Exception) and (words := run.broken_off()):
                error.add_note(words)
            if problem := run.discard():
                error.add_note(problem)
            raise
        if problem := run.discard():
            raise RestoreFailed(f"Everything was restored. {problem}")
        return archive.manifest


def _names(archive: Archive, services: Sequence[str] | None) -> tuple[str, ...]:
    held = archive.manifest.services
    wanted = tuple(services or held)
    if missing := [name for name in wanted if name in SERVICES and name not in held]:
        raise RestoreFailed(
            f"The backup does not hold {_titles(missing)}.",
            where=str(archive.path),
            cause=f"it holds {_titles(held)}",
        )
    return wanted


def _restorer(env: TritonEnvironment, name: str, archive: Archive, report: Report) -> Restorer:
    restorer = _RESTORERS[name](env.service(name), programs_of(env, name), archive, Meter(name, report))
    restorer.check()
    return restorer


def _refuse_to_replace(run: "_Run") -> None:
    for name, restorer in run.restorers.items():
        present: list[str] = []
        run.do(name, lambda restorer=restorer, present=present: present.extend(restorer.present()))  # type: ignore[misc]
        if present:
            shown = ", ".join(present[:_SHOWN])
            more = f" and {len(present) - _SHOWN} more" if len(present) > _SHOWN else ""
            raise RestoreFailed(
                f"{SERVICES[name].title} is not empty, and a restore replaces what is there: {shown}{more}. "
                "Nothing was changed.",
                hint="replace it with `restore FILE --yes` (replace=True in Python)",
            )


class _Run:
    """How far a restore has come, and the words for it."""

    def __init__(self) -> None:
        self.restorers: dict[str, Restorer] = {}
        self._applied: list[str] = []
        self._broken = ""

    def add(self, name: str, restorer: Restorer) -> None:
        self.restorers[name] = restorer

    def do(self, name: str, action: Callable[[], object]) -> None:
        """Do what changes nothing that is there, with errors that say so."""
        try:
            action()
        except Exception as error:
            raise _failed(name, error, "Nothing was changed: every service holds what it held.") from error

    def take_over(self, name: str, report: Report) -> None:
        """Let a service take over what was loaded, with errors that say which service holds what."""
        title = SERVICES[name].title
        try:
            self.restorers[name].swap()
        except HalfApplied as error:
            raise RestoreFailed(
                f"{title} was not restored completely. {self._state(name)}",
                cause=str(error),
                hint="mend the cause and run the restore again: the backup is whole",
            ) from error
        except Exception as error:
            raise _failed(name, error, f"{title} holds what it held. {self._state(name)}") from error
        except BaseException:
            # Whether it holds what it held or what it should hold is not known then.
            self._broken = name
            raise
        self._applied.append(name)
        report(Step(name, "restored", done=True))

    def broken_off(self) -> str:
        """What to say where the restore was broken off; empty where nothing was changed."""
        if not self._applied and not self._broken:
            return ""
        within = f" within {SERVICES[self._broken].title}" if self._broken else ""
        return f"The restore was broken off{within}. {self._state(self._broken)}"

    def discard(self) -> str:
        """Remove what was loaded and not taken over; nobody may break that off. Returns what went wrong."""
        problems = []
        with interrupts.shielded():
            for name, restorer in self.restorers.items():
                try:
                    restorer.discard()
                except Exception as error:
                    problems.append(f"{SERVICES[name].title}: {error}")
        if not problems:
            return ""
        return (
            "What was loaded for the restore could not all be removed again (its names begin with triton_restore_ or "
            f"triton-restore-): {'; '.join(problems)}"
        )

    def _state(self, current: str) -> str:
        untouched = [name for name in self.restorers if name not in self._applied and name != current]
        words = [f"Restored: {_titles(self._applied) or 'nothing'}."]
        if untouched:
            words.append(f"As before: {_titles(untouched)}.")
        return " ".join(words)


def _failed(name: str, error: Exception, state: str) -> RestoreFailed:
    title = SERVICES[name].title
    if isinstance(error, TritonError):
        return RestoreFailed(f"{error.what} {state}", where=error.where, cause=error.cause, hint=error.hint)
    return RestoreFailed(f"{title} could not be restored. {state}", cause=str(error) or type(error).__name__)


def _titles(names: Iterable[str]) -> str:
    return ", ".join(SERVICES[name].title if name in SERVICES else name for name in names)
