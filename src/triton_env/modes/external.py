"""External servers: others run them, and what is on them is not ours."""

from collections.abc import Callable, Sequence

from triton_env.core.model import ServiceRecipe
from triton_env.modes.arguments import Arguments
from triton_env.modes.base import Lasting
from triton_env.runtimes import choice
from triton_env.runtimes.base import Runtime
from triton_env.settings.external import external_id, external_settings


class External(Lasting):
    """Servers that have their credentials, data and names already.

    Raises:
        InvalidSetting: settings that disagree.
    """

    servers_are_ours = False
    may_create = False

    def __init__(self, arguments: Arguments, notices: Sequence[str] = ()) -> None:
        settings = external_settings(arguments.settings, arguments.services).updated(
            triton_runtime=arguments.runtime_name
        )
        super().__init__(arguments.settings, settings, external_id(settings), notices=notices)

    def open(self, recipes: Sequence[ServiceRecipe], say: Callable[[str], None]) -> Runtime:
        return choice.open_runtime(self.settings.triton_runtime, self.settings, self.id, recipes, say)
