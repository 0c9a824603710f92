"""Files and folders that their user alone can use, whatever the umask is."""

import errno
import os
import shutil
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

from triton_env.errors import InvalidSetting


def make_folder(path: Path, mode: int = 0o700) -> None:
    """Make a folder.

    Args:
        path: of the folder.
        mode: its permissions.

    Raises:
        OSError: there is one, or it cannot be made.
    """
    path.mkdir(mode=mode)
    # The umask may have taken away even what its owner needs.
    path.chmod(mode)


def make_folders(path: Path, mode: int = 0o700) -> None:
    """Make a folder where it is missing, and those above it. What is there stays as it is.

    Args:
        path: of the folder.
        mode: the permissions of those that are made; with others, they are not the user's alone.

    Raises:
        OSError: one cannot be made.
    """
    for folder in (*reversed(path.parents), path):
        if not folder.is_dir():
            try:
                make_folder(folder, mode)
            except FileExistsError:
                # Another process was quicker, or it is not a folder.
                folder.mkdir(exist_ok=True)


def open_file(path: Path, flags: int) -> int:
    """Open a file, and have it private where `flags` let it be made. A link is not followed.

    Raises:
        OSError: it cannot be opened.
        InvalidSetting: there is a folder or a link in its place.
    """
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        if error.errno not in (errno.EISDIR, errno.ELOOP):
            raise
        raise InvalidSetting(
            "A file of triton-env cannot be opened, since something else has its name.",
            where=str(path),
            cause="it is a link" if error.errno == errno.ELOOP else "it is a folder",
            hint=f"mv {path} {path}.old, then try again",
        ) from error
    if flags & os.O_CREAT:
        os.fchmod(descriptor, 0o600)
    return descriptor


def write_new(path: Path, content: str | bytes, *, mode: int = 0o600, durable: bool = False) -> Path:
    """Write a file that is not there yet; returns its path.

    Args:
        path: of the file.
        content: text is written as UTF-8.
        mode: its permissions, once it is written.
        durable: whether the content is on the disk when this returns.

    Raises:
        OSError: it is there, or cannot be written. Of one that could not be written to its end, nothing is left.
    """
    descriptor = open_file(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fchmod(descriptor, mode)
            if durable:
                os.fsync(descriptor)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path


def replace(path: Path, content: str | bytes, *, mode: int = 0o600, durable: bool = False) -> None:
    """Write a file, in the place of one that is there: readers see all of it or what was there before.

    Args:
        path: of the file.
        content, mode: see `write_new`.
        durable: whether it is on the disk when this returns.

    Raises:
        OSError: it cannot be written.
    """
    fresh = path.with_name(f".{path.name}.{token_hex(4)}")
    try:
        write_new(fresh, content, mode=mode, durable=durable).replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """See that the disk has the names of the files in a folder as they are now.

    Raises:
        OSError: it cannot be opened or written.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def set_aside(path: Path) -> None:
    """Remove what has a name, whatever it is. Under that name there is all of it or nothing, however long that takes.

    Processes that have opened a file read on. Nothing is done where nothing has that name.

    Raises:
        OSError: it keeps its name.
    """
    aside = path.with_name(f"{path.name}-{token_hex(4)}.old")
    with suppress(FileNotFoundError):
        path.rename(aside)
        with suppress(OSError):
            remove_anything(aside)


def remove_anything(path: Path) -> None:
    """Remove what is there, whatever it is.

    Raises:
        OSError: it cannot be removed.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
