"""The data directory of a server: initialised, or copied from what an earlier start has kept."""

import logging
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from secrets import token_hex
from typing import Any

from triton_env.core.ending import exit_words
from triton_env.core.model import DataDirectoryTemplate
from triton_env.core.private import write_new
from triton_env.core.timeline import Phase
from triton_env.errors import ResourceExhausted, ServiceExited
from triton_env.runtimes import failures
from triton_env.runtimes.base import Report
from triton_env.runtimes.embedded import packages
from triton_env.runtimes.embedded.account import Account, has_a_name
from triton_env.runtimes.embedded.data_directory_cache import DataDirectoryCache
from triton_env.runtimes.embedded.directory import OwnedFolder
from triton_env.runtimes.embedded.server import Server, log_tail
from triton_env.runtimes.embedded.spawner import CannotRun, Guard, Program

_log = logging.getLogger(__name__)


class DataDirectory:
    """The data directory of one server.

    Args:
        server: the server, whose directory is empty.
        storage: where another one is made.
        inputs: a folder for what programs read.
        cache: keeps initialised directories.
        guard: runs programs.
        program: makes the program of a server from a command line, and files for its input and output.
        account: the servers' user; None where that is this process's.
        cancelled: ends the wait for another process that makes the same directory.
    """

    def __init__(
        self,
        server: Server,
        *,
        storage: OwnedFolder,
        inputs: Path,
        cache: DataDirectoryCache,
        guard: Guard,
        program: Callable[..., Program],
        account: Account | None,
        cancelled: threading.Event,
    ) -> None:
        self._server = server
        self._storage = storage
        self._inputs = inputs
        self._cache = cache
        self._guard = guard
        self._program = program
        self._account = account
        self._cancelled = cancelled
        self._is_begun = False
        self._is_initialised = False
        self.template: Path | None = None
        """The template that it is a copy of, or that was made of it; None where there is none."""

    def fill(self, report: Report, *, use_cache: bool = True) -> bool:
        """Fill the directory.

        Args:
            use_cache: whether it may be a copy, or be kept for others.

        Returns:
            Whether it is a copy of a template; not where it was initialised, or needs to hold nothing.
        """
        self.template = None
        template = self._server.recipe.process.template
        if template is None:
            return False
        self._is_begun = self._is_initialised = False
        cached = self._cache.find(self._server.recipe.name, template)

        def make(path: Path) -> None:
            self._initialise(template, report)
            self._run_to_end((_tar(), "-cf", "-", "-C", str(self._server.data), "."), output=path)

        try:
            while use_cache and self._cache.get(cached, make, self._cancelled, self._server.recipe.timeout):
                if self._unpacked(cached):
                    self.template = cached
                    return True
                use_cache = self._cache.discard(cached, "it is damaged")
        except (OSError, CannotRun, ServiceExited, ResourceExhausted) as error:
            if self._is_begun and not self._is_initialised:
                raise
            _log.debug("the template cache in %s cannot be used: %s", self._cache.folder, error)
        if not self._is_initialised:
            self._initialise(template, report)
        elif use_cache and cached.exists():
            self.template = cached
        return False

    def empty(self) -> None:
        """Give the server another directory."""
        # What a process of the first one still writes goes with the environment; of persistent data, at the next try.
        shutil.rmtree(self._server.data, ignore_errors=True)
        self._server.data = self._storage.servers_folder(f"{self._server.data.name}-{token_hex(2)}")

    def _initialise(self, template: DataDirectoryTemplate, report: Report) -> None:
        self._is_begun = True
        report(Phase.CREATE, "initialising its data directory")
        self._storage.give(self._server.data, named=True)
        for number, command in enumerate(template.commands):
            text = write_new(self._inputs / f"{self._server.data.name}-{number}", command.input)
            try:
                self._run_to_end(command.argv, input=text, by_named=True)
            finally:
                text.unlink(missing_ok=True)
        self._storage.give(self._server.data)
        self._is_initialised = True

    def _unpacked(self, cached: Path) -> bool:
        """Unpack a template; False where it is damaged. The directory is empty then.

        Raises:
            ServiceExited, ResourceExhausted: there may be no room for it.
        """
        argv = (_tar(), "-xf", "-", "-C", str(self._server.data))
        unpacking = self._guard.start(self._program(self._server, argv, input=cached))
        # Beside the rest, so that it takes no time of its own where there is another processor.
        is_intact = self._cache.is_intact(cached)
        status = self._guard.wait(unpacking)
        if is_intact and status == 0:
            return True
        self.empty()
        if is_intact:
            raise self._failed(argv, status)
        return False

    def _run_to_end(self, argv: tuple[str, ...], **options: Any) -> None:
        resolved = self._server.resolved(argv)
        status = self._guard.wait(self._guard.start(self._program(self._server, resolved, **options)))
        if status != 0:
            raise self._failed(resolved, status)

    def _failed(self, argv: tuple[str, ...], status: int) -> ServiceExited | ResourceExhausted:
        data = self._server.data
        return failures.service_exited(
            self._server.recipe,
            where=f"{Path(argv[0]).name}, which makes {data}",
            cause=exit_words(status),
            log=log_tail(self._server.log, failures.LOG_LINES),
            hint=f"df -h {data} {self._cache.folder} shows whether there is room; or"
            f" {packages.instead_of(self._server.recipe)}"
            if has_a_name(self._account)
            else 'give this user a name: echo "me:x:$(id -u):0::/:" >> /etc/passwd (as root)',
            place=str(data),
        )


def _tar() -> str:
    return shutil.which("tar") or "/bin/tar"
