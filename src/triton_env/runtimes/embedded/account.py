"""As which user servers run, and what that user can read."""

import os
import pwd
import secrets
import stat
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

_NOBODY = "nobody"
"""An account without rights that every system has. PostgreSQL's initdb insists on one that has a name."""
_GROUPS = range(61184, 65520)
"""Group ids that belong to nobody for long (systemd's for dynamic users, https://systemd.io/UIDS-GIDS/)."""


@dataclass(frozen=True, slots=True)
class Account:
    """The ordinary user that servers become where root starts them. PostgreSQL refuses to be root.

    Attributes:
        uid: that of `nobody`.
        gid: a group of this environment's own. Other programs run as `nobody` too: the group keeps them out of the
            environment's directory, and from looking into its processes.
    """

    uid: int
    gid: int

    def can_read(self, path: Path) -> bool:
        """Whether file modes let this user open `path`. It owns nothing and is in no group of anybody's."""
        try:
            # Both the way to a link and what it leads to.
            return all(self._can_read(place) for place in (path.absolute(), path.resolve(strict=True)))
        except OSError:
            return False

    def can_run_python(self) -> bool:
        """Whether this user can start this process's interpreter and import what it imports."""
        places = (sys.executable, sys.prefix, sys.base_prefix, sysconfig.get_path("purelib"), __file__)
        return all(self.can_read(Path(place)) for place in places)

    def can_pass(self, folder: Path) -> bool:
        """Whether file modes let this user reach what lies in `folder`."""
        return all(each.stat().st_mode & stat.S_IXOTH for each in (folder.resolve(), *folder.resolve().parents))

    def _can_read(self, path: Path) -> bool:
        return self.can_pass(path.parent) and bool(path.stat().st_mode & stat.S_IROTH)


def has_a_name(account: Account | None) -> bool:
    """Whether the servers' user is in the list of users, as PostgreSQL's initdb wants it to be."""
    try:
        pwd.getpwuid(account.uid if account else os.geteuid())
    except KeyError:
        return False
    return True


def servers_account() -> Account | None:
    """The account that servers have to become; None where this process is an ordinary user already."""
    if os.geteuid() != 0:
        return None
    try:
        uid = pwd.getpwnam(_NOBODY).pw_uid
    except KeyError:
        uid = 65534
    return Account(uid, gid=secrets.choice(_GROUPS))
