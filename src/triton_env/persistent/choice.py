"""Where the persistent services of a project run: where they ran before, so that their data is found again."""

from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from triton_env.core.forms import Form, form_of, is_named
from triton_env.core.printable import in_one_line
from triton_env.errors import RuntimeUnavailable, TritonError
from triton_env.persistent.settings import persistent_settings
from triton_env.persistent.stack import Stack
from triton_env.runtimes.choice import quick_problem
from triton_env.runtimes.embedded import packages
from triton_env.runtimes.kubernetes.cluster import Cluster
from triton_env.services import SERVICES
from triton_env.settings import Settings
from triton_env.state import store
from triton_env.state.folders import lasting_folder, make_private

_ASKED_FOR = "it was asked for"
_AS_BEFORE = "they ran there before, and their data is there"


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the services of a project ran last.

    Attributes:
        runtime: its name.
        cluster: the namespace, where that is a cluster.
    """

    runtime: str
    cluster: Cluster | None = None


def open_stack(settings: Settings, *, starts: bool = False, any_checkout: bool = False) -> Stack:
    """The persistent services of the project that the settings name. To be closed, best by `with`.

    With the runtime `auto` they are where they were started last, also in a cluster, and for the first time on Docker
    where an engine answers, else without it.

    Args:
        settings: which project.
        starts: whether services may be started there.
        any_checkout: see `Stack`.

    Raises:
        InvalidSetting: settings that disagree.
        RuntimeUnavailable: they cannot run there.
    """
    stack = partial(_stack, settings, any_checkout=any_checkout)
    asked = settings.triton_runtime
    if is_named(asked):
        return stack(asked, _ASKED_FOR)
    if known := _last_place(settings):
        try:
            return stack(known.runtime, _AS_BEFORE, cluster=known.cluster)
        except RuntimeUnavailable as error:
            if form_of(known.runtime) is Form.CONTAINER:
                error.hint += "; TRITON_RUNTIME=embedded starts services without Docker, which have other data"
            raise
    problem = quick_problem()
    if not problem:
        try:
            return stack("docker", "a Docker engine answers")
        except RuntimeUnavailable as error:
            if not starts or not _can_be_processes(settings):
                raise
            problem = in_one_line(error)
    if starts and _can_be_processes(settings):
        return stack("embedded", f"Docker cannot be used: {problem}")
    # With its words on what is missing.
    return stack("docker", _ASKED_FOR)


def place_of(settings: Settings) -> str:
    """The runtime on which services of the project are looked for, before anything is asked."""
    asked = settings.triton_runtime
    return asked if is_named(asked) else last_place(settings) or "docker"


def last_place(settings: Settings) -> str:
    """The runtime on which services of the project were started last; empty where that is not known."""
    found = _last_place(settings)
    return found.runtime if found else ""


def _last_place(settings: Settings) -> _Place | None:
    return store.found(_file(settings), _Place)


def remember(settings: Settings, stack: Stack) -> bool:
    """Note where services of the project are started; whether that is news."""
    place = _Place(stack.runtime, stack.cluster)
    if _last_place(settings) == place:
        return False
    with suppress(OSError, TritonError):  # it is only for `auto`
        file = _file(settings)
        make_private(file.parent)
        store.write(file, place)
    return True


def forget(stack: Stack) -> None:
    """Note that the project has nothing in this place any longer, unless something is left there.

    Where its services ran last in another place, that is not forgotten: their data is there.
    """
    place = _last_place(stack.settings)
    if place is None or not _is_there(place, stack) or stack.belongings():
        return
    with suppress(OSError):
        _file(stack.settings).unlink(missing_ok=True)


def _is_there(place: _Place, stack: Stack) -> bool:
    noted, here = place.cluster, stack.cluster
    if noted is None or here is None:
        return place.runtime == stack.runtime
    # The same cluster may be named by several files.
    return (noted.context, noted.namespace) == (here.context, here.namespace)


def _stack(
    settings: Settings, runtime: str, reason: str, *, any_checkout: bool, cluster: Cluster | None = None
) -> Stack:
    stack: Stack
    if form_of(runtime) is Form.PROCESS:
        from triton_env.persistent.embedded.stack import EmbeddedStack

        stack = EmbeddedStack(settings, any_checkout=any_checkout)
    elif form_of(runtime) is Form.POD:
        from triton_env.persistent.kubernetes.stack import KubernetesStack

        stack = KubernetesStack(settings, any_checkout=any_checkout, cluster=cluster)
    else:
        # Loads the Docker SDK.
        from triton_env.persistent.docker.stack import DockerStack

        stack = DockerStack(settings, any_checkout=any_checkout)
    stack.reason = reason
    return stack


def _can_be_processes(settings: Settings) -> bool:
    recipes = [kind.recipe(persistent_settings(settings)) for kind in SERVICES.values()]
    lasting = [recipe for recipe in recipes if recipe.process.lasting]
    return bool(lasting) and not packages.problem_of(lasting)


def _file(settings: Settings) -> Path:
    return lasting_folder(settings, "places") / f"{settings.triton_project}.json"
