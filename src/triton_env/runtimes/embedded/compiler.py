"""Compiles modules in the background: `python -I -S compiler.py FOLDER`, with the modules' files on standard input.

FOLDER appears under its name when it is complete. It is laid out as PYTHONPYCACHEPREFIX expects it.
"""

import contextlib
import fcntl
import importlib.util
import os
import py_compile
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor

_SYNCING = 16
"""How many files are waited for at once."""
_UNUSED_FOR = 30 * 24 * 3600
"""Seconds after which a folder that nothing used is removed."""


def main() -> None:
    """Compile, unless another process does that."""
    folder, sources = sys.argv[1], sys.stdin.read().splitlines()
    os.nice(19)
    # Servers of another user read them.
    os.umask(0o022)
    with open(f"{folder}.lock", "w", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        if os.path.isdir(folder):
            return
        unfinished = f"{folder}.new"
        # Of a process that was ended.
        shutil.rmtree(unfinished, ignore_errors=True)
        os.mkdir(unfinished)
        for source in sources:
            # Without a prefix it is beside the source; below one it is in a folder of the same path.
            head, _, name = importlib.util.cache_from_source(source).rpartition("/__pycache__/")
            with contextlib.suppress(py_compile.PyCompileError, OSError):
                py_compile.compile(source, f"{unfinished}{head}/{name}", doraise=True)
        paths = [os.path.join(parent, name) for parent, _, names in os.walk(unfinished) for name in (*names, "")]
        # Together, since a file system writes what several wait for at once.
        with ThreadPoolExecutor(_SYNCING) as threads:
            list(threads.map(_sync, paths))
        os.rename(unfinished, folder)
        _sync(os.path.dirname(folder))
        _remove_unused(os.path.dirname(folder))


def _sync(path: str) -> None:
    """See that the disk has a file, or the names in a folder: after a power failure Python would refuse half of one."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_unused(base: str) -> None:
    oldest = time.time() - _UNUSED_FOR
    for entry in os.scandir(base):
        with contextlib.suppress(OSError):
            if entry.name.endswith(".old"):
                # Set aside by a process that was killed.
                shutil.rmtree(entry.path)
            elif entry.is_dir(follow_symlinks=False) and entry.stat().st_mtime < oldest:
                shutil.rmtree(entry.path)
                os.unlink(f"{entry.path}.lock")


if __name__ == "__main__":
    main()
