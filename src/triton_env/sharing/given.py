"""The session that TRITON_SESSION names: that of `run`, or of the shell's `env`."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from triton_env.core.forms import form_of, suits
from triton_env.errors import TritonError
from triton_env.services import SERVICES
from triton_env.settings import Settings
from triton_env.sharing.key import differences, settings_from_data
from triton_env.sharing.reuse import Reuse
from triton_env.state.registry import Record, Registry

if TYPE_CHECKING:
    from triton_env.sharing.attaching import Attached
    from triton_env.sharing.joining import Joined


def given(settings: Settings) -> Record | None:
    """The session that TRITON_SESSION names; None where it names none, or one that has ended."""
    if not settings.triton_session:
        return None
    return next((each for each in Registry.of(settings).running() if each.id == settings.triton_session), None)


def part(
    settings: Settings,
    names: Sequence[str],
    runtime: str | None,
    reuse: Reuse | None,
    *,
    isolated: bool,
    say: Callable[[str], None],
) -> "Attached | Joined | None":
    """A part in an environment that other processes have: the session that is given, or one that is shared.

    Args:
        runtime: that it names; None where it leaves that to TRITON_RUNTIME.
        reuse: how it is shared; None for one of its own.
        isolated: whether a session that is given is not used.
        say: called with the reason why a session that is given is not used.

    Returns:
        None where it is to be one of its own.
    """
    if settings.triton_session and not isolated and (given_part := _part_in_given(settings, names, runtime, say)):
        return given_part
    if reuse is None:
        return None
    from triton_env.sharing.joining import join

    return join(settings, names, runtime or settings.triton_runtime, reuse)


def _part_in_given(
    settings: Settings, names: Sequence[str], runtime: str | None, say: Callable[[str], None]
) -> "Attached | Joined | None":
    """A part in the session that TRITON_SESSION names; None where it does not do."""
    from triton_env.sharing.attaching import part_in

    record = given(settings)
    problem = _problem(record, settings, names, runtime) if record else "has ended"
    if record and not problem:
        try:
            return part_in(record, settings)
        except TritonError:
            problem = "has ended"
    say(f"the session {settings.triton_session}, which TRITON_SESSION names, {problem}; starting another one")
    return None


def _problem(record: Record, settings: Settings, names: Sequence[str], runtime: str | None) -> str:
    """Why an environment that is asked for is not this session, in words; empty where it is."""
    if not form_of(record.runtime).is_started_by_us:
        return "leads to external servers, which are used with TRITON_RUNTIME=external alone"
    if missing := [name for name in names if name not in record.services]:
        return f"has no {', '.join(SERVICES[name].title for name in missing)}"
    asked = runtime or settings.triton_runtime
    # With `run --runtime NAME`, TRITON_RUNTIME is as it was there.
    was_overruled = runtime is None and asked == record.asked_runtime
    if not suits(record.runtime, asked) and not was_overruled:
        return f"runs on the runtime {record.runtime}, not {asked}"
    theirs = settings_from_data(record.settings, record.services)
    if different := differences(settings, theirs, names, record.runtime):
        return f"was started with another {', '.join(field.upper() for field in different)}"
    return ""
