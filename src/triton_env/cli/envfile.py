"""The file of `serve --env-file`: the variables of a running environment, for as long as it runs."""

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from triton_env.cli.variables import as_text
from triton_env.core.private import replace
from triton_env.errors import UsageError

_MARK = "# Written by `triton-env serve`, which removes it when it ends. Environment: "


class EnvFile:
    """A dotenv file that is ours: it is marked, has mode 0600 from its creation, and never replaces another file.

    Args:
        alive: ids of the environments that run now; their files are not replaced.

    Raises:
        UsageError: the file cannot be there.
    """

    def __init__(self, path: Path, alive: frozenset[str]) -> None:
        self._path = path
        if not path.parent.is_dir():
            raise self._refused(f"the folder {path.parent} does not exist")
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise self._refused(f"the folder {path.parent} cannot be written to")
        if not os.path.lexists(path):
            return
        if not stat.S_ISREG(path.lstat().st_mode):
            raise self._refused("it exists and is not an ordinary file")
        owner = self._owner()
        if not owner:
            raise self._refused("it exists and was not written by triton-env")
        if owner in alive:
            raise self._refused(f"it belongs to the environment {owner}, which is running")

    @contextmanager
    def written(self, environment: str, variables: Mapping[str, str]) -> Iterator[None]:
        """Have the file there until the block ends; then remove it, unless it was replaced by another."""
        try:
            # Whole at once: a program may be waiting for the file to appear.
            replace(self._path, f"{_MARK}{environment}\n{as_text(variables, 'dotenv')}")
            yield
        finally:
            if self._owner() == environment:
                self._path.unlink(missing_ok=True)

    def _owner(self) -> str:
        """The id of the environment whose file this is; empty if it is none of ours."""
        try:
            with self._path.open(encoding="utf-8", errors="replace") as file:
                first = file.readline()
        except OSError:
            return ""
        return first.removeprefix(_MARK).strip() if first.startswith(_MARK) else ""

    def _refused(self, why: str) -> UsageError:
        return UsageError(
            f"The variables cannot be written to {self._path}: {why}.",
            where="--env-file",
            hint="name another file, or move that one away",
        )
