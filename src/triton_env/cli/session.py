"""What commands do with a session, which another process holds."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from triton_env.cli.choice import Choice
from triton_env.cli.persistent import titles
from triton_env.core.forms import form_of
from triton_env.errors import UsageError

if TYPE_CHECKING:
    from triton_env.attached import AttachedEnvironment
    from triton_env.state.registry import Record


@contextmanager
def attached(
    record: "Record", services: Sequence[str] = (), *, only_looks: bool = False
) -> "Iterator[AttachedEnvironment]":
    """The environment of a session, which is used until the block ends, and goes on then.

    Args:
        only_looks: whether it only reads: then it is not listed as a user, and `stop` does not ask about it.

    Raises:
        UsageError: it lacks one of these services.
        TritonError: it has just ended.
    """
    from triton_env.attached import AttachedEnvironment
    from triton_env.settings import Settings
    from triton_env.sharing.attaching import Purpose

    check_has(record, services)
    purpose = Purpose.LOOK if only_looks else Purpose.USE
    with AttachedEnvironment(record, Settings(), services, purpose) as environment:
        yield environment


def check_has(record: "Record", services: Sequence[str]) -> None:
    """See that a session has these services.

    Raises:
        UsageError: it lacks one.
    """
    if lacking := [name for name in services if name not in record.services]:
        raise UsageError(
            f"The session {record.id} has no {titles(lacking)}.",
            where=record.title,
            hint=f"choose from {', '.join(record.services)}; or start another one: python -m triton_env serve",
        )


def sessions_here() -> "tuple[Record, ...]":
    """The session that TRITON_SESSION names, or those that run here: for words about what a command cannot do."""
    from triton_env.settings import Settings
    from triton_env.sharing.given import given
    from triton_env.state.registry import Registry, here

    settings = Settings()
    named = given(settings)
    return (named,) if named else here(Registry.of(settings).running(), Path.cwd())


def session_here() -> "Record | None":
    """The first of these."""
    return next(iter(sessions_here()), None)


def refuse(command: str, choice: Choice) -> None:
    """Say that a command cannot do anything with the session that the options name.

    Raises:
        UsageError: always, unless they name none.
    """
    from triton_env.cli.choice import session_of

    if record := session_of(choice):
        raise refused(command, record)


def refused(command: str, record: "Record") -> UsageError:
    """The error that a command is for persistent services, and cannot be used on this session."""
    end = f"python -m triton_env down --session {record.id}"
    other = "; for persistent services: python -m triton_env reset --persistent"
    hints = {
        "up": "it runs already; for persistent services: python -m triton_env up",
        "restart": f"python -m triton_env restart --session {record.id} SERVICE restarts a service of it",
        "reset": (
            f"its data goes when it ends: {end}"
            if form_of(record.runtime).is_started_by_us
            else "its servers are external, and keep their data"
        )
        + other,
    }
    return UsageError(
        f"`{command}` is for persistent services, and this is a session.", where=record.title, hint=hints[command]
    )
