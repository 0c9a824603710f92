"""What `auto` meant the last time in a project, so that a change is noticed."""

from pathlib import Path

from triton_env.errors import TritonError
from triton_env.settings import Settings
from triton_env.settings.project_folders import is_root, project_folders

_NAME = "runtimes.json"
_MOST = 200
"""Projects that are remembered."""


def change(settings: Settings, runtime: str) -> str | None:
    """Remember the runtime that was chosen in the current project.

    Returns:
        The last one, if it was another; empty where none is known; None where it was the same.
    """
    from triton_env.state import store
    from triton_env.state.folders import lasting_folder, make_private

    try:
        folder = lasting_folder(settings, "choices")
        make_private(folder)
        file = folder / _NAME
        known = store.found(file, dict[str, str]) or {}
        project = _project()
        last = known.pop(project, "")
        if last == runtime:
            return None
        living = {each: name for each, name in known.items() if Path(each).is_dir()}
        kept = list((living | {project: runtime}).items())[-_MOST:]
        # Another process may do the same. The last one wins, which is as good.
        store.write(file, dict(kept))
    except (OSError, TritonError):
        return ""
    return last


def _project() -> str:
    folders = project_folders(Path.cwd())
    return str(folders[-1] if is_root(folders[-1]) else folders[0])
