"""A failure in the keeper, raised again in every process that waits for it."""

from typing import Any

from triton_env import errors
from triton_env.core.shortages import exhausted
from triton_env.errors import StartFailed, TritonError

_PARTS = ("what", "where", "cause", "log_tail", "hint")

_FAILED = "The shared environment could not be started."


def as_data(error: BaseException) -> dict[str, Any]:
    """An error as what JSON can hold."""
    if not isinstance(error, TritonError):
        error = exhausted(error, _FAILED) or unexpected(error)
    parts = {part: getattr(error, part) for part in _PARTS}
    return {"kind": type(error).__name__, "notes": list(getattr(error, "__notes__", ())), **parts}


def from_data(data: dict[str, Any]) -> TritonError:
    """The same error, by type and text. A type that this version does not know becomes its base."""
    kind = getattr(errors, data["kind"], StartFailed)
    # Not by its constructor: many types make their words themselves.
    error: TritonError = kind.__new__(kind)
    TritonError.__init__(error, **{part: data[part] for part in _PARTS})
    for note in data["notes"]:
        error.add_note(note)
    return error


def unexpected(error: BaseException) -> StartFailed:
    """What stands for an exception that is none of ours."""
    failed = StartFailed(
        _FAILED,
        cause=" ".join(f"{type(error).__name__}: {error}".split()),
        hint="leave out reuse=True to see more of it",
    )
    failed.__cause__ = error
    return failed
