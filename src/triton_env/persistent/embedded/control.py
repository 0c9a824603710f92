"""The supervisor of a project as others see it: started where it is missing, asked, and looked at."""

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from triton_env.core.codec import to_data
from triton_env.core.private import open_file
from triton_env.errors import CleanupFailed, StartFailed, TritonError
from triton_env.persistent.embedded.folder import ProjectFolder
from triton_env.persistent.embedded.orders import PROTOCOL, Noteds, Order
from triton_env.runtimes.embedded.directory import LOCK_NAME
from triton_env.runtimes.embedded.guard import remove
from triton_env.runtimes.embedded.server import log_tail
from triton_env.settings import process_environment
from triton_env.sharing import failure
from triton_env.state import door, locks, store

_START_TIMEOUT = 180
"""Seconds until a supervisor has to be there: it may have to wait for the servers of one that was killed."""
_END_TIMEOUT = 180
"""Seconds until a supervisor has to be gone: servers get time to write what they hold."""
_ENDING_TIMEOUT = 5
"""Seconds until one that could not start is gone."""
_INTERVAL = 0.05
_LOG_LINES = 40
_NAME = "The supervisor of the project {}"


class Supervisor:
    """The supervisor of one project.

    Args:
        folder: of the project.
    """

    def __init__(self, folder: ProjectFolder) -> None:
        self._folder = folder

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return locks.is_held(self._folder.lock)

    def noted(self) -> Noteds | None:
        """What it notes; None where nothing runs, nor did when it was killed.

        Raises:
            TritonError: it was written by another version of triton-env.
        """
        try:
            return store.read(self._folder.state, Noteds)
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise TritonError(
                "What the supervisor of the project notes cannot be read.",
                where=str(self._folder.state),
                cause=str(error),
                hint="python -m triton_env down, with the version of triton-env that started it",
            ) from error

    @property
    def has_left_something(self) -> bool:
        """Whether one was killed, and nothing has been started since."""
        folder = self._folder
        left = folder.state.exists() or folder.run.exists()
        return left and not self.is_alive and not locks.is_held(folder.run / LOCK_NAME)

    def forget(self) -> None:
        """Remove what one left that was killed. The data stays.

        Raises:
            OSError: it cannot be removed, or has been taken over since.
        """
        held = locks.hold(self._folder.lock, timeout=0)
        try:
            if locks.is_held(self._folder.run / LOCK_NAME):
                raise BlockingIOError(f"{self._folder.run}: servers are still ending")
            remove(str(self._folder.run), LOCK_NAME)
            self._folder.state.unlink(missing_ok=True)
        finally:
            held.release()

    def start(self, orders: Sequence[Order]) -> None:
        """Start these servers, each in the place of one that runs, under a supervisor that is there or is started.

        Raises:
            TritonError: one cannot be started. Those before it were.
        """
        if self.is_alive and (noted := self.noted()) and noted.protocol != PROTOCOL:
            self.end()
        if not self.is_alive:
            self._launch()
        patience = sum(order.timeout + order.process.stop_timeout for order in orders)
        self._ask({"do": "start", "orders": [to_data(order) for order in orders]}, patience)

    def stop(self, names: Sequence[str]) -> None:
        """Stop servers. With the last one the supervisor ends."""
        if not self.is_alive:
            self._folder.wait_for_servers()
            return
        try:
            self._ask({"do": "stop", "names": list(names)}, _END_TIMEOUT)
        except TritonError:
            # One that could not start is about to end.
            self._wait_for_end(_ENDING_TIMEOUT)
            return
        if (noted := self.noted()) is None or not noted.services:
            self._wait_for_end()

    def restart(self, names: Sequence[str]) -> None:
        """Stop and start servers, with their data."""
        self._ask({"do": "restart", "names": list(names)}, _END_TIMEOUT)

    def end(self) -> None:
        """Stop all servers, and end it. Does nothing where it does not run.

        Raises:
            CleanupFailed: it goes on.
        """
        if not self.is_alive:
            # Of one that was killed.
            self._folder.wait_for_servers()
            self._folder.state.unlink(missing_ok=True)
            return
        try:
            self._ask({"do": "end"}, _END_TIMEOUT)
        except TritonError:
            # One that hangs, or is of another version, ends by the signal all the same.
            if noted := store.found(self._folder.state, Noteds):
                _terminate(noted.pid, self._folder.lock)
        self._wait_for_end()

    def _wait_for_end(self, timeout: float = _END_TIMEOUT) -> None:
        deadline = time.monotonic() + timeout
        while self.is_alive:
            if time.monotonic() > deadline:
                raise CleanupFailed(
                    _NAME.format(self._folder.path.name) + " does not end.",
                    where=str(self._folder.path),
                    cause=log_tail(self._folder.logs / "supervisor.log", 1).strip(),
                    hint=f"fuser -k {self._folder.lock} ends it by force; nothing that was acknowledged is lost",
                )
            time.sleep(_INTERVAL)

    def _launch(self) -> None:
        """Start the supervisor: a process of its own session, which has none of this one's files."""
        reading, writing = os.pipe()
        log = self._folder.logs / "supervisor.log"
        try:
            with os.fdopen(open_file(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), "ab") as output:
                started = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                    [sys.executable, "-P", "-m", f"{__package__}.supervisor", str(self._folder.path), str(writing)],
                    pass_fds=(writing,),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=process_environment(),
                    start_new_session=True,
                    cwd="/",
                )
        except OSError as error:
            os.close(reading)
            raise StartFailed(
                "The supervisor of the project cannot be started.", where=sys.executable, cause=str(error)
            ) from error
        finally:
            os.close(writing)
        with os.fdopen(reading, "rb") as answers, selectors.DefaultSelector() as selector:
            selector.register(answers, selectors.EVENT_READ)
            if not selector.select(_START_TIMEOUT):
                # Where it hangs before it leaves us; else this process has ended.
                started.kill()
                started.wait()
                raise StartFailed(
                    f"The supervisor of the project has not started within {_START_TIMEOUT} s.",
                    where=str(log),
                    log_tail=log_tail(log, _LOG_LINES),
                    hint="python -m triton_env down, then up",
                )
            said = answers.readline()
            started.wait()
        answer = json.loads(said) if said else {}
        if "error" in answer:
            raise failure.from_data(answer["error"])
        if not answer:
            raise StartFailed(
                "The supervisor of the project ended while it started.",
                where=str(log),
                log_tail=log_tail(log, _LOG_LINES),
                hint=f"less {log}",
            )

    def _ask(self, request: dict[str, Any], patience: float) -> None:
        try:
            answer = door.ask(self._folder.control, request, patience=patience)
        except (OSError, ValueError) as error:
            raise TritonError(
                _NAME.format(self._folder.path.name) + " does not answer.",
                where=str(self._folder.control),
                cause=str(error) or type(error).__name__,
                log_tail=log_tail(self._folder.logs / "supervisor.log", _LOG_LINES),
                hint="python -m triton_env down, then up",
            ) from error
        if "error" in answer:
            raise failure.from_data(answer["error"])


def _terminate(pid: int, lock: Path) -> None:
    """Send a process SIGTERM if it has this lock's file open: another process may have the number by now."""
    import psutil

    with suppress(psutil.Error):
        process = psutil.Process(pid)
        if os.path.realpath(lock) in [file.path for file in process.open_files()]:
            process.terminate()
