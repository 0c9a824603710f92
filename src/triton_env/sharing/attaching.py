"""Using an environment that another process holds and has listed in the registry."""

from collections.abc import Callable
from enum import Enum

from triton_env.core.settings_group import LOGIN
from triton_env.errors import TritonError
from triton_env.services.selection import with_groups
from triton_env.settings import Settings
from triton_env.sharing.joining import Joined, join_instance
from triton_env.sharing.key import settings_from_data
from triton_env.sharing.start_events import StartState
from triton_env.state import locks
from triton_env.state.folders import private_folder
from triton_env.state.leases import new_lease
from triton_env.state.registry import Record


class Purpose(Enum):
    """What a process wants with an environment that another one holds."""

    USE = "use"
    """Work with it, as programs do: it goes on as long as that takes."""
    STEER = "steer"
    """Do what a person has asked for, who knows that others may use what is there for all."""
    LOOK = "look"
    """See what there is. That is not a use: it prolongs nothing, and no one else has to wait for its end."""


class Attached:
    """What one process has of an environment that another one holds: a lease, and what its record says.

    Args:
        settings: the process's own, with the environment's credentials.
        purpose: for what. Looking at it takes no lease.

    Raises:
        TritonError: it has ended.
    """

    def __init__(self, record: Record, settings: Settings, purpose: Purpose = Purpose.USE) -> None:
        self.id = record.id
        self.settings = settings
        self.events = _Known(record)
        self.words: tuple[str, ...] = ()
        self._record = record
        self._folder = private_folder(settings, "environments")
        self._is_steered = purpose is Purpose.STEER
        self._lease = None if purpose is Purpose.LOOK else new_lease(self._folder, f"{record.id}.")
        if not (self._folder / f"{record.id}.json").exists():
            self.leave()
            raise TritonError(
                f"The session {record.id} has just ended.",
                where=record.project,
                hint="start another one: python -m triton_env serve",
            )

    def has_others(self) -> bool:
        """Whether others use it too. What `serve` holds is there for all."""
        if self._record.is_for_all:
            return not self._is_steered
        return locks.any_held(self._folder, f"{self.id}.*.lease", besides=self._lease)

    def wait_until_listed(self) -> None:
        """It is listed."""

    def lost(self) -> TritonError:
        """The error where its holder has ended."""
        return TritonError(f"The session {self.id} has ended.")

    def hand_over(self) -> None:
        """This process becomes another program: its holder keeps the environment all the same."""
        self.leave()

    def leave(self) -> None:
        """Give the lease back. Does nothing where that was done."""
        if self._lease:
            self._lease.release(remove=True)


class _Known:
    """The news of an environment that is up: all is known."""

    def __init__(self, record: Record) -> None:
        self.state = StartState(
            runtime=record.runtime,
            reason=record.reason,
            access=record.access,
            placements=dict(record.placements),
            up=True,
        )
        self.lost = False
        self.is_over = True

    def follow(self) -> None:
        """Nothing more comes."""

    def catch_up(self) -> None:
        """Nothing more comes."""

    def wait_for_ending(self, service: str, seconds: float) -> bool:
        """Whether its holder lives, which alone knows how a server ended."""
        return True

    def wait_for(self, condition: Callable[[StartState], bool]) -> bool:
        """Whether `condition` holds."""
        return condition(self.state)


def part_in(record: Record, settings: Settings, purpose: Purpose = Purpose.USE) -> Attached | Joined:
    """A part in an environment that is listed, for as long as this process wants it.

    Args:
        settings: the process's own.
        purpose: for what.

    Raises:
        TritonError: it has ended.
    """
    if record.held_by == "reuse" and purpose is not Purpose.LOOK:
        # Its keeper would end it as soon as all others have left.
        return join_instance(settings, record.id)
    theirs = settings_from_data(record.settings, record.services)
    credentials = {field: getattr(theirs, field) for field in theirs.names_in(*LOGIN, services=record.services)}
    return Attached(record, with_groups(settings, record.services).updated(**credentials), purpose)
