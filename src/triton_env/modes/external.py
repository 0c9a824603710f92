"""External servers: others run them, and what is on them is not ours."""

from collections.abc import Callable, Sequence
from contextlib import suppress

from triton_env.core.model import ServiceRecipe
from triton_env.errors import InvalidSetting
from triton_env.modes.arguments import Arguments
from triton_env.modes.base import Lasting
from triton_env.runtimes import choice
from triton_env.runtimes.base import Runtime
from triton_env.services import SERVICES
from triton_env.settings import Settings
from triton_env.settings.external import external_id, external_settings


class External(Lasting):
    """Servers that have their credentials, data and names already.

    Raises:
        InvalidSetting: settings that disagree.
    """

    servers_are_ours = False
    may_create = False

    def __init__(self, arguments: Arguments, notices: Sequence[str] = ()) -> None:
        settings = external_settings(_with_all_services(arguments.settings), arguments.services).updated(
            triton_runtime=arguments.runtime_name
        )
        super().__init__(arguments.settings, settings, external_id(settings), notices=notices)

    def open(self, recipes: Sequence[ServiceRecipe], say: Callable[[str], None]) -> Runtime:
        return choice.open_runtime(self.settings.triton_runtime, self.settings, self.id, recipes, say)


def _with_all_services(settings: Settings) -> Settings:
    """The settings with those of services that are not used, where their variables can be: for `external_id`."""
    for name in SERVICES.usable():
        with suppress(InvalidSetting):
            settings = settings.with_group(SERVICES[name].settings_group)
    return settings
