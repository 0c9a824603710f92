"""Commands for another shell: it stands in another folder, and has other variables."""

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from triton_env.cli.choice import Choice
from triton_env.persistent.settings import DEFAULT_PROJECT
from triton_env.settings import dotenv_file
from triton_env.state.folders import private_folder

if TYPE_CHECKING:
    from triton_env.settings import Settings


def variables_of_session(settings: "Settings", environment: str, form: str = "") -> str:
    """The command that prints the variables of an environment which is listed.

    Args:
        settings: those with which it was listed.
        form: of the output; empty for the usual one.
    """
    base = private_folder(settings, "environments").parent
    place = "" if _is_usual(base, settings) else f"TRITON_STATE_DIR={shlex.quote(str(base.absolute()))} "
    return f"{place}python -m triton_env env --session {environment}{_option(form)}"


def variables_of_persistent(settings: "Settings", form: str = "") -> str:
    """The command that prints the variables of persistent services."""
    return for_persistent(settings, "env", f" --persistent{_option(form)}")


def for_persistent(settings: "Settings", command: str, options: str = "") -> str:
    """A command for the persistent services of these settings."""
    file = dotenv_file.find()
    folder = f"cd {shlex.quote(str(file.parent))} && " if file else ""
    project = settings.triton_project if settings.triton_project != DEFAULT_PROJECT else None
    return f"{folder}python -m triton_env {command}{options}{Choice(project=project).option}"


def evaluated(command: str) -> str:
    """A shell's command that takes over the variables which another one prints."""
    return f'eval "$({command})"'


def _is_usual(base: Path, settings: "Settings") -> bool:
    """Whether a shell without any variables looks for environments there too."""
    if settings.triton_state_dir:
        return False
    usual = (f"/run/user/{os.getuid()}", f"/tmp/runtime-{os.getuid()}")  # noqa: S108 - as platformdirs does
    return sys.platform == "darwin" or str(base.parent) in usual


def _option(form: str) -> str:
    return f" --format {form}" if form else ""
