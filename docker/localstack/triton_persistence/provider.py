"""The S3 provider whose changing operations are saved before they answer."""

import errno
import logging
import os
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from localstack import constants
from localstack.aws.api import CommonServiceException, RequestContext, ServiceException
from localstack.aws.skeleton import DispatchTable, create_dispatch_table
from localstack.services.plugins import Service
from localstack.services.s3.provider import S3Provider

from . import LOCALSTACK, pacing, records
from .bodies import BodyFiles, BodyStore, collect_written
from .changes import Change, Locks, change_of, is_change
from .database import Database
from .errors import Refused
from .reserve import Reserve
from .state import Bodies, State

LOG = logging.getLogger(__name__)

FOLDER = Path("/var/lib/localstack/s3")
FULL = (errno.ENOSPC, errno.EDQUOT)
FREEING = ("Delete", "Abort")
"""How the names of operations begin that make room."""

Handler = Callable[[RequestContext, Any], Any]


def create_service() -> Service:
    """Load the data and return the service. Where that is not possible, end the process and say why."""
    try:
        return Service.for_provider(PersistedS3Provider(FOLDER), dispatch_table_factory=PersistedS3Provider.dispatch)
    except Refused as refused:
        _end(str(refused))
    except OSError as error:
        _end(f"the data in {FOLDER} cannot be used: {error}.")


class PersistedS3Provider(S3Provider):
    """LocalStack's S3 provider on a folder."""

    def __init__(self, folder: Path) -> None:
        """Open the folder and fill LocalStack's store.

        Raises:
            Refused: The data is not for this version, or another server uses it.
        """
        if constants.VERSION != LOCALSTACK:
            raise Refused(
                f"this provider is for LocalStack {LOCALSTACK}, and this is {constants.VERSION}. Use the image "
                f"localstack/localstack:{LOCALSTACK}, or run without PROVIDER_OVERRIDE_S3 (and then without kept data)."
            )
        records.check_classes()
        pacing.install()
        self._database = Database(folder, constants.VERSION)
        self._reserve = Reserve(folder / "reserve")
        self._files = BodyFiles(folder / "data", self._reserve.fill)
        self._state = State(self._database)
        self._locks = Locks()
        super().__init__(BodyStore(self._files))
        try:
            buckets, sizes = self._state.load()
        except (sqlite3.Error, ValueError, KeyError) as error:
            raise Refused(f"the database {self._database.path} cannot be read: {error!r}.") from error
        orphans = [body for body in self._files.names() if body not in sizes]
        self._files.remove(orphans)
        LOG.info("S3: %s buckets with %s bodies from %s", buckets, len(sizes), folder)
        if orphans:
            LOG.info("S3: removed %s bodies of writes that were cut off, or of objects that were deleted", len(orphans))
        if broken := [body for body, size in sizes.items() if self._files.size(body) != size]:
            LOG.error("S3: %s bodies are missing or cut short, such as %s", len(broken), broken[0])

    def dispatch(self) -> DispatchTable:
        """Return the operations. Those that change something are saved before they answer."""
        table = create_dispatch_table(self)
        return {name: self._saved(name, handler) if is_change(name) else handler for name, handler in table.items()}

    def on_before_stop(self) -> None:
        super().on_before_stop()
        pacing.stop()
        self._files.close()
        self._database.close()

    def _saved(self, operation: str, handler: Handler) -> Handler:
        def call(context: RequestContext, request: Any) -> Any:
            change = change_of(operation, context, request)
            with self._locks.hold(change), collect_written() as written:
                return self._run(operation, handler, context, request, change, written)

        return call

    def _run(
        self,
        operation: str,
        handler: Handler,
        context: RequestContext,
        request: Any,
        change: Change,
        written: set[str],
    ) -> Any:
        upload = change.upload
        try:
            response = handler(context, request)
            if operation == "CreateMultipartUpload":
                upload = response["UploadId"]
            bodies = self._save(operation, change, upload)
        except (ServiceException, NotImplementedError):
            # The request was refused. LocalStack does that before it changes its store.
            self._files.remove(written)
            raise
        except BaseException as error:
            self._take_back(change, upload)
            self._files.remove(written)
            if not isinstance(error, OSError | sqlite3.Error):
                raise
            if self._database.closed:
                raise CommonServiceException("ServiceUnavailable", "The server is stopping.", 503) from error
            LOG.error("%s on %s could not be saved: %s", operation, change.bucket, error)
            raise _answer(error) from error
        self._files.remove(written - bodies.after)
        self._files.remove_later(bodies.before - bodies.after)
        return response

    def _save(self, operation: str, change: Change, upload: str | None) -> Bodies:
        try:
            return self._state.save(change, upload)
        except sqlite3.Error as error:
            if not (_is_full(error) and operation.startswith(FREEING)):
                raise
        self._reserve.give()
        return self._state.save(change, upload)

    def _take_back(self, change: Change, upload: str | None) -> None:
        if self._database.closed:
            return  # and so is the server, any moment
        try:
            self._state.restore(change, upload)
        except Exception as error:
            # Memory now differs from the volume. To go on would be to serve what is not there after the next start.
            _end(f"a change could not be saved, and not taken back either: {error!r}.")
        # What LocalStack remembers of buckets and objects besides its store.
        self._cors_handler.invalidate_cache()
        self._expiration_cache.pop(change.bucket, None)


def _is_full(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno in FULL
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL


def _answer(error: BaseException) -> CommonServiceException:
    if _is_full(error):
        return CommonServiceException("InsufficientStorage", "The disk of the S3 volume is full.", status_code=507)
    return CommonServiceException("InternalError", f"The change could not be saved: {error}", status_code=500)


def _end(reason: str) -> NoReturn:
    # Raised, it would be caught and logged without its message, and LocalStack would go on without S3.
    print(f"ERROR: LocalStack's S3 data cannot be used: {reason}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(1)
