"""Which compose file is used: that of the project in which a command is given, else the one that comes with triton-env.

Engines mount files by their path for as long as a container exists. So what comes with an installed triton-env is not
used in place, since its environment may be removed or replaced: it is copied to a folder of the user, where copies are
named by their content.

    <state>/stack/docker-compose-<hash>.yml
                 /<service>-<hash>/
"""

import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from triton_env.core.ownership import may_be_replaced, problem_of
from triton_env.core.packaged_files import packaged_file
from triton_env.core.private import replace
from triton_env.errors import InvalidSetting
from triton_env.runtimes.owner import PROJECT_LABEL
from triton_env.settings import Settings
from triton_env.settings.project_folders import project_folders
from triton_env.state.folders import lasting_folder, make_private

OUR_LABEL = PROJECT_LABEL
"""In the compose file, on everything that it makes: another project of the same name does not have it."""
FILE = "docker-compose.yml"
_MOUNTED = re.compile(r"\./docker/(\w+)")
_UNUSED_FOR = 30 * 24 * 3600
"""Seconds after which a copy that no container of this engine has may go: other engines may have some that use it."""


def compose_file(start: Path | None = None) -> Path:
    """The compose file of the persistent mode.

    It is the one of this project in `start` (the current folder) or the nearest folder above it inside of the user's
    project, which ends at a folder with a pyproject.toml or .git, and where others can put files; else the one that
    belongs to this version of triton-env.

    Raises:
        InvalidSetting: the file may be another user's doing.
    """
    own = packaged_file(FILE)
    for folder in project_folders(start or Path.cwd()):
        candidate = folder / FILE
        if _is_ours(candidate):
            # The code that says so comes from there too.
            if not candidate.samefile(own) and (problem := _problem_of(candidate)):
                raise InvalidSetting(
                    "The compose file could be changed by another user, so it is not used.",
                    where=str(candidate),
                    cause=problem,
                    hint=f"make the file yours: chown $(id -u) {candidate}; chmod go-w {candidate}",
                )
            return candidate
    return own


def checkout() -> str:
    """The folder of the compose file of this project; empty where it is that of an installed triton-env.

    Raises:
        InvalidSetting: the file may be another user's doing.
    """
    file = compose_file()
    return "" if _is_packaged(file) else str(file.parent)


def used_file(settings: Settings) -> Path:
    """The path under which `compose_file` is given to Compose: itself, or its copy where it comes with triton-env.

    Raises:
        InvalidSetting: it may be another user's doing, or cannot be copied.
    """
    file = compose_file()
    return _kept(file, kept_folder(settings)) if file == packaged_file(FILE) and _is_packaged(file) else file


def is_own(file: Path) -> bool:
    """Whether a compose file is that of this version of triton-env, or a copy of it."""
    own = packaged_file(FILE)
    return file.name != FILE or file == own


def is_same_stack(one: Path, other: Path) -> bool:
    """Whether two compose files are the same one, or of different versions of triton-env as it is installed."""
    with suppress(OSError):  # it is not there, or another user's
        if one.samefile(other):
            return True
    return (one.name != FILE and one.parent == other.parent) or (_is_packaged(one) and other.name != FILE)


def kept_folder(settings: Settings) -> Path:
    """Where the copies are. Engines start containers when the machine starts, so they have to be there by then."""
    return lasting_folder(settings, "stack")


def unused(settings: Settings, in_use: Iterable[str]) -> tuple[Path, ...]:
    """The copies that no version has used for a month, and that are on no path in use.

    Args:
        settings: where the copies are.
        in_use: paths that containers were made from or mount.
    """
    folder, used = kept_folder(settings), [Path(path) for path in in_use]
    try:
        copies = sorted(folder.iterdir())
    except OSError:
        return ()
    oldest = time.time() - _UNUSED_FOR
    return tuple(
        copy
        for copy in copies
        if copy.stat().st_mtime < oldest and not any(path == copy or copy in path.parents for path in used)
    )


def remove(copy: Path) -> None:
    """Remove one of the copies.

    Raises:
        OSError: it cannot be removed.
    """
    if copy.is_dir() and not copy.is_symlink():
        shutil.rmtree(copy)
    else:
        copy.unlink()


def _is_ours(path: Path) -> bool:
    try:
        return OUR_LABEL in path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return False


def _problem_of(file: Path) -> str:
    if may_be_replaced(file.parent):
        return f"others can put files into {file.parent}"
    return problem_of(file)


def _is_packaged(file: Path) -> bool:
    """Whether it is in an installed triton-env, of whatever environment."""
    return file.parts[-3:-1] == ("triton_env", "compose")


def _kept(file: Path, folder: Path) -> Path:
    """The copy of a compose file in `folder`, with copies of what it mounts; made where they are missing."""
    make_private(folder)
    try:
        names: dict[str, str] = {}
        for source in sorted((file.parent / "docker").iterdir()):
            files = _content(source)
            names[source.name] = f"{source.name}-{_digest(files)}"
            _write(folder / names[source.name], files)
        # Only what a service mounts is in its description: one that has not changed is not replaced by a new version.
        text = _MOUNTED.sub(lambda found: f"./{names.get(found[1], found[0])}", file.read_text("utf-8"))
        content = {"": text.encode()}
        copy = folder / f"docker-compose-{_digest(content)}.yml"
        _write(copy, content)
    except OSError as error:
        raise InvalidSetting(
            "The files of the persistent services cannot be kept.",
            where=str(error.filename or folder),
            cause=error.strerror or str(error),
            hint="set TRITON_STATE_DIR to a folder on a local disk that only you can write to",
        ) from error
    return copy


def _content(source: Path) -> dict[str, bytes]:
    """The files below a folder by their path there. What Python wrote beside its modules is not among them."""
    return {
        str(path.relative_to(source)): path.read_bytes()
        for path in sorted(source.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def _digest(files: Mapping[str, bytes]) -> str:
    total = hashlib.sha256()
    for name, content in sorted(files.items()):
        total.update(f"{len(name)} {name} {len(content)} ".encode() + content)
    return total.hexdigest()[:16]


def _write(target: Path, files: Mapping[str, bytes]) -> None:
    """Have these files below `target`, each whole at any time: other processes may do the same, and servers read them.

    Servers run as users of their own, so all can read them; what keeps others out is the folder that they are in.
    """
    for name, content in files.items():
        path = target / name if name else target
        mode = 0o755 if path.suffix == ".sh" else 0o644
        for folder in reversed([each for each in path.parents if each == target or target in each.parents]):
            folder.mkdir(mode=0o755, exist_ok=True)
            folder.chmod(0o755)
        if not path.is_file() or path.read_bytes() != content or path.stat().st_mode & 0o777 != mode:
            replace(path, content, mode=mode)
    # Known to be in use; see `unused`.
    os.utime(target)
