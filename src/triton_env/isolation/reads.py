"""What a template's function read while it ran, so that a change of that builds the template anew.

Files and folders that this process opens are seen by an audit hook, modules that were imported before by the imports in
the sources. What another program reads cannot be seen: where one was started, the files below its working folder count.
https://docs.python.org/3/library/audit_events.html
"""

import hashlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

import psutil

from triton_env.core.files import is_hidden, stamped
from triton_env.isolation import sources

Kind = Literal["file", "folder", "tree"]
Stamp = tuple[int, ...] | None
"""What the system says of a file: as long as it is the same, so is the content. None: it says nothing reliable."""

_TREE_LIMIT = 5_000
"""Files below a program's working folder; of more it is not known whether they are the same."""
_RACY = 100_000_000
"""Nanoseconds within which a file can change twice and keep its times."""
_SLACK = 2.0
"""Seconds by which the start of a process is known."""
_ABSENT, _TOO_MANY, _UNKNOWN = "absent", "too many", ""


@dataclass(frozen=True, slots=True)
class Read:
    """One thing that was read.

    Attributes:
        kind: a file; the names in a folder; or all files that count below a folder.
        path: of it; relative to the root of the project where it is below that.
        stamp: what the system said of it.
        content: a hash; "absent"; "too many" files to look at; or empty where it changed while it was read.
    """

    kind: Kind
    path: str
    stamp: Stamp
    content: str

    def renewed(self, root: Path) -> "Read | None":
        """It with what the system says of it today; None where it is no longer what it was."""
        path = os.path.join(root, self.path)  # quicker than by pathlib, and done for each namespace
        stamp = _stamp(self.kind, path)
        if stamp is not None and stamp == self.stamp:
            return self
        if self.content == _TOO_MANY:
            return self  # of this process; others do not get to see it
        if self.content == _UNKNOWN or _content(self.kind, path) != self.content:
            return None
        return replace(self, stamp=_trusted(stamp))


@dataclass(frozen=True, slots=True)
class Reads:
    """All that one build read.

    Attributes:
        reads: each of it.
        is_certain: whether other processes may rely on it. Not where a module may be older in memory than its file.
    """

    reads: tuple[Read, ...] = ()
    is_certain: bool = True

    def renewed(self, root: Path) -> "Reads | None":
        """It with what the system says today, so that looking again is cheap; None where something has changed."""
        found = []
        for read in self.reads:
            if (now := read.renewed(root)) is None:
                return None
            found.append(now)
        return Reads(tuple(found), self.is_certain)


@dataclass(slots=True, eq=False)
class Recording:
    """What has been read so far, by absolute paths.

    Attributes:
        files: that were opened, with what the system said of them then.
        folders: that were listed.
        written: files that were opened to be written: products, not what the build depends on.
        updated: files that were opened to be read and written; where they have not changed, they were read.
        imported: files that were opened since a module was imported.
        working: the working folders of programs that were started.
    """

    files: dict[str, Stamp] = field(default_factory=dict)
    folders: dict[str, Stamp] = field(default_factory=dict)
    written: set[str] = field(default_factory=set)
    updated: set[str] = field(default_factory=set)
    imported: set[str] = field(default_factory=set)
    working: set[str] = field(default_factory=set)

    def finished(self, scope: sources.Scope, source: Path | None, *, programs: bool) -> Reads:
        """What counts of it.

        Args:
            source: the file that the function is in.
            programs: whether the working folders of programs count.
        """
        # Copies: a thread of the build may still be reading.
        written, opened, listed = set(self.written), dict(self.files), dict(self.folders)
        written |= {path for path in set(self.updated) if _stamp("file", path) != opened[path]}
        files = {path: stamp for path, stamp in opened.items() if path not in written and scope.counts(path)}
        # That a file is absent counts in the project alone: elsewhere libraries look for many.
        files = {path: stamp for path, stamp in files.items() if os.path.isfile(path) or scope.is_inside(path)}
        folders = {path: stamp for path, stamp in listed.items() if scope.counts(path) and os.path.isdir(path)}
        modules = sources.imported([*files, *([str(source)] if source else [])], folders, scope)
        for path in modules:
            files.setdefault(path, _stamp("file", path))
        found: list[tuple[Kind, str, Stamp]] = [("file", path, stamp) for path, stamp in files.items()]
        found += [("folder", path, stamp) for path, stamp in folders.items()]
        if programs:
            found += [("tree", path, None) for path in scope.outermost(tuple(self.working))]
        reads = tuple(_read(kind, path, stamp, scope.root) for kind, path, stamp in sorted(found, key=_place))
        certain = not any(_may_be_newer(path) for path in modules - self.imported)
        return Reads(reads, certain and all(read.content not in (_UNKNOWN, _TOO_MANY) for read in reads))


_active: list[Recording] = []
_hooked = threading.Lock()


@contextmanager
def recorded() -> Iterator[Recording]:
    """Note what this process reads in the block, in all its threads."""
    recording = Recording()
    # A hook stays for the life of the process, so there is one for all.
    if _hooked.acquire(blocking=False):
        sys.addaudithook(_hook)
    _active.append(recording)
    try:
        yield recording
    finally:
        _active.remove(recording)


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _active or event not in _NOTES:
        return
    try:
        for recording in tuple(_active):
            _NOTES[event](recording, *arguments)
    except Exception:
        # What is raised here would fail the user's call instead.
        return


def _note_open(recording: Recording, path: Any, _: Any = None, flags: int = 0, *__: Any) -> None:
    if (name := _name(path)) is None:
        return
    if flags & (os.O_WRONLY | os.O_RDWR):
        if flags & (os.O_WRONLY | os.O_TRUNC) or name in recording.written:
            recording.written.add(name)
            return
        recording.updated.add(name)
    name = sources.of_cached(name)
    if name not in recording.files:
        recording.files[name] = _stamp("file", name)
    if sources.is_import(_caller()):
        recording.imported.add(name)


def _note_database(recording: Recording, database: Any, *_: Any) -> None:
    # https://www.sqlite.org/uri.html
    if isinstance(database, str) and database.startswith("file:"):
        database = unquote(urlsplit(database).path)
    _note_open(recording, database)


def _note_list(recording: Recording, path: Any = None, *_: Any) -> None:
    name = _name("." if path is None else path)
    # The import system looks into each folder in which modules may be.
    if name and name not in recording.folders and not sources.is_import(_caller()):
        recording.folders[name] = _stamp("folder", name)


def _note_program(recording: Recording, _: Any = None, arguments: Any = None, cwd: Any = None, *__: Any) -> None:
    if sources.is_own_program(_caller()) or (folder := _name(cwd or ".")) is None:
        return
    recording.working.add(folder)
    for word in sources.words(arguments):
        if os.path.isfile(path := os.path.join(folder, word)):
            _note_open(recording, path)


def _note_command(recording: Recording, command: Any = None, *_: Any) -> None:
    _note_program(recording, None, command)


def _note_spawn(recording: Recording, path: Any = None, arguments: Any = None, *_: Any) -> None:
    _note_program(recording, path, arguments)


_NOTES: dict[str, Callable[..., None]] = {
    "open": _note_open,
    "os.listdir": _note_list,
    "os.scandir": _note_list,
    "sqlite3.connect": _note_database,
    "subprocess.Popen": _note_program,
    "os.system": _note_command,
    "os.fork": _note_command,
    "os.posix_spawn": _note_spawn,
}


def _caller() -> FrameType | None:
    """Whose call was audited."""
    frame: FrameType | None = sys._getframe(1)
    while frame and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    return frame


def _name(path: Any) -> str | None:
    """The absolute path; None for a descriptor."""
    return os.path.abspath(os.fsdecode(path)) if isinstance(path, (str, bytes, os.PathLike)) else None


def _read(kind: Kind, path: str, seen: Stamp, root: Path) -> Read:
    now = _stamp(kind, path)
    # It has changed since it was opened: which of the two was read is not known.
    changed = kind == "file" and seen != now and seen is not None
    content = _UNKNOWN if changed else _content(kind, path)
    shown = os.path.relpath(path, root) if Path(path).is_relative_to(root) else path
    return Read(kind, shown, None if content == _UNKNOWN else _trusted(now), content)


def _stamp(kind: Kind, path: str) -> Stamp:
    try:
        if kind != "tree":
            return stamped(os.stat(path))
        return tuple(number for each in sources.tree(Path(path), _TREE_LIMIT) for number in stamped(each.stat()))
    except (OSError, sources.TooMany):
        return None


def _content(kind: Kind, path: str) -> str:
    hashed = hashlib.sha256()
    try:
        if kind == "file":
            hashed.update(Path(path).read_bytes())
        elif kind == "folder":
            hashed.update(b"\0".join(sorted(os.fsencode(name) for name in os.listdir(path) if not is_hidden(name))))
        else:
            for each in sources.tree(Path(path), _TREE_LIMIT):
                hashed.update(os.fsencode(each.relative_to(path)) + b"\0")
                hashed.update(hashlib.sha256(each.read_bytes()).digest())
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return _ABSENT
    except sources.TooMany:
        return _TOO_MANY
    except OSError:
        return _UNKNOWN
    return hashed.hexdigest()


def _trusted(stamp: Stamp) -> Stamp:
    """None where the content may change once more without a change of the stamp."""
    times = [number for n, number in enumerate(stamp or ()) if n % 4 >= 2]
    return None if times and time.time_ns() - max(times) < _RACY else stamp


def _may_be_newer(path: str) -> bool:
    """Whether a module's file may have changed since this process imported it."""
    try:
        return os.stat(path).st_mtime > _started() + _SLACK
    except OSError:
        return False


@cache
def _started() -> float:
    return psutil.Process().create_time()


def _place(found: tuple[Kind, str, Stamp]) -> tuple[str, str]:
    return found[0], found[1]


@dataclass(frozen=True, slots=True)
class Variant:
    """One of the templates that differ in nothing but what their builds have read.

    Attributes:
        digest: its own, under which it is finished.
        token: with which it was asked for.
        reads: what its build read.
        beside: what it made on the servers beside its space, by service.
    """

    digest: str
    token: str
    reads: Reads
    beside: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Variants:
    """All of one key.

    Attributes:
        count: how many were ever built, so that no name comes again for other content.
        known: those that are to be used by all processes, the newest first.
    """

    count: int = 0
    known: tuple[Variant, ...] = ()
