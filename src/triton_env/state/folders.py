"""The folders of a user's state: where they are, and that their user alone can use them."""

import os
import stat
import warnings
from pathlib import Path

from platformdirs import user_runtime_path, user_state_path

from triton_env.core.private import make_folders
from triton_env.errors import InvalidSetting
from triton_env.settings import Settings


def private_folder(settings: Settings, name: str) -> Path:
    """The path of a folder for this user's state: below TRITON_STATE_DIR, by default in the user's runtime folder.

    Raises:
        InvalidSetting: the folder cannot be made or used.
    """
    if settings.triton_state_dir:
        base = Path(settings.triton_state_dir).expanduser()
    else:
        try:
            with warnings.catch_warnings():
                # Without a runtime folder of the system it takes one in /tmp, with a warning; that does as well.
                warnings.simplefilter("ignore")
                base = user_runtime_path("triton-env", appauthor=False)
        except OSError as error:
            raise _unusable(Path("the user's runtime folder"), str(error)) from error
    # Below the folder, not in it: a folder that the user names keeps its own permissions.
    return base / name


def lasting_folder(settings: Settings, name: str) -> Path:
    """The path of a folder for what has to outlive a restart of the machine: below TRITON_STATE_DIR, by default in the
    user's state folder."""
    if settings.triton_state_dir:
        return private_folder(settings, name)
    return user_state_path("triton-env", appauthor=False) / name


def make_private(folder: Path) -> None:
    """Make `folder` with mode 0700; refuse one that others could have prepared."""
    try:
        make_folders(folder)
        # In a shared folder such as /tmp any user can be first with a predictable name.
        for path, owners in ((folder, {os.getuid()}), (folder.parent, {0, os.getuid()})):
            status = path.lstat() if path == folder else path.stat()
            if not stat.S_ISDIR(status.st_mode) or status.st_uid not in owners:
                raise _unusable(folder, f"{path} is not a folder of this user's")
        if stat.S_IMODE(folder.stat().st_mode) != 0o700:
            folder.chmod(0o700)
    except (FileExistsError, NotADirectoryError) as error:
        raise _unusable(folder, f"{error.filename} is not a folder") from error
    except OSError as error:
        raise _unusable(folder, str(error)) from error


def _unusable(folder: Path, cause: str) -> InvalidSetting:
    return InvalidSetting(
        "The list of running environments cannot be kept.",
        where=str(folder),
        cause=cause,
        hint="set TRITON_STATE_DIR to a folder that only you can write to",
    )
