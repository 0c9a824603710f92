"""Making backups, and looking into them."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from triton_env._version import __version__
from triton_env.archive.archive import Archive, ArchiveWriter
from triton_env.archive.manifest import Manifest, SavedService
from triton_env.archive.steps import Meter, Report, Step, silent
from triton_env.backup.environment import RunningEnvironment
from triton_env.backup.failures import reason_of
from triton_env.backup.journal import Place
from triton_env.backup.parts import offers_saving, saver_of
from triton_env.backup.programs import ServicePrograms
from triton_env.core import interrupts
from triton_env.core.programming_errors import PROGRAMMING_ERRORS
from triton_env.errors import BackupFailed, NotOffered, TritonError
from triton_env.services import Service
from triton_env.services.base_backup import Programs


def create(
    env: RunningEnvironment,
    path: str | Path,
    *,
    services: Sequence[str] | None = None,
    force: bool = False,
    report: Report = silent,
) -> Manifest:
    """Save what of the user's the services hold to one file, readable by its owner alone.

    Namespaces, templates and snapshots are not in it, and may come and go while it is made.

    The file appears when it is complete and was read back. Nothing is left of a backup that fails or is interrupted.

    Args:
        env: a running environment.
        path: the file to make.
        services: which services; by default all of the environment that can be saved. A step names the others.
        force: replace a file that is there.
        report: called with each step.

    Returns:
        What the backup holds.

    Raises:
        BackupFailed: the file exists or cannot be written, or a service cannot be read.
        RestoreFailed: another process restores.
        RestoreUnfinished: a restore that was interrupted can neither be finished nor taken back.
        NotOffered: a service that is named cannot be saved, or none of the environment can.
        UnknownService, ServiceNotSelected, NotStarted: the service is not running.
    """
    found = _saved_services(env, services, report)
    place = place_of(env)
    # What a restore left that was interrupted is nothing to be saved.
    with place.between_restores(lambda: _settle(place, env, report)):
        return _create(env, found, ArchiveWriter(Path(path), force=force), place, report)


def _saved_services(env: RunningEnvironment, services: Sequence[str] | None, report: Report) -> Mapping[str, Service]:
    """The services to be saved, in their order.

    Raises:
        NotOffered: one that is named cannot be saved, or none can.
    """
    wanted = {name: env.service(name) for name in services or env.services}
    if services:
        for service in wanted.values():
            saver_of(service)
    found = {name: wanted[name] for name in env.services if name in wanted and offers_saving(wanted[name])}
    if not found:
        raise NotOffered("No service of this environment offers a backup.")
    for name in wanted.keys() - found.keys():
        report(Step(name, "not saved, since it offers no backup", note=True))
    return found


def _create(
    env: RunningEnvironment, found: Mapping[str, Service], writer: ArchiveWriter, place: Place, report: Report
) -> Manifest:
    try:
        saved: dict[str, SavedService] = {}
        for name, service in found.items():
            meter = Meter(name, report)
            try:
                saved[name] = saver_of(service)(service, programs_of(env, name), writer, meter, place)
            except PROGRAMMING_ERRORS:
                raise
            except Exception as error:
                reason = reason_of(error, service)
                if isinstance(error, TritonError) and not reason.died:
                    raise
                raise BackupFailed(
                    reason.what or f"{service.title} could not be saved.",
                    where=reason.where,
                    cause=reason.cause,
                    log_tail=reason.log_tail,
                    hint=reason.hint,
                ) from error
            meter.end(f"saved: {', '.join(saved[name].contents) or 'nothing'}")
        report(Step("", "reading it back"))
        manifest = Manifest(
            tool=__version__,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            runtime=env.runtime,
            services=saved,
            members=writer.members,
        )
        writer.finish(manifest)
    finally:
        with interrupts.shielded():
            writer.abandon()
    return manifest


def _settle(place: Place, env: RunningEnvironment, report: Report) -> None:
    # Restoring takes much that saving does not load.
    from triton_env.backup.recovery import settle

    settle(place, running_services(env), lambda words: report(Step("", words, done=True)))


def read_manifest(path: str | Path) -> Manifest:
    """What a backup holds. Its checksum is checked, its members are not.

    Raises:
        RestoreFailed: it cannot be read, is damaged, of a newer format, or no backup at all.
    """
    with Archive(Path(path)) as archive:
        return archive.manifest


def verify(path: str | Path, *, report: Report = silent) -> Manifest:
    """Read all of a backup and compare it with its checksums.

    Returns:
        What it holds.

    Raises:
        RestoreFailed: it cannot be read, is damaged, of a newer format, or no backup at all.
    """
    with Archive(Path(path)) as archive:
        meter = Meter("", report)
        meter.begin("checking")
        archive.check_members(meter.count)
        return archive.manifest


def place_of(env: RunningEnvironment) -> Place:
    """Where the journal of restores into an environment is."""
    return Place(env.settings, env.id, lasting=env._mode.data_is_yours)


def running_services(env: RunningEnvironment) -> dict[str, Service]:
    """The services of an environment, by name."""
    return {name: env.service(name) for name in env.services}


def programs_of(env: RunningEnvironment, service: str) -> Programs:
    """The programs that come with a service."""
    return ServicePrograms(partial(env.program, service))
