"""Making backups, and looking into them."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from triton_env._version import __version__
from triton_env.archive.archive import Archive, ArchiveWriter
from triton_env.archive.manifest import Manifest, SavedService
from triton_env.archive.steps import Meter, Report, Step, silent
from triton_env.backup.failures import reason_of
from triton_env.backup.journal import Place
from triton_env.core import interrupts
from triton_env.environment import TritonEnvironment
from triton_env.errors import BackupFailed, TritonError
from triton_env.services import Service
from triton_env.services.base_backup import RunsPrograms, Saver
from triton_env.services.clickhouse.backup import save as save_clickhouse
from triton_env.services.postgres.backup import save as save_postgres
from triton_env.services.redis.backup import save as save_redis
from triton_env.services.s3.backup import save as save_s3

_SAVERS: Mapping[str, Saver] = {
    "postgres": save_postgres,
    "clickhouse": save_clickhouse,
    "redis": save_redis,
    "s3": save_s3,
}


def create(
    env: TritonEnvironment,
    path: str | Path,
    *,
    services: Sequence[str] | None = None,
    force: bool = False,
    report: Report = silent,
) -> Manifest:
    """Save what of the user's the services hold to one file, readable by its owner alone.

    Namespaces, templates and snapshots are not in it, and may come and go while it is made.

    The file appears when it is complete and was read back. Nothing is left of a backup that fails or is broken off.

    Args:
        env: a running environment.
        path: the file to make.
        services: which services; by default all of the environment.
        force: replace a file that is there.
        report: called with each step.

    Returns:
        What the backup holds.

    Raises:
        BackupFailed: the file exists or cannot be written, or a service cannot be read.
        RestoreFailed: another process restores.
        RestoreUnfinished: a restore that was broken off can neither be finished nor taken back.
        UnknownService, ServiceNotSelected, NotStarted: there is no such running service.
    """
    wanted = {name: env.service(name) for name in services or env.services}
    found = {name: wanted[name] for name in env.services if name in wanted}
    place = place_of(env)
    # What a restore left that was broken off is nothing to be saved.
    with place.between_restores(lambda: _settle(place, env, report)):
        return _create(env, found, ArchiveWriter(Path(path), force=force), place, report)


def _create(
    env: TritonEnvironment, found: Mapping[str, Service], writer: ArchiveWriter, place: Place, report: Report
) -> Manifest:
    try:
        saved: dict[str, SavedService] = {}
        for name, service in found.items():
            meter = Meter(name, report)
            try:
                saved[name] = _SAVERS[name](service, programs_of(env, name), writer, meter, place)
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


def _settle(place: Place, env: TritonEnvironment, report: Report) -> None:
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


def place_of(env: TritonEnvironment) -> Place:
    """Where the journal of restores into an environment is."""
    return Place(env.settings, env.id, lasting=env._running().lasting)


def running_services(env: TritonEnvironment) -> dict[str, Service]:
    """The services of an environment, by name."""
    return {name: env.service(name) for name in env.services}


def programs_of(env: TritonEnvironment, service: str) -> RunsPrograms:
    """How to run programs beside the server of a service."""
    return partial(env.program, service)
