"""The server process: engine, application, HTTP server, and an orderly end."""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import signal
import sys
from collections.abc import Sequence

import uvicorn

from triton_env.servers.rights import forbid_programs, give_up_capabilities

from .app import Application
from .config import ConfigError, ServerConfig, parse_arguments
from .engine import Engine, load_engine
from .errors import BrokenStreamError, ServerError
from .protocol import BoundedProtocol

log = logging.getLogger("clickhouse")


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit status."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        config = parse_arguments(arguments)
        _let_go_of_standard_input()
        if zone := dict(config.options).get("timezone"):
            os.environ["TZ"] = zone  # the engine takes it from here alone
        # Before the engine has threads. Unlike a server, it executes what a dictionary names as its source.
        forbid_programs()
        _load_engine()
        give_up_capabilities("python_multipart", "uvicorn", __package__)
        # What has a relative path is looked for here, and not where the setting user_files_path says.
        files = config.path / "user_files"
        files.mkdir(parents=True, exist_ok=True)
        os.chdir(files)
        engine = Engine(config.path, config.database, config.options)
        _end_at_a_crash()
    except (ConfigError, ServerError, OSError) as error:
        log.error("cannot start: %s", error)
        return 1
    application = Application(config, engine)
    status = serve(config, engine, application)
    if not application.idle:
        log.warning("a query does not stop: leaving without closing the data directory")
        logging.shutdown()
        os._exit(status)  # its thread would keep the process alive, and the engine must not be closed under it
    engine.close()
    return status


def _let_go_of_standard_input() -> None:
    """What a query reads as file('stdin') is this: it must not be the users' passwords, nor a terminal."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)


def _load_engine() -> None:
    """Load the engine, or end this process: what is left of a half-loaded engine may wait for its threads for ever."""
    try:
        load_engine()
    except Exception:
        log.exception("cannot load the engine")
        logging.shutdown()
        os._exit(1)


_CRASHES = (
    signal.SIGABRT,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGSEGV,
    signal.SIGSYS,
    signal.SIGTRAP,
)


def _end_at_a_crash() -> None:
    """A crash ends the process with its signal, after the stack of each thread has gone to the log.

    The engine's own handlers, which it installs when it opens its first directory, write nothing where there is no
    ClickHouse server around it, and keep the thread that crashed for minutes: the process lives and answers nothing.
    """
    for number in _CRASHES:
        signal.signal(number, signal.SIG_DFL)
    faulthandler.enable()


class _KnownErrors(logging.Filter):
    """Keeps tracebacks out of the log for what was handled: connections cut on purpose, and at the end."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], (BrokenStreamError, asyncio.CancelledError)))


def serve(config: ServerConfig, engine: Engine, application: Application) -> int:
    """Run the HTTP server in this thread until a signal ends it."""
    server = uvicorn.Server(
        uvicorn.Config(
            application,
            host=config.host,
            port=config.port,
            http=BoundedProtocol,
            ws="none",
            lifespan="on",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=10,
            timeout_graceful_shutdown=max(1, config.shutdown_grace),
        )
    )
    application.count(server.server_state.connections)
    logging.getLogger("uvicorn.error").addFilter(_KnownErrors())
    log.info("ClickHouse-compatible server (engine %s) on %s:%d", engine.version, config.host, config.port)
    # uvicorn raises the signal that ended it once more when it is done; an orderly end is not a failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    server.run()
    return 0 if server.started else 1
