"""A session: servers of its own, fresh, gone with it."""

from collections.abc import Callable, Sequence
from secrets import token_hex

from triton_env.core.model import ServiceRecipe
from triton_env.modes.arguments import Arguments
from triton_env.modes.base import Mode
from triton_env.runtimes import choice
from triton_env.runtimes.base import Runtime
from triton_env.services.credentials import credentials


class Session(Mode):
    """Servers of this process alone, with credentials that are fresh."""

    lists_itself = True

    def __init__(self, arguments: Arguments, notices: Sequence[str] = ()) -> None:
        fresh = credentials(arguments.settings, arguments.services)
        settings = arguments.settings.updated(**fresh, triton_runtime=arguments.runtime_name)
        super().__init__(settings, token_hex(4), notices=notices)

    def open(self, recipes: Sequence[ServiceRecipe], say: Callable[[str], None]) -> Runtime:
        return choice.open_runtime(self.settings.triton_runtime, self.settings, self.id, recipes, say)
