"""The processes to which environments belong."""

from contextlib import suppress
from datetime import UTC, datetime

from triton_env.inspection.data import Owner


def owner_of(pid: int, held_by: str, project: str) -> Owner:
    """What is known of a process that has an environment."""
    import psutil

    since, is_alive = None, False
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        is_alive = process.status() != psutil.STATUS_ZOMBIE
        since = datetime.fromtimestamp(process.create_time(), UTC)
    return Owner(pid=pid, held_by=held_by, command=command_of(pid), project=project, since=since, is_alive=is_alive)


def command_of(pid: int) -> str:
    """The command line of a process, in one string; empty where it cannot be read."""
    import psutil

    with suppress(psutil.Error):
        return " ".join(psutil.Process(pid).cmdline())
    return ""
