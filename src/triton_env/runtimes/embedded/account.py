"""As which user servers run, and what that user can read."""

import os
import pwd
import stat
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

_NOBODY = "nobody"
"""An account without rights that every system has. PostgreSQL's initdb insists on one that has a name."""


@dataclass(frozen=True, slots=True)
class Account:
    """The ordinary user that servers become where root starts them. PostgreSQL refuses to be root."""

    uid: int
    gid: int

    def can_read(self, path: Path) -> bool:
        """Whether file modes let this user open `path`. It owns nothing and is in no group of anybody's."""
        try:
            # Each link on the way and what it leads to.
            return all(self._can_read(place) for place in (path.absolute(), path.resolve(strict=True)))
        except OSError:
            return False

    def can_run_python(self) -> bool:
        """Whether this user can start this process's interpreter and import what it imports."""
        places = (sys.executable, sys.prefix, sys.base_prefix, sysconfig.get_path("purelib"), __file__)
        return all(self.can_read(Path(place)) for place in places)

    def _can_read(self, path: Path) -> bool:
        passable = all(folder.stat().st_mode & stat.S_IXOTH for folder in path.parents)
        return passable and bool(path.stat().st_mode & stat.S_IROTH)


def servers_account() -> Account | None:
    """The account that servers have to become; None where this process is an ordinary user already."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(_NOBODY)
    except KeyError:
        return Account(65534, 65534)
    return Account(entry.pw_uid, entry.pw_gid)
