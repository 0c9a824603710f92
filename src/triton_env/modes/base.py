"""The questions that have an answer for each mode."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar

from triton_env.core.model import ServiceRecipe
from triton_env.core.timeline import Timeline
from triton_env.progress.open import Display
from triton_env.runtimes.base import Runtime
from triton_env.services import Service
from triton_env.settings import Settings


class Mode(ABC):
    """One start of an environment, as its mode has it.

    Args:
        settings: those in force, credentials included.
        identity: in the names and labels of everything that belongs to the environment.
        notices: what a person should know about the choice of the environment.
        display: shows the start; None for that of the settings.
    """

    data_is_yours: ClassVar[bool] = False
    """Whether the servers hold data that was there before and stays: a reset is refused, namespaces have to be allowed,
    and what a restore left unfinished is remembered."""
    outlives_us: ClassVar[bool] = False
    """Whether the servers go on when this process leaves them: whatever it made there is removed piece by piece."""
    secrets_outlive_us: ClassVar[bool] = False
    """Whether passwords are worth something afterwards: notebooks and reports, which are kept, do not show them."""
    servers_are_ours: ClassVar[bool] = True
    """Whether triton-env starts the servers, in this process or another one."""
    may_create: ClassVar[bool] = True
    """Whether a database or bucket that is missing is made."""
    is_of_project: ClassVar[bool] = False
    """Whether the servers are a project's: `up` and `down` know them, and what a start began can be left running."""
    only_looks: bool = False
    """Whether nothing may change by it: a restore that was interrupted stays as it is."""
    lists_itself: ClassVar[bool] = False
    """Whether it is on the list of running environments for other processes from its start to its end."""
    lists_start: ClassVar[bool] = True
    """Whether other processes see its start while that is under way: it is this process that starts the servers."""
    settings_are_our_own: ClassVar[bool] = True
    """Whether the variables of this process are what the settings were made of, so that it warns of misspelt ones."""

    def __init__(
        self, settings: Settings, identity: str, *, notices: Iterable[str] = (), display: Display | None = None
    ) -> None:
        self.settings = settings
        self.id = identity
        self.notices = tuple(notices)
        self.display = display

    @abstractmethod
    def open(self, recipes: Sequence[ServiceRecipe], say: Callable[[str], None]) -> Runtime:
        """The runtime, ready to start services; an engine may be asked.

        Args:
            say: called with what a person should know.

        Raises:
            TritonError: it cannot run here.
        """

    def check(self, recipes: Iterable[ServiceRecipe]) -> None:  # noqa: B027 - most modes need nothing of the kind
        """See that variables can be used that matter in this mode alone.

        Raises:
            InvalidSetting: one cannot.
        """

    def note_ready(self, service: Service) -> None:  # noqa: B027 - most modes need nothing of the kind
        """Take note of a service that is ready, before it is handed out. Whatever it raises, the start fails with."""

    def wait_until_listed(self) -> None:  # noqa: B027 - most modes need nothing of the kind
        """Wait, once all services are ready, until other processes can see the environment where they should."""

    def note_start(self, timeline: Timeline) -> None:  # noqa: B027 - most modes need nothing of the kind
        """Take note of how the start went, once all services are ready."""

    def has_others(self) -> bool:
        """Whether other processes use these servers at this moment: what changes all of them would hit others."""
        return False

    def let_stay(self) -> None:  # noqa: B027 - most modes need nothing of the kind
        """Have the end leave running what was started. For servers of a project."""

    def leave(self) -> None:  # noqa: B027 - most modes need nothing of the kind
        """Give back what this process has of servers that others keep. Called at each end; may be called again."""


class Lasting(Mode):
    """Servers that outlive every process that uses them.

    Args:
        given: the settings as they were read, in which each variable that cannot be used is noted.
        settings: those in force.
    """

    data_is_yours = True
    outlives_us = True
    secrets_outlive_us = True

    def __init__(self, given: Settings, settings: Settings, identity: str, *, notices: Iterable[str] = ()) -> None:
        super().__init__(settings, identity, notices=notices)
        self._given = given

    def check(self, recipes: Iterable[ServiceRecipe]) -> None:
        for recipe in recipes:
            self._given.check(*recipe.external.variables, *(port.variable for port in recipe.ports))

    def note_ready(self, service: Service) -> None:
        service.check_data()
