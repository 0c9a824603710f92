"""What a server's refusal means."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

_MISSING = ("NoSuchKey", "NoSuchVersion", "NoSuchBucket", "NoSuchUpload", "NotFound", "404")
_CHANGED = ("PreconditionFailed", "InvalidRange", "412", "416")
_UNAVAILABLE = ("SlowDown", "ServiceUnavailable", "InsufficientStorage", "503", "507")
_NOT_IMPLEMENTED = ("NotImplemented", "MethodNotAllowed", "501", "405")


def code_of(error: "ClientError") -> str:
    """Its code: the word of an answer with a body, the number of one without."""
    return str(error.response.get("Error", {}).get("Code", ""))


def is_missing(error: "ClientError") -> bool:
    """Whether what was asked for is not there."""
    return code_of(error) in _MISSING


def is_changed(error: "ClientError") -> bool:
    """Whether it is another one now than was asked for."""
    return code_of(error) in _CHANGED


def is_about_one(error: "ClientError") -> bool:
    """Whether the server refuses this request, rather than being in trouble itself."""
    return code_of(error) not in _UNAVAILABLE


def is_not_implemented(error: "ClientError") -> bool:
    """Whether this server does not know this kind of request."""
    return code_of(error) in _NOT_IMPLEMENTED or status_of(error) == 501


def status_of(error: "ClientError") -> int:
    """The HTTP status."""
    metadata: Any = error.response.get("ResponseMetadata", {})
    return int(metadata.get("HTTPStatusCode", 0))


def words_of(error: "ClientError") -> str:
    """The server's reason in a few words."""
    details = error.response.get("Error", {})
    storage_class = details.get("StorageClass")
    if storage_class:
        return f"storage class {storage_class}"
    message = " ".join(str(details.get("Message", "")).split()).rstrip(".")
    if code_of(error) == "400":
        # All that an answer without a body says.
        message = "HTTP status 400, as where it is encrypted with a key of its client (SSE-C)"
    return message[:120] or code_of(error)
