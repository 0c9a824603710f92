"""Which rights a server keeps: those of an ordinary user, and of files only what it needs.

The guard of the embedded runtime calls this between fork and exec, so it needs the standard library alone, and one
thread. The servers call it when they are loaded.
"""

import ctypes
import errno
import importlib
import os
import sys
from collections.abc import Iterable
from contextlib import suppress

_LINUX = sys.platform.startswith("linux")
_PR_SET_PDEATHSIG = 1
_PR_SET_KEEPCAPS = 8
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAP_VERSION_3 = 0x20080522
_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH, _CAP_KILL, _CAP_SETGID, _CAP_SETUID, _CAP_SETPCAP = 1, 2, 5, 6, 7, 8
_CAP_SETFCAP = 31
_CLONE_NEWUSER = 0x10000000
_SYS_LANDLOCK_CREATE_RULESET = 444
_SYS_LANDLOCK_ADD_RULE = 445
_SYS_LANDLOCK_RESTRICT_SELF = 446
_LANDLOCK_CREATE_RULESET_VERSION = 1
_LANDLOCK_RULE_PATH_BENEATH = 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = (1 << bit for bit in range(4))
_REFER, _TRUNCATE = 1 << 13, 1 << 14
_ALL_FILE_RIGHTS = {2: (1 << 14) - 1, 3: (1 << 15) - 1}  # by version; from 3 on truncation is a right too
_PACKAGES = ("collections", "concurrent", "email", "encodings", "html", "http", "json", "logging", "urllib", "xml")
_MODULES = (
    "_strptime",
    "bz2",
    "gzip",
    "lzma",
    "stringprep",
    "tempfile",
    "traceback",
    "unicodedata",
    "uuid",
    "zoneinfo",
)
"""Of the standard library, what others import where they first need it."""
_FOR_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
"""From linux/prctl.h, linux/capability.h and linux/landlock.h; they are part of the kernel's stable interface."""


class _PathRule(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32))


def become_ordinary(account: tuple[int, int] | None, *, read_all: bool, program: str = "") -> None:
    """Become an ordinary user for good, without any capability, and without a way to get one back.

    Args:
        account: the user and the group to become; None where this process is an ordinary user already.
        program: what is run next. Some packages give their program capabilities of its own. The kernel then refuses to
            run it where one of these is not in the bounding set, even as it grants none of them.
        read_all: keep one capability over exec, that of reading what file modes forbid. Where root's interpreter lives
            below a home folder of mode 0700, no other user can so much as start it, or import from it. The program
            has to call `give_up_capabilities` once it is loaded, before it answers. A container may not have
            CAP_DAC_READ_SEARCH (Docker's default set does not); CAP_DAC_OVERRIDE, which it has, includes it.
    """
    kept = _reading_capability() if read_all and _LINUX else 0
    if _LINUX:
        # In this order: what is not in the bounding set cannot be made inheritable.
        _set_capabilities(_permitted(), inheritable=kept)
        _empty_bounding_set(but=_capabilities_of(program) if program else 0)
    if account is not None:
        if kept:
            _prctl(_PR_SET_KEEPCAPS, 1)
        os.setgroups([])
        os.setgid(account[1])
        os.setuid(account[0])
    if not _LINUX:
        return
    _set_capabilities(kept, inheritable=kept)
    if kept:
        _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, kept.bit_length() - 1)
    # No program with the set-user-id bit, such as sudo, or with capabilities of its own gives anything back.
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def become_ordinary_alone(user: int, *, program: str = "") -> None:
    """As `become_ordinary` where this process is root of a user namespace that has no other user.

    Outside it is an ordinary user already, and stays that one; in a namespace of its own it has another number.
    Some servers refuse to be number 0.
    """
    outside = (os.geteuid(), os.getegid())
    _check(ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWUSER), "unshare")
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{user} {outside[0]} 1"),
        ("gid_map", f"{user} {outside[1]} 1"),
    ):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)
    # A new namespace begins with all of its capabilities.
    become_ordinary(None, read_all=False, program=program)


def keep_what_a_guard_needs() -> None:
    """Give up every capability but those to start servers as another user, to end them, and to remove their files."""
    needed = (_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH, _CAP_KILL, _CAP_SETGID, _CAP_SETUID, _CAP_SETPCAP)
    if _LINUX:
        # Its bounding set stays: what starts with `read_all` makes one of these inheritable.
        mask = sum(1 << capability for capability in needed)
        with open("/proc/self/uid_map", encoding="ascii") as file:
            if file.read().split() != ["0", "0", str(2**32 - 1)]:
                # In a user namespace: one below it takes this, see `become_ordinary_alone`.
                mask |= 1 << _CAP_SETFCAP
        permitted, inheritable = _sets()
        _set_capabilities(permitted & mask, inheritable=inheritable & mask)


def give_up_capabilities(*packages: str) -> None:
    """Drop what `become_ordinary` kept with `read_all`. Does nothing in a process that has no capabilities.

    Args:
        packages: those of which all modules are imported before. What a later request would import is out of reach.
    """
    if not _LINUX or not _permitted():
        return
    import pkgutil  # not on top: the guard, which imports this module too, has no use for it

    for package in (importlib.import_module(name) for name in (*_PACKAGES, *packages)):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.", onerror=lambda _: None):
            # Some are for other systems, or for what is not installed, and some are programs.
            with suppress(ImportError):
                if not module.name.endswith("__main__"):
                    importlib.import_module(module.name)
    for name in _MODULES:
        importlib.import_module(name)
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    _set_capabilities(0)


def confine(readable: Iterable[str], writable: Iterable[str]) -> bool:
    """Let this process, and all that it starts, open no files but those at and below these paths.

    It takes Landlock (https://docs.kernel.org/userspace-api/landlock.html) in its second version, Linux 5.19; with the
    first no file can move to another folder.

    Returns:
        Whether this kernel can do it.
    """
    version = _landlock_version()
    if version < min(_ALL_FILE_RIGHTS):
        return False
    everything = _ALL_FILE_RIGHTS[min(version, max(_ALL_FILE_RIGHTS))]
    reading = _EXECUTE | _READ_FILE | _READ_DIR
    _restrict(everything, [*((path, reading) for path in readable), *((path, everything) for path in writable)])
    return True


def forbid_programs() -> bool:
    """Let this thread, and all that it starts, execute no program; takes what `confine` does.

    Returns:
        Whether this kernel can do it.
    """
    if _landlock_version() < min(_ALL_FILE_RIGHTS):
        return False
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    # Files could not move to other folders if that were not allowed here too.
    _restrict(_EXECUTE | _REFER, [("/", _REFER)])
    return True


def end_with_parent(number: int) -> None:
    """Have the kernel send this signal when the parent ends (Linux). Changing the user undoes it."""
    if _LINUX:
        _prctl(_PR_SET_PDEATHSIG, number)


def adopt_orphans() -> None:
    """Become the parent of what this process's children leave behind (Linux)."""
    if _LINUX:
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _landlock_version() -> int:
    """The version of Landlock that this kernel has; 0 where it has none."""
    if not _LINUX:
        return 0
    create = ctypes.CDLL(None, use_errno=True).syscall
    version = create(_SYS_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), _LANDLOCK_CREATE_RULESET_VERSION)
    return max(0, int(version))


def _restrict(handled: int, allowed: Iterable[tuple[str, int]]) -> None:
    """Take these rights away, but for what is allowed below some paths."""
    libc = ctypes.CDLL(None, use_errno=True)
    rights = ctypes.c_uint64(handled)
    rules = libc.syscall(_SYS_LANDLOCK_CREATE_RULESET, ctypes.byref(rights), ctypes.c_size_t(8), 0)
    _check(rules, "landlock_create_ruleset")
    for path, wanted in allowed:
        with suppress(FileNotFoundError, NotADirectoryError):
            _allow(libc, rules, path, wanted & handled)
    _check(libc.syscall(_SYS_LANDLOCK_RESTRICT_SELF, rules, 0), "landlock_restrict_self")
    os.close(rules)


def _allow(libc: ctypes.CDLL, rules: int, path: str, rights: int) -> None:
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)  # type: ignore[attr-defined,unused-ignore]
    try:
        if not os.path.isdir(path):
            rights &= _FOR_FILES
        rule = _PathRule(rights, place)
        _check(
            libc.syscall(_SYS_LANDLOCK_ADD_RULE, rules, _LANDLOCK_RULE_PATH_BENEATH, ctypes.byref(rule), 0),
            f"landlock_add_rule {path}",
        )
    finally:
        os.close(place)


def _empty_bounding_set(but: int) -> None:
    """Where this process may: an ordinary user may not, and gets nothing out of what is left there."""
    for capability in range(64):
        if but >> capability & 1:
            continue
        try:
            _prctl(_PR_CAPBSET_DROP, capability)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.EPERM):  # after the last one, or not allowed
                return
            raise


def _capabilities_of(program: str) -> int:
    """Those that a program's file has, as bits: `struct vfs_cap_data` of linux/capability.h."""
    try:
        numbers = os.getxattr(program, "security.capability")
    except OSError:  # it has none, or this file system knows of none
        return 0
    words = [int.from_bytes(numbers[at : at + 4], "little") for at in range(4, len(numbers), 8)]
    return sum(word << 32 * place for place, word in enumerate(words[:2]))


def _reading_capability() -> int:
    """The capability, as a bit, that lets this process read everything."""
    permitted = _permitted()
    for capability in (_CAP_DAC_READ_SEARCH, _CAP_DAC_OVERRIDE):
        if permitted & 1 << capability:
            return 1 << capability
    raise PermissionError("this user may not read what the servers need: no CAP_DAC_READ_SEARCH, no CAP_DAC_OVERRIDE")


def _permitted() -> int:
    """The capabilities 0 to 31 that this process may use."""
    return _sets()[0]


def _sets() -> tuple[int, int]:
    """The permitted and the inheritable capabilities from 0 to 31."""
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable of capabilities 0 to 31, then of 32 to 63
    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.capget((ctypes.c_uint32 * 2)(_CAP_VERSION_3, 0), sets), "capget")
    return int(sets[1]), int(sets[2])


def _set_capabilities(only: int, *, inheritable: int = 0) -> None:
    """Leave these, and none above 31, in the sets. What is not inheritable is not ambient either."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_CAP_VERSION_3, 0)
    _check(libc.capset(header, (ctypes.c_uint32 * 6)(only, only, inheritable, 0, 0, 0)), "capset")


def _prctl(*arguments: int) -> None:
    padded = [ctypes.c_ulong(argument) for argument in (*arguments, 0, 0, 0, 0)[:5]]
    _check(ctypes.CDLL(None, use_errno=True).prctl(*padded), "prctl")


def _check(result: int, call: str) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{call}: {os.strerror(ctypes.get_errno())}")
