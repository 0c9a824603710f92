"""How a server that was ready has ended, or why it answers nothing, as its runtime reports it."""

import signal
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

_BEYOND = 128
"""Shells and engines report the end by a signal as this number and the signal's."""
BEGIN_ANEW = "what it held is lost; env.stop() and env.start() start all services again, without data"
"""What to do about the end of a server whose data goes with it, and which another process started."""
_IS_PAUSED = "is paused"
_IS_STOPPED = "is stopped by a signal"


def how_to_restart(service: str) -> str:
    """What to do about the end of a server that this process started, in a session."""
    alone = f'env.restart("{service}") starts it again, without what it held in memory alone'
    return f"{alone}; env.stop() and env.start() start all services again, without data"


@dataclass(frozen=True, slots=True)
class Ending:
    """How a server has ended, or what keeps it from answering.

    Attributes:
        where: its process or container, for people.
        hint: what to do about it.
        status: its exit status, negative for a signal; None where it is not known.
        at: when, in seconds since the epoch; None where that is not known.
        out_of_memory: whether the kernel ended it for lack of memory.
        reason: what else is known about it.
        returns: whether the engine is starting it again.
        held_up: what keeps it from answering, though it has not ended: "is paused"; empty where it has.
    """

    where: str
    hint: str
    status: int | None = None
    at: float | None = None
    out_of_memory: bool = False
    reason: str = ""
    returns: bool = False
    held_up: str = ""

    def sentence(self, title: str) -> str:
        """What has become of the server of that title."""
        return f"{title} {self.held_up or f'died{clock(self.at)}'}."

    @property
    def words(self) -> str:
        """What ended it."""
        if self.held_up:
            return "its data is intact, and it answers nothing until it continues"
        how = "it ran out of memory" if self.out_of_memory else ""
        if self.status is not None and not how:
            how = exit_words(self.status)
        return "; ".join(filter(None, (how, self.reason))) or "how it ended is not known"


def exit_words(status: int) -> str:
    """An exit status, negative for a signal, in words."""
    if status < 0:
        return f"ended by signal {-status}{_named(-status, ' ({})')}"
    return f"exit code {status}{_named(status - _BEYOND, ', which stands for {}')}"


def container_words(status: int, *, out_of_memory: bool) -> str:
    """What ended a container, in words."""
    return "it ran out of memory" if out_of_memory else exit_words(status)


def state_of(status: str) -> str:
    """The state of a container in Docker's words. Podman calls one that has ended `stopped` until it has cleaned up."""
    return "exited" if status == "stopped" else status


def ending_of_container(attributes: Mapping[str, Any], *, where: str, hint: str) -> Ending | None:
    """How a container has ended, by what an engine says of it, or that it is paused; None while it runs."""
    state = attributes["State"]
    status = state_of(state["Status"])
    if status == "paused":
        return Ending(where, f"docker unpause {attributes['Name'].removeprefix('/')}", held_up=_IS_PAUSED)
    if status not in ("exited", "dead", "restarting"):
        return None
    count = attributes.get("RestartCount", 0)
    reasons = [f"the engine has restarted it {times(count)}"] if count else []
    return Ending(
        where=where,
        hint=hint,
        status=state["ExitCode"],
        at=_seconds(state.get("FinishedAt", "")),
        out_of_memory=bool(state.get("OOMKilled")),
        reason="; ".join([*([state["Error"]] if state.get("Error") else []), *reasons]),
        returns=status == "restarting",
    )


def ending_of_stopped(pids: Iterable[int], *, where: str) -> Ending | None:
    """What keeps a server from answering whose processes these are; None where none of them is stopped (SIGSTOP)."""
    import psutil

    stopped: list[int] = []
    for pid in pids:
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            family = (process, *process.children(recursive=True))
            stopped += [each.pid for each in family if each.status() == psutil.STATUS_STOPPED]
    hint = f"kill -CONT {' '.join(map(str, sorted(stopped)))}"
    return Ending(where, hint, held_up=_IS_STOPPED) if stopped else None


def ending_of_stopped_container(
    attributes: Mapping[str, Any], processes: Mapping[str, Any], *, where: str
) -> Ending | None:
    """What keeps a container from answering whose processes are stopped (SIGSTOP); None where none of them is.

    Args:
        attributes: the container.
        processes: the answer to `ps` with two columns: the process id, as the engine's machine has it, and the state.
        where: the container, for people.
    """
    stopped = {pid for pid, state in processes["Processes"] or () if state.startswith("T")}
    name, first = attributes["Name"].removeprefix("/"), str(attributes["State"]["Pid"])
    ways = [f"docker kill -s CONT {name}"] if first in stopped else []
    if stopped - {first}:
        # All that there are but the first: their numbers in the container are not known.
        ways.append(f"docker exec {name} sh -c 'kill -CONT -1'")
    return Ending(where, "; ".join(ways), held_up=_IS_STOPPED) if stopped else None


def times(count: int) -> str:
    """How often, in words."""
    return "once" if count == 1 else f"{count} times"


def clock(at: float | None) -> str:
    """The time of day as servers write it to their logs; empty where it is not known."""
    return f" at {datetime.fromtimestamp(at, UTC):%H:%M:%S} UTC" if at is not None else ""


def _named(number: int, form: str) -> str:
    with suppress(ValueError):
        return form.format(signal.Signals(number).name)
    return ""


def _seconds(moment: str) -> float | None:
    """A time of an engine's, which has nanoseconds; None for the year 1, its word for never."""
    with suppress(ValueError):
        found = datetime.fromisoformat(moment.split(".")[0].rstrip("Z") + "+00:00")
        return found.timestamp() if found.year > 1 else None
    return None
