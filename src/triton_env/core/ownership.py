"""Whose files and folders are: what another user may have put in place is not taken for ours."""

import os
import stat
from pathlib import Path


def problem_of(path: Path) -> str:
    """Why what a file or folder holds may be another user's doing; empty where it may not.

    It has to be of this user or of root, and so has what a link leads to; others cannot write to it.

    Args:
        path: of a file or folder that exists.

    Raises:
        OSError: it cannot be looked at.
    """
    if problem := foreign_owner_of(path):
        return problem
    return "others can write to it" if _others_write(path.stat()) else ""


def foreign_owner_of(path: Path) -> str:
    """That a file, or what a link leads to, belongs to another user than this one and root, in words; else empty.

    Raises:
        OSError: it cannot be looked at.
    """
    for status in (path.lstat(), path.stat()):
        if status.st_uid not in (0, os.geteuid()):
            return f"it belongs to the user {_name_of(status.st_uid)}"
    return ""


def may_be_replaced(path: Path) -> bool:
    """Whether others can exchange what is in a folder: theirs, or open to all without the sticky bit."""
    status = path.stat()
    return status.st_uid not in (0, os.geteuid()) or (_others_write(status) and not status.st_mode & stat.S_ISVTX)


def _others_write(status: os.stat_result) -> bool:
    by_group = status.st_mode & stat.S_IWGRP and not _is_own_group(status.st_gid)
    return bool(status.st_mode & stat.S_IWOTH or by_group)


def _is_own_group(group: int) -> bool:
    """Whether a group is this user's alone, as many systems make one for each user (with the umask 002)."""
    # Not on Windows.
    import grp
    import pwd

    try:
        user, described = pwd.getpwuid(os.geteuid()), grp.getgrgid(group)
    except KeyError:
        return False
    return user.pw_gid == group and described.gr_name == user.pw_name and set(described.gr_mem) <= {user.pw_name}


def _name_of(user: int) -> str:
    import pwd

    try:
        return f"{pwd.getpwuid(user).pw_name} ({user})"
    except KeyError:
        return str(user)
