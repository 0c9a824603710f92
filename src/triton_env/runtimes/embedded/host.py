"""What the servers of one environment are run with: private directories, a guard, and programs that they can use."""

import os
import shutil
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from triton_env.core.model import ProcessRecipe, ServiceRecipe
from triton_env.core.private import write_new
from triton_env.errors import RuntimeUnavailable
from triton_env.runtimes.embedded import packages
from triton_env.runtimes.embedded.access import TEMPORARY, environment_of_servers
from triton_env.runtimes.embedded.account import Account, python_is_readable
from triton_env.runtimes.embedded.bytecode import Bytecode
from triton_env.runtimes.embedded.data import DataDirectory
from triton_env.runtimes.embedded.data_directory_cache import DataDirectoryCache
from triton_env.runtimes.embedded.directory import OwnedFolder, PrivateDirectory
from triton_env.runtimes.embedded.server import Server
from triton_env.runtimes.embedded.spawner import Guard, Program


class Host:
    """Runs the programs of one environment, which end with this process.

    Attributes:
        guard: starts them.
        inputs: a folder of this process's own for what they read.
        sockets: the servers' folder for Unix sockets.
        bytecode: what they import, compiled.

    Args:
        directories: private ones, of which the first has everything that needs no place of its own. They go when this
            ends, however it ends.
        account: the servers' user; None where that is this process's.
        guards_log: the file in which the guard may complain.

    Raises:
        RuntimeUnavailable: nothing can be run here.
        ResourceExhausted: for want of files, memory, processes or threads.
    """

    def __init__(self, directories: Sequence[PrivateDirectory], account: Account | None, guards_log: Path) -> None:
        self._disk = directories[0]
        self._account = account
        self.inputs = self._disk.own_folder("input")
        self.sockets = self._disk.servers_folder("run")
        self.temporary = self._disk.servers_folder(TEMPORARY)
        self.bytecode = Bytecode(account, self.temporary)
        self.cache = DataDirectoryCache()
        self._python_is_readable = python_is_readable(account)
        self._copying = threading.Lock()
        self._copies: dict[tuple[Path, ...], Path] = {}
        # Last: what is made before it needs no process to be removed.
        self.guard = Guard(directories, account, guards_log)

    def server(self, recipe: ServiceRecipe, data: Path, log: Path, host: str) -> Server:
        """A server, with the files that it reads; it has no process yet.

        Args:
            data: its data directory.
            log: the file that it writes to.
            host: the address on which it listens.
        """
        folder = self._disk.servers_folder(recipe.name, recipe.process.files)
        return Server(recipe, folder, data, self.sockets, log, host, self._reachable_program)

    def given(self, recipe: ServiceRecipe) -> Path | None:
        """A file with what a server reads from standard input; None where it reads nothing."""
        return write_new(self.inputs / recipe.name, recipe.process.input) if recipe.process.input else None

    def forget(self, recipe: ServiceRecipe) -> None:
        """Remove what a server that has ended was given, so that there can be another one of its service."""
        with suppress(FileNotFoundError):
            shutil.rmtree(self._disk.path / recipe.name)
        (self.inputs / recipe.name).unlink(missing_ok=True)

    def data_directory(self, server: Server, storage: OwnedFolder, cancelled: threading.Event) -> DataDirectory:
        """The data directory of a server, to be filled.

        Args:
            storage: where another one is made in its place.
            cancelled: ends the wait for another process that makes the same directory.
        """
        return DataDirectory(
            server,
            storage=storage,
            inputs=self.inputs,
            cache=self.cache,
            guard=self.guard,
            program=self.program,
            account=self._account,
            cancelled=cancelled,
        )

    def command(self, server: Server, given: Path | None) -> Program:
        """The program of a server whose ports are known.

        Args:
            given: see the method of that name.
        """
        process = server.recipe.process
        return self.program(
            server,
            server.resolved(process.argv),
            variables=server.environment,
            input=given,
            stop_signal=process.stop_signal,
            stop_timeout=process.stop_timeout,
        )

    def program(
        self, server: Server, resolved: tuple[str, ...], *, variables: Mapping[str, str] | None = None, **options: Any
    ) -> Program:
        """A program of a server, with its environment, to which `variables` are added, and its rights."""
        process = server.recipe.process
        self._check_reach(process, Path(resolved[0]))
        compiled = self.bytecode.prefix(server.recipe)
        of_python = {"PYTHONPYCACHEPREFIX": str(compiled)} if compiled else {}
        return Program(
            argv=resolved,
            environment=environment_of_servers(self.temporary) | of_python | dict(variables or {}),
            log=server.log,
            folder=self.temporary,
            read_all=self._has_to_read_all(resolved),
            readable=(*server.readable, *of_python.values()) if process.is_confined else (),
            writable=(str(server.data), str(self.temporary), os.devnull),
            **options,
        )

    def end(self) -> None:
        """End all programs. The guard removes the directories. May be called again."""
        self.guard.end()
        self.bytecode.end()

    def _reachable_program(self, name: str) -> Path:
        """The file of a program, or of a copy of it where the servers' user cannot reach what is installed."""
        path = packages.program(name)
        is_readable = self._account is None or self._account.can_read(path)
        # Folders go into lists of folders, in which a colon separates them.
        if is_readable and not (path.is_dir() and os.pathsep in str(path)):
            return path
        folders = packages.own_folders(path, name)
        with self._copying:
            copy = self._copies.get(folders)
            if copy is None:
                copy = self._copies[folders] = self._disk.shared_copy(f"programs-{folders[0].name}", folders)
        return copy / path.relative_to(folders[0].parent)

    def _check_reach(self, process: ProcessRecipe, program: Path) -> None:
        """Raise `RuntimeUnavailable` if the servers' user cannot run a program that is installed on this machine."""
        if process.of_machine and self._account is not None and not self._account.can_read(program):
            raise RuntimeUnavailable(
                "The servers run as an ordinary user, who cannot run this program.",
                where=str(program),
                cause="the file, or a folder above it, is closed to other users",
                hint=f"name another one with {process.variable}, or open that one: chmod o+rx FOLDER",
            )

    def _has_to_read_all(self, argv: tuple[str, ...]) -> bool:
        """Whether the servers' user can do nothing with this program unless it may read everything."""
        return argv[0] == sys.executable and not self._python_is_readable


def remove_all(directories: Iterable[PrivateDirectory]) -> list[str]:
    """Remove private directories; returns why that failed, in words, for each that is not removed."""
    problems: list[str] = []
    for directory in directories:
        try:
            directory.remove()
        except OSError as error:
            problems.append(str(error))
    return problems
