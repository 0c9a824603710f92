"""As which user servers run, and what that user can read."""

import grp
import os
import pwd
import secrets
import stat
import sys
import sysconfig
from collections.abc import Container
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from triton_env.errors import RuntimeUnavailable

_NOBODY = "nobody"
"""An account without rights that every system has. Some programs that initialise data insist on one with a name."""
_NUMBERS = range(61184, 65520)
"""Users and groups that programs have for a while only (systemd's dynamic users, https://systemd.io/UIDS-GIDS/)."""
_NEEDED = ((0, "CAP_CHOWN"), (1, "CAP_DAC_OVERRIDE"), (5, "CAP_KILL"), (6, "CAP_SETGID"), (7, "CAP_SETUID"))
"""What root needs to give files to another user, to become that user, and to end its processes."""
_UID_MAP = Path("/proc/self/uid_map")
_STATUS = Path("/proc/self/status")


@dataclass(frozen=True, slots=True)
class Account:
    """The ordinary user that servers become where root starts them. Some refuse to be root.

    Attributes:
        uid: a number of this environment's own, so that no other environment's servers can send it signals. It has no
            name. Where the user namespace has no such number, it is that of `nobody`.
        gid: a group of this environment's own, which keeps others out of its directories and processes.
        named: the user that initialises data directories, which has a name.
    """

    uid: int
    gid: int
    named: int

    def pair(self, *, named: bool = False) -> tuple[int, int]:
        """The user and the group that a program runs as."""
        return (self.named if named else self.uid, self.gid)

    def can_read(self, path: Path) -> bool:
        """Whether file modes let this user open `path`. It owns nothing and is in no other user's group."""
        try:
            # Both the way to a link and what it leads to.
            return all(self._can_read(place) for place in (path.absolute(), path.resolve(strict=True)))
        except OSError:
            return False

    def can_pass(self, folder: Path) -> bool:
        """Whether file modes let this user reach what lies in `folder`."""
        # A link on the way is passed too, and what it leads to.
        ways = (folder.absolute(), folder.resolve())
        return all(each.stat().st_mode & stat.S_IXOTH for way in ways for each in (way, *way.parents))

    def _can_read(self, path: Path) -> bool:
        return self.can_pass(path.parent) and bool(path.stat().st_mode & stat.S_IROTH)


def has_a_name(account: Account | None) -> bool:
    """Whether the user that initialises data is in the list of users, as some programs insist."""
    try:
        pwd.getpwuid(account.named if account else os.geteuid())
    except KeyError:
        return False
    return True


def servers_account(taken: Container[int] = ()) -> Account | None:
    """The account that servers have to become; None where this process is an ordinary user already.

    Args:
        taken: the groups of other environments.

    Raises:
        RuntimeUnavailable: this process is root, and is not allowed to become another user.
    """
    if os.geteuid() != 0:
        return None
    if lonely_user() is not None:
        if not _ranges()[0][1]:
            raise RuntimeUnavailable(
                "The embedded servers run as an ordinary user, and this user namespace has none.",
                where=str(_UID_MAP),
                cause="its only user is root, who is also root outside of it",
                hint="run this as an ordinary user, or outside of the namespace",
            )
        return None
    if lacking := [name for bit, name in _NEEDED if not _capabilities() >> bit & 1]:
        raise RuntimeUnavailable(
            "The embedded servers run as an ordinary user, and this root cannot become one.",
            where=f"process {os.getpid()}",
            cause=f"it lacks {', '.join(lacking)}",
            hint="run this as an ordinary user, or in a container with Docker's default capabilities",
        )
    number = _unused(taken)
    has_user = any(first <= number < first + count for first, _, count in _ranges())
    return Account(number if has_user else _nobody(), gid=number, named=_nobody())


def lonely_user() -> int | None:
    """The number that servers take in a user namespace that has root alone; None everywhere else.

    `unshare --map-root-user` makes one, and so do containers of an ordinary user without subordinate ids.
    """
    if os.geteuid() != 0:
        return None
    user = _nobody()
    return None if any(first <= user < first + count for first, _, count in _ranges()) else user


def python_is_readable(account: Account | None) -> bool:
    """Whether the servers' user can start this process's interpreter and import what it imports, by file modes."""
    places = (sys.executable, sys.prefix, sys.base_prefix, sysconfig.get_path("purelib"), __file__)
    if account is None:
        # This asks as an ordinary user too where one has capabilities.
        return os.geteuid() == 0 or all(os.access(place, os.R_OK) for place in places)
    return all(account.can_read(Path(place)) for place in places)


def _unused(taken: Container[int]) -> int:
    """A number that no user, group, process or other environment has."""
    numbers = list(_NUMBERS)
    secrets.SystemRandom().shuffle(numbers)
    for number in numbers:
        if number not in taken and not _is_known(number) and not _has_processes(number):
            return number
    return numbers[0]


def _is_known(number: int) -> bool:
    for known in (pwd.getpwuid, grp.getgrgid):
        with suppress(KeyError):
            known(number)
            return True
    return False


def _has_processes(user: int) -> bool:
    try:
        os.getpriority(os.PRIO_USER, user)
    except ProcessLookupError:
        return False
    return True


def _ranges() -> list[tuple[int, ...]]:
    """The users that there are: the first of a range, which one it is outside of this namespace, and how many."""
    try:
        return [tuple(map(int, line.split())) for line in _UID_MAP.read_text("ascii").splitlines()]
    except OSError:  # macOS
        return [(0, 0, 1 << 32)]


def _nobody() -> int:
    try:
        return pwd.getpwnam(_NOBODY).pw_uid
    except KeyError:
        return 65534


def _capabilities() -> int:
    """Those in effect, as bits; all of them where the system has none, as macOS."""
    try:
        words = _STATUS.read_text("ascii", "replace").split()
    except OSError:
        return -1
    return int(words[words.index("CapEff:") + 1], 16)
