"""The last hour of a service's numbers, in a private file of fixed size, so that they outlive who has written them.

A slot is found by its time, so a file needs no cursor and is right after any end of its writer, which holds its lock.
"""

import json
import math
import os
import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

from triton_env.core.private import open_file
from triton_env.errors import InvalidSetting
from triton_env.settings import Settings
from triton_env.state import locks
from triton_env.state.folders import make_private, private_folder

HOUR: Final = 3600
_SPAN = 4
"""Seconds of a slot. A later sample within them replaces an earlier one."""
_SLOTS = HOUR // _SPAN
_HEADER = 2048
_SUFFIX = ".samples"
FOLDER: Final = "dashboard"


class Samples:
    """The samples of one service. Another process that has the file open as well writes it, or this one does.

    Args:
        settings: where state is kept.
        environment: its id.
        service: its name.
        names: of the numbers.

    Raises:
        InvalidSetting: the state folder cannot be used.
    """

    def __init__(self, settings: Settings, environment: str, service: str, names: Sequence[str]) -> None:
        folder = private_folder(settings, FOLDER)
        make_private(folder)
        self._path = folder / f"{_quoted(environment)}.{_quoted(service)}{_SUFFIX}"
        self._names = tuple(names)
        self._slot = struct.Struct(f"<{1 + len(self._names)}d")
        self._header = json.dumps({"version": 1, "names": self._names}).encode().ljust(_HEADER)
        self._held: locks.Held | None = None

    def add(self, at: float, values: Mapping[str, float]) -> None:
        """Keep a sample, unless another process writes this file.

        Args:
            at: seconds since the epoch.
            values: by name; the rest is not known.
        """
        if not self._is_ours():
            return
        assert self._held is not None
        slot = self._slot.pack(at, *(values.get(name, math.nan) for name in self._names))
        os.pwrite(self._held.descriptor, slot, _HEADER + int(at // _SPAN) % _SLOTS * self._slot.size)

    def since(self, begin: float, now: float) -> list[tuple[float, dict[str, float]]]:
        """The samples of a time, which ends now, the oldest first."""
        try:
            descriptor = open_file(self._path, os.O_RDONLY)
        except (OSError, InvalidSetting):
            return []
        with os.fdopen(descriptor, "rb") as file:
            content = file.read(_HEADER + _SLOTS * self._slot.size)
        if content[:_HEADER] != self._header:
            return []
        slots = content[_HEADER : len(content) - (len(content) - _HEADER) % self._slot.size]
        begin = max(begin, now - HOUR)
        return sorted(
            (at, {name: value for name, value in zip(self._names, values, strict=True) if not math.isnan(value)})
            for at, *values in self._slot.iter_unpack(slots)
            if begin <= at <= now + _SPAN
        )

    def close(self, *, remove: bool = False) -> None:
        """Let others write the file, or remove it. May be called again."""
        if self._held is not None:
            self._held.release(remove=remove)
            self._held = None

    def _is_ours(self) -> bool:
        if self._held is not None:
            return True
        try:
            held = locks.hold(self._path, timeout=0)
        except BlockingIOError:
            return False
        if os.pread(held.descriptor, _HEADER, 0) != self._header:
            os.ftruncate(held.descriptor, 0)
            os.pwrite(held.descriptor, self._header, 0)
        os.ftruncate(held.descriptor, _HEADER + _SLOTS * self._slot.size)
        self._held = held
        return True


def _quoted(name: str) -> str:
    return quote(name, safe="").replace(".", "%2E")


def left(settings: Settings, living: Collection[str]) -> Iterator[tuple[str, Path]]:
    """The files of environments that have ended, which no process has open, with the ids of these.

    Args:
        settings: where state is kept.
        living: the ids of those that run.
    """
    for path in sorted(private_folder(settings, FOLDER).glob(f"*{_SUFFIX}")):
        environment = unquote(path.name.partition(".")[0])
        if environment not in living and not locks.is_held(path):
            yield environment, path


def remove(path: Path) -> str:
    """Remove a file of `left`, unless a process has opened it since; returns why that failed."""
    if held := locks.abandoned(path):
        with suppress(OSError):
            held.release(remove=True)
    return f"{path} is still there" if path.exists() else ""
