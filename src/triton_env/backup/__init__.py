"""Backup and restore of the services of a running environment, in one file.

>>> from triton_env import backup
>>> manifest = backup.create(env, "monday.backup")
>>> backup.restore(env, "monday.backup", replace=True) == manifest
True

Everything goes over the services' own protocols, so that a backup of one runtime can be restored on another, and one of
an older server to a newer one. Each service is saved by itself, one after another: where several have to agree with
each other, stop the application first.

What is saved of each service, and what is not: docs/how-to/backup-and-restore.md.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from triton_env.archive.manifest import Manifest, Member, SavedService
    from triton_env.archive.steps import Report, Step
    from triton_env.backup.creation import create, read_manifest, verify
    from triton_env.backup.restoration import restore

__all__ = [
    "Manifest",
    "Member",
    "Report",
    "SavedService",
    "Step",
    "create",
    "read_manifest",
    "restore",
    "verify",
]

_HOME = {
    "Manifest": "triton_env.archive.manifest",
    "Member": "triton_env.archive.manifest",
    "Report": "triton_env.archive.steps",
    "SavedService": "triton_env.archive.manifest",
    "Step": "triton_env.archive.steps",
    "create": "triton_env.backup.creation",
    "read_manifest": "triton_env.backup.creation",
    "restore": "triton_env.backup.restoration",
    "verify": "triton_env.backup.creation",
}


def __getattr__(name: str) -> Any:
    # As in the package above: drivers and archives are loaded when they are used.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
