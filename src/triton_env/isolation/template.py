"""What namespaces begin with: migrations and seeds, as a function or a folder, and a digest of all that is in them."""

import hashlib
import inspect
import os
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from triton_env.core.files import files_in, project_root, read, shown, stamped
from triton_env.errors import UsageError
from triton_env.isolation.functions import described, function_of, source_of

if TYPE_CHECKING:
    from triton_env.isolation.namespace import Namespace


class Template:
    """What a namespace holds from the beginning. It is built once, and then copied.

    It is built anew where its digest is another: that of the function's code and the file that it is in, or of the
    folder's files; of `inputs` and `version`; of the servers' versions and the roles. And where something has changed
    that the function read: files, folders, and modules of the project, such as migrations.

    Args:
        build: fills the namespace that it is called with, or a folder. That has a folder by the name of each service
            with what the service loads: SQL files, in natural order, or the objects of a bucket. A folder with files
            and none of these is for the first service that takes such files.
        inputs: files and folders that `build` has other programs read; relative to the root of the project, the
            nearest folder with a pyproject.toml, pytest.ini, setup.cfg, tox.ini, setup.py or .git. Without them all
            files count that are below the folders in which it starts programs.
        version: anything else that it depends on.
        rebuild: whether what was built before this object was made is not used.

    Raises:
        UsageError: `build` is neither, or something of it is not there.
    """

    inputs: tuple[Path, ...]
    version: str
    _token: str
    """What it was built with, where what others have built is not to be used; else empty."""

    def __init__(
        self,
        build: "Callable[[Namespace], object] | Path | str",
        *,
        inputs: Sequence[Path | str] = (),
        version: str = "",
        rebuild: bool = False,
    ) -> None:
        if isinstance(build, (str, Path)):
            folder = Path(build).resolve()
            if not folder.is_dir():
                from triton_env.isolation.loading import folders

                raise UsageError(
                    "The template is not a folder.",
                    where=str(build),
                    hint=f"name a folder with {folders()}, or give a function",
                )
            self._build: Callable[[Namespace], object] | Path = folder
        elif callable(build):
            _check(build)
            self._build = build
        else:
            raise UsageError(f"A template is a function or a folder, not {build!r}.")
        if isinstance(inputs, (str, Path)):
            inputs = [inputs]
        self.inputs = tuple((self.root / each).resolve() for each in inputs)
        for path in self.inputs:
            if not path.exists():
                raise UsageError(
                    "An input of the template does not exist.",
                    where=shown(path),
                    hint=f"relative paths begin at the root of the project: {shown(self.root)}",
                )
        self.version = version
        self._token = token_hex(8) if rebuild else ""
        # From before the first build, which may change what the function was made with.
        self._words = () if isinstance(self._build, Path) else tuple(described(build))
        self._known: tuple[object, str] = (None, "")

    @property
    def build(self) -> "Callable[[Namespace], object] | Path":
        """The function, or the folder."""
        return self._build

    @cached_property
    def _source(self) -> Path | None:
        """The file that the function is in, if there is one."""
        return None if isinstance(self._build, Path) else source_of(self._build)

    @cached_property
    def root(self) -> Path:
        """The root of the project that the function or folder belongs to; else the folder of its file."""
        folder = self._source.parent if self._source else Path.cwd()
        start = self._build if isinstance(self._build, Path) else folder
        return project_root(start) or start

    @property
    def title(self) -> str:
        """Its name for people."""
        return str(self._build if isinstance(self._build, Path) else getattr(self._build, "__qualname__", self._build))

    def digest(self) -> str:
        """A hash of everything that the template is made of, as far as this project can know it.

        Files are read again only where their time or size changed.
        """
        roots = (*([self._build] if isinstance(self._build, Path) else []), *self.inputs)
        files = [(root, path) for root in roots for path in files_in(root)]
        stamp = tuple((str(path), *stamped(path.stat())) for _, path in files)
        if self._known[0] != stamp:
            self._known = (stamp, self._digest(files))
        return self._known[1]

    def _digest(self, files: Sequence[tuple[Path, Path]]) -> str:
        hashed = hashlib.sha256()
        for word in (self.version, *self._words):
            _add(hashed, word.encode())
        for root, path in files:
            # Not the whole path: another checkout of the same is the same.
            _add(hashed, os.fsencode(path.relative_to(root)))
            _add(hashed, read(path))
        return hashed.hexdigest()

    def __repr__(self) -> str:
        return f"<Template {self.title}>"


def _check(build: Any) -> None:
    """Refuse what would fill nothing: calling it runs none of its code."""
    function = function_of(build)
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise UsageError(
            "A function that fills a template cannot be asynchronous or a generator.",
            where=getattr(function, "__qualname__", repr(build)),
            hint="run the asynchronous part in it: asyncio.run(migrate(namespace))",
        )


def _add(hashed: "hashlib._Hash", word: bytes) -> None:
    # With its length: otherwise "ab" and "c" would be as "a" and "bc".
    hashed.update(len(word).to_bytes(8, "big") + word)
