"""The persistent services of a project: found running or started, and their data stays."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any

from triton_env.core.forms import Form, form_of, forms_for, is_named
from triton_env.core.model import ServiceRecipe
from triton_env.core.timeline import Timeline
from triton_env.errors import RuntimeUnavailable
from triton_env.modes.base import Lasting
from triton_env.persistent import starts
from triton_env.persistent.settings import persistent_settings
from triton_env.runtimes.base import Runtime
from triton_env.services import Service
from triton_env.settings import Settings

if TYPE_CHECKING:
    from triton_env.modes.arguments import Arguments
    from triton_env.persistent.runtime import LastingRuntime
    from triton_env.persistent.stack import Stack


class Persistent(Enum):
    """What becomes of persistent services that run already."""

    ATTACH = "attach"
    """They are taken as they are."""
    APPLY = "apply"
    """Those that differ from the settings are replaced; their data stays."""


class PersistentServices(Lasting):
    """The services of a project, which is their id.

    Args:
        stack: the services, where they were looked at before; the end of the environment closes it.

    Raises:
        InvalidSetting: settings that disagree.
    """

    is_of_project = True

    def __init__(self, arguments: "Arguments", stack: "Stack | None" = None) -> None:
        settings = persistent_settings(arguments.settings).updated(triton_runtime=arguments.runtime_name)
        super().__init__(arguments.settings, settings, settings.triton_project)
        self._apply = arguments.persistent is Persistent.APPLY
        self._stack = stack
        self._runtime: LastingRuntime[Any] | None = None

    def open(self, recipes: Sequence[ServiceRecipe], say: Callable[[str], None]) -> Runtime:
        if not can_have_persistent_services(self.settings):
            raise RuntimeUnavailable(
                f"Nothing is started on the runtime {self.settings.triton_runtime!r}, so nothing is persistent there.",
                where="TRITON_RUNTIME",
                hint="set TRITON_RUNTIME to docker, embedded or kubernetes; or use the servers as they are:"
                " TritonEnvironment()",
            )
        from triton_env.persistent.choice import open_stack, remember

        stack = self._stack or open_stack(self.settings, starts=True)
        try:
            self._runtime = stack.open(recipes, apply=self._apply, say=say)
            is_news = remember(self.settings, stack) and not is_named(self.settings.triton_runtime)
            if is_news and form_of(stack.runtime) is Form.PROCESS:
                say(f"the services run without Docker, since {stack.reason}; {stack.place}")
        except BaseException:
            stack.close()
            raise
        return self._runtime

    def note_ready(self, service: Service) -> None:
        super().note_ready(service)
        assert self._runtime is not None
        self._runtime.note(service.name, service.server_version())

    def note_start(self, timeline: Timeline) -> None:
        assert self._runtime is not None
        starts.note(self.settings, self._runtime.name, timeline)

    def let_stay(self) -> None:
        if self._runtime is not None:
            self._runtime.keep()


class RunningProject(Lasting):
    """The services of a project that run, as they are.

    Args:
        stack: the services; the end of the environment closes it.
        running: those that run, by name.
        settings: with the names and passwords that they were given.
    """

    is_of_project = True
    only_looks = True
    lists_start = False
    settings_are_our_own = False

    def __init__(self, stack: "Stack", running: Mapping[str, Service], settings: Settings) -> None:
        super().__init__(settings, settings, stack.project)
        self._stack = stack
        self._running = running

    def open(self, recipes: Sequence[ServiceRecipe], say: Callable[[str], None]) -> Runtime:
        from triton_env.persistent.looking import RunningServices

        return RunningServices(self._stack, self._running)

    def check(self, recipes: Iterable[ServiceRecipe]) -> None:
        """Variables of this process do not matter."""

    def note_ready(self, service: Service) -> None:
        """Nothing is asked of it."""


def can_have_persistent_services(settings: Settings) -> bool:
    """Whether persistent services can run on the runtime that these settings ask for."""
    return any(form.is_started_by_us for form in forms_for(settings.triton_runtime))
