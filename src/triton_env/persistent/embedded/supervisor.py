"""The supervisor of one project: the process that runs its persistent servers, and starts again what has ended.

    python -P -m triton_env.persistent.embedded.supervisor FOLDER READY_FD

It leaves its starter at once. It takes one order a connection from a Unix socket in the project's folder, as one line
of JSON: {"do": "start", "orders": [...]}, {"do": "stop" or "restart", "names": [...]}, {"do": "end"}. It answers with
one line when that is done: {"services": {...}} or {"error": {...}}. What it knows of its servers is in `state.json`.

Where it is killed, its guard ends the servers in good order; where the guard is, the kernel does, and the supervisor
starts them again under another one.
"""

import importlib
import json
import logging
import os
import selectors
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from triton_env.core.codec import from_data, to_data
from triton_env.core.ending import exit_words
from triton_env.core.shortages import exhausted
from triton_env.core.threads import in_thread
from triton_env.errors import StartFailed, TritonError
from triton_env.persistent.embedded import data
from triton_env.persistent.embedded.folder import RUN, ProjectFolder
from triton_env.persistent.embedded.orders import PROTOCOL, Noted, Noteds, Order, version_of
from triton_env.runtimes.embedded.directory import LOCK_NAME, PrivateDirectory
from triton_env.runtimes.embedded.guard import remove
from triton_env.runtimes.embedded.host import Host, remove_all
from triton_env.runtimes.embedded.spawner import CannotRun, Child, GuardGone
from triton_env.sharing import failure
from triton_env.state import door, locks, store

_log = logging.getLogger("supervisor")

_INTERVAL = 0.2
"""Seconds between two looks at the servers."""
_LOCK_TIMEOUT = 10
"""Seconds in which one before it has to be gone."""
_IDLE = 60
"""Seconds that it waits for its first order."""
_SHORTEST, _LONGEST = 0.5, 60.0
"""Seconds until a server is started again; twice as long each time, where it does not run for `_LONGEST` between."""
_ROTATE_INTERVAL = 5
_LOG_SIZE = 10 << 20
_LOG_FILES = 3
"""How long logs become, and how many files each has, as for containers."""


class _Supervised:
    """One server: what was ordered, and how it is."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.child: Child | None = None
        self.started = time.time()
        self.restarts = 0
        self.delay = _SHORTEST
        self.again: float | None = None
        self.run = 0

    @property
    def ended(self) -> bool:
        return self.child is None or self.child.status is not None

    def lose(self) -> None:
        """Note that it has ended with its guard, which the kernel does by the signal that stops it."""
        if self.child and self.child.status is None:
            self.child.status = -getattr(signal, self.order.process.stop_signal)
            self.child.ended = time.time()
            self.again = self.child.ended

    def try_later(self) -> None:
        """Have it started again, later each time."""
        self.again = time.time() + self.delay
        self.delay = min(_LONGEST, self.delay * 2)

    def noted(self) -> Noted:
        child, order = self.child, self.order
        assert child is not None
        return Noted(
            title=order.title,
            pid=child.pid,
            started=self.started,
            ended=child.ended,
            exit_code=child.status,
            restarts=self.restarts,
            again=self.again,
            run=self.run,
            host=order.host,
            ports=dict(order.ports),
            given=dict(order.given),
            made_of=order.made_of,
            order=order.digest,
        )


class _Supervisor:
    """See the module.

    Args:
        folder: of the project, locked by this process.
    """

    def __init__(self, folder: ProjectFolder) -> None:
        self._folder = folder
        self._account = folder.account()
        self._began = time.time()
        self._checkout = ""
        self._servers: dict[str, _Supervised] = {}
        self._runs = 0
        self._is_asked_to_end = False
        self._has_had_orders = False

    def ask_to_end(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        self._is_asked_to_end = True

    def run(self, ready: int) -> None:
        """Serve until the end, under as many guards as that takes."""
        # At once: what an earlier one noted, perhaps before a restart of the machine, is about other processes.
        self._folder.state.unlink(missing_ok=True)
        self._note()
        while True:
            self._folder.wait_for_servers()
            # What an earlier one left that was killed.
            remove(str(self._folder.run), LOCK_NAME)
            with suppress(FileNotFoundError):
                shutil.rmtree(self._folder.run.with_name(f"{RUN}-new"))
            directory = PrivateDirectory(self._folder.path.name, self._account, self._folder.path, RUN)
            host: Host | None = None
            try:
                host = Host((directory,), self._account, self._folder.logs / "guard.log")
                with door.listening(self._folder.control) as control:
                    self._note()
                    if ready >= 0:
                        os.write(ready, b'{"ready": true}\n')
                        os.close(ready)
                        ready = -1
                    try:
                        self._serve(control, host)
                        self._stop(host, tuple(self._servers))
                    except GuardGone:
                        _log.error("the guard has ended, and the servers with it: starting them again")
                        for each in self._servers.values():
                            each.lose()
                        self._note()
                        continue
                    return
            finally:
                if host:
                    host.end()
                directory.let_go()
                # Without their guard, servers end by themselves, and write what they hold before that.
                self._folder.wait_for_servers()
                for problem in remove_all((directory,)):
                    _log.error("%s", problem)

    def _serve(self, control: socket.socket, host: Host) -> None:
        rotated = time.monotonic()
        with selectors.DefaultSelector() as selector:
            selector.register(control, selectors.EVENT_READ)
            while not self._is_asked_to_end:
                if selector.select(_INTERVAL):
                    connection, _ = control.accept()
                    with connection:
                        self._obey(connection, host)
                if host.guard.is_gone:
                    raise GuardGone
                self._look(host)
                if time.monotonic() - rotated > _ROTATE_INTERVAL:
                    rotated = time.monotonic()
                    self._rotate()
                idle = not self._servers and (self._has_had_orders or time.time() - self._began > _IDLE)
                if idle:
                    return

    def _obey(self, connection: socket.socket, host: Host) -> None:
        try:
            answer = self._done(door.read_order(connection), host)
        except GuardGone:
            raise
        except Exception as error:  # it goes to the process that asked, and the servers go on
            answer = {"error": _failure(error, self._folder)}
        with suppress(OSError):  # who asked has gone
            door.send(connection, answer)

    def _done(self, request: dict[str, Any], host: Host) -> dict[str, Any]:
        self._has_had_orders = True
        match request["do"]:
            case "start":
                orders: list[Order] = [from_data(Order, each) for each in request["orders"]]
                for order in orders:
                    _check_program(order)
                try:
                    for order in orders:
                        self._start(host, order)
                finally:
                    self._note()
            case "stop":
                self._stop(host, request["names"])
            case "restart":
                self._restart(host, [self._servers[name] for name in request["names"] if name in self._servers])
            case "end":
                self._stop(host, tuple(self._servers))
                self._is_asked_to_end = True
        return {"services": to_data({name: each.noted() for name, each in self._servers.items()})}

    def _start(self, host: Host, order: Order) -> None:
        """Start a server, in the place of one that runs."""
        self._stop(host, [order.service])
        self._checkout = order.checkout
        supervised = _Supervised(order)
        self._spawn(host, supervised)
        self._servers[order.service] = supervised
        _log.info("%s was started: process %d", order.title, supervised.noted().pid)

    def _restart(self, host: Host, asked: Sequence[_Supervised]) -> None:
        """Stop and start servers. One that cannot be started is tried again, like one that ends by itself."""
        for each in asked:
            _check_program(each.order)
        self._end(host, asked)
        problems: list[Exception] = []
        for each in asked:
            each.restarts, each.delay = 0, _SHORTEST
            try:
                self._spawn(host, each)
                _log.info("%s was restarted: process %d", each.order.title, each.noted().pid)
            except GuardGone:
                raise
            except Exception as error:  # whatever it is, the others are started
                each.try_later()
                problems.append(error)
        self._note()
        if problems:
            raise problems[0]

    def _spawn(self, host: Host, supervised: _Supervised) -> None:
        """Start the process of a server that has none, with files of its own.

        Raises:
            TritonError: it cannot be started.
            OSError: the same.
        """
        order = supervised.order
        _check_program(order)
        recipe = order.recipe()
        host.forget(recipe)
        server = host.server(
            recipe, self._folder.data(order.service), self._folder.logs / f"{order.service}.log", order.host
        )
        server.ports = dict(order.ports)
        data.fill(server, order, self._folder, host)
        for name in order.process.stale:
            # The lock that all servers of this folder hold was free, and this one has ended: it is not a living one's.
            (server.data / name).unlink(missing_ok=True)
        started = time.time()
        try:
            child = host.guard.start(host.command(server, host.given(recipe)))
        except CannotRun as error:
            raise TritonError(
                f"{order.title} could not be started.", where=order.made_of, cause=str(error), hint="pip check"
            ) from error
        self._runs += 1
        supervised.child, supervised.run = child, self._runs
        supervised.started, supervised.again = started, None

    def _stop(self, host: Host, names: Iterable[str]) -> None:
        """End servers, all at once, and forget them."""
        found = {name: self._servers.pop(name) for name in names if name in self._servers}
        self._end(host, found.values())
        for each in found.values():
            _log.info("%s was stopped", each.order.title)
        if found:
            self._note()

    def _end(self, host: Host, servers: Iterable[_Supervised]) -> None:
        living = [each.child for each in servers if not each.ended]
        for ending in [in_thread(host.guard.kill, child) for child in living if child]:
            if error := ending.exception():
                raise error

    def _look(self, host: Host) -> None:
        """See which servers have ended by themselves, and start again those whose time has come."""
        is_changed = False
        for each in self._servers.values():
            if not each.ended:
                if each.restarts and time.time() - each.started > _LONGEST:
                    each.delay = _SHORTEST
                continue
            child = each.child
            if each.again is None:
                how = exit_words(child.status) if child and child.status is not None else "it cannot be run"
                _log.warning("%s has ended: %s; starting it again in %g s", each.order.title, how, each.delay)
                each.try_later()
                is_changed = True
            elif time.time() >= each.again:
                each.restarts += 1
                try:
                    self._spawn(host, each)
                    _log.info("%s was started again: process %d", each.order.title, each.noted().pid)
                except GuardGone:
                    raise
                except Exception as error:
                    # The program may be gone, with the environment that it was installed in, or be replaced just now.
                    _log.error("%s cannot be started again: %s", each.order.title, error)
                    each.try_later()
                is_changed = True
        if is_changed:
            self._note()

    def _note(self) -> None:
        services = {name: each.noted() for name, each in self._servers.items()}
        noted = Noteds(os.getpid(), self._began, PROTOCOL, self._checkout, services)
        with suppress(OSError):  # where the disk is full, the servers go on
            store.write(self._folder.state, noted)

    def _rotate(self) -> None:
        for log in self._folder.logs.glob("*.log"):
            with suppress(OSError):
                if log.stat().st_size > _LOG_SIZE:
                    for number in reversed(range(1, _LOG_FILES - 1)):
                        older = log.with_name(f"{log.name}.{number}")
                        if older.exists():
                            older.replace(log.with_name(f"{log.name}.{number + 1}"))
                    shutil.copyfile(log, log.with_name(f"{log.name}.1"))
                    # Servers add to its end, wherever that is.
                    os.truncate(log, 0)


def _check_program(order: Order) -> None:
    """See that the program is of the version that was found to read the data.

    Raises:
        TritonError: another one has been installed since, or none is.
    """
    importlib.invalidate_caches()
    installed = version_of(order.process)
    if installed != order.version:
        raise TritonError(
            f"{order.title} is to run {order.made_of}; installed is {installed or 'none'}.",
            where=sys.prefix,
            cause="another version may not be able to read the data",
            hint="python -m triton_env down, then up, which checks that before it starts the version that is installed",
        )


def _failure(error: BaseException, folder: ProjectFolder) -> dict[str, Any]:
    """An error as it goes to the process that asked."""
    if isinstance(error, TritonError):
        return failure.as_data(error)
    _log.error("an order could not be carried out", exc_info=error)
    what = "The supervisor of the project could not do what it was asked for."
    log = str(folder.logs / "supervisor.log")
    failed = StartFailed(what, where=log, cause=f"{type(error).__name__}: {error}")
    return failure.as_data(exhausted(error, what) or failed)


def _locked(folder: ProjectFolder) -> locks.Held:
    """Be the one supervisor of the project."""
    try:
        return locks.hold(folder.lock, timeout=_LOCK_TIMEOUT)
    except BlockingIOError as error:
        raise StartFailed(
            "Another supervisor of the project runs.",
            where=str(folder.lock),
            hint="python -m triton_env status, with the TRITON_STATE_DIR with which it was started",
        ) from error


def main() -> None:
    """Leave the starter, and supervise until the end."""
    folder, ready = ProjectFolder(Path(sys.argv[1])), int(sys.argv[2])
    if os.fork():
        os._exit(0)
    os.set_inheritable(ready, False)
    os.umask(0o077)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    try:
        lock = _locked(folder)
        supervisor = _Supervisor(folder)
        signal.signal(signal.SIGTERM, supervisor.ask_to_end)
        _log.info("the supervisor of the project %s begins: process %d", folder.path.name, os.getpid())
        supervisor.run(ready)
        folder.state.unlink(missing_ok=True)
        lock.release()
    except BaseException as error:
        with suppress(OSError):
            os.write(ready, json.dumps({"error": _failure(error, folder)}).encode() + b"\n")
        raise
    _log.info("the supervisor ends")


if __name__ == "__main__":
    main()
