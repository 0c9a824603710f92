"""Why work on a service failed, for errors that also say what became of the backup or restore."""

from dataclasses import dataclass

from triton_env.errors import ServiceDied, TritonError
from triton_env.services import Service


@dataclass(frozen=True, slots=True)
class Reason:
    """Why work on a service failed, as the parts of an error.

    Attributes:
        what: the sentence of an error of ours that says what failed; empty where that is to be said yet.
        where: the server's address, and what is known beside it.
        cause: the cause.
        log_tail: the last lines that the server wrote.
        hint: what to do; empty where nothing is known.
        died: whether the server has ended.
    """

    what: str
    where: str
    cause: str
    log_tail: str = ""
    hint: str = ""
    died: bool = False


def reason_of(error: Exception, service: Service) -> Reason:
    """Why work on a service failed.

    The end of its server is behind whatever a client or a program reports then, and alone says how it ended.
    """
    what = error.what if isinstance(error, TritonError) and not isinstance(error, ServiceDied) else ""
    address = f"{service.host}:{service.port}"
    if died := error if isinstance(error, ServiceDied) else service._died():
        cause = f"{died.what.rstrip('.')}: {died.cause}"
        return Reason(what, f"{address}, {died.where}", cause, died.log_tail, died.hint, died=not died.lives)
    if isinstance(error, TritonError):
        return Reason(what, error.where or address, error.cause, error.log_tail, error.hint)
    return Reason(what, address, str(error) or type(error).__name__)
