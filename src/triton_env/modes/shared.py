"""A shared environment, from both sides: that of its keeper, and that of those who use what another process keeps."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from triton_env.core.model import ServiceRecipe
from triton_env.modes.arguments import Arguments
from triton_env.modes.base import Mode
from triton_env.progress.open import Display
from triton_env.runtimes import choice
from triton_env.runtimes.base import Runtime
from triton_env.settings import Settings

if TYPE_CHECKING:
    from triton_env.sharing.attaching import Attached
    from triton_env.sharing.joining import Joined


class Shared(Mode):
    """Servers that another process keeps: one that is there for that, or whose session they are.

    Args:
        part: this process's part in them. The id and the credentials are theirs.
        settings: this process's own.
        only_looks: see `Mode`.
    """

    outlives_us = True
    lists_start = False

    def __init__(
        self,
        part: "Joined | Attached",
        settings: Settings,
        notices: Sequence[str] = (),
        *,
        only_looks: bool = False,
    ) -> None:
        # The variables of the application are this process's own.
        in_force = part.settings.updated(triton_variables=settings.triton_variables)
        super().__init__(in_force, part.id, notices=notices)
        self._part = part
        self.only_looks = only_looks

    def open(self, recipes: Sequence[ServiceRecipe], say: Callable[[str], None]) -> Runtime:
        from triton_env.sharing.runtime import AttachedRuntime

        return AttachedRuntime(self._part, recipes, say)

    def wait_until_listed(self) -> None:
        self._part.wait_until_listed()

    def has_others(self) -> bool:
        return self._part.has_others()

    def leave(self) -> None:
        self._part.leave()


class Kept(Mode):
    """Servers that this process keeps for others, with the id and the credentials that these have chosen.

    Args:
        settings: of the process that ordered it, credentials included.
        display: passes on how the start goes.
    """

    settings_are_our_own = False

    def __init__(self, settings: Settings, identity: str, display: Display) -> None:
        super().__init__(settings, identity, display=display)

    def open(self, recipes: Sequence[ServiceRecipe], say: Callable[[str], None]) -> Runtime:
        return choice.open_runtime(self.settings.triton_runtime, self.settings, self.id, recipes, say)


def part_for(arguments: Arguments, say: Callable[[str], None]) -> "Joined | Attached | None":
    """A part in an environment that other processes have; None where one of its own is to be started."""
    from triton_env.sharing.given import part

    return part(
        arguments.settings,
        arguments.services,
        arguments.runtime,
        arguments.shared_with,
        isolated=arguments.isolated,
        say=say,
    )
