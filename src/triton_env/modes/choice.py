"""Which mode an environment gets."""

from triton_env.modes.arguments import Arguments
from triton_env.modes.base import Mode
from triton_env.modes.external import External
from triton_env.modes.persistent import PersistentServices
from triton_env.modes.session import Session


def mode_of(arguments: Arguments) -> Mode:
    """The mode of one start. It may join an environment that another process keeps, or start a keeper for it.

    Raises:
        InvalidSetting: settings that disagree.
        TritonError: no keeper can be started.
    """
    if arguments.persistent:
        return PersistentServices(arguments)
    notices: list[str] = []
    if arguments.shared_with or arguments.settings.triton_session:
        # Loads what no other mode needs.
        from triton_env.modes.shared import Shared, part_for

        if part := part_for(arguments, notices.append):
            return Shared(part, arguments.settings, notices)
    return (External if arguments.is_external else Session)(arguments, notices)
