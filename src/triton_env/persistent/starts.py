"""How the persistent services of a project were started, for those who look at them later."""

from contextlib import suppress
from pathlib import Path

from triton_env.core.timeline import Phase, Timeline
from triton_env.errors import TritonError
from triton_env.settings import Settings
from triton_env.state import store
from triton_env.state.folders import lasting_folder, make_private


def note(settings: Settings, runtime: str, timeline: Timeline) -> None:
    """Note a start, unless all of it ran already. What ran already is left out.

    Args:
        settings: which project.
        runtime: where its services run.
        timeline: of the start.
    """
    made = {span.service for span in timeline.spans if span.phase is Phase.CREATE}
    if not made:
        return
    with suppress(OSError, TritonError):  # a full disk, say: the services are worth more than the note
        file = _file(settings, runtime)
        make_private(file.parent)
        store.write(file, Timeline(tuple(span for span in timeline.spans if span.service in made)))


def last(settings: Settings, runtime: str) -> Timeline:
    """The last start of the project; empty where it is not known. The arguments are those of `note`."""
    return store.found(_file(settings, runtime), Timeline) or Timeline(())


def forget(settings: Settings, runtime: str) -> None:
    """Note that all services of the project were stopped or removed."""
    with suppress(OSError):
        _file(settings, runtime).unlink(missing_ok=True)


def _file(settings: Settings, runtime: str) -> Path:
    return lasting_folder(settings, "starts") / f"{settings.triton_project}@{runtime}.json"
