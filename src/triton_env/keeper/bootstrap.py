"""The keeper's first steps, as a script: leave the process that started it, and find its modules.

    python -I -S bootstrap.py FOLDER ALIVE_FD

With the standard library alone and before anything else is loaded, so that the starter waits for some 15 ms.
"""

import json
import os
import site
import sys
from contextlib import suppress


def main() -> None:
    """Fork; the parent returns to its starter, the child keeps the environment until it is unused."""
    folder, descriptor = sys.argv[1], int(sys.argv[2])
    # Started in a session of its own, of which the parent was the leader.
    if os.fork():
        os._exit(0)
    try:
        _keep(folder, descriptor)
    except BaseException:
        # Where the disk is full, the log has room for the reason then.
        with suppress(OSError):
            os.unlink(os.path.join(folder, "spare"))
        raise


def _keep(folder: str, descriptor: int) -> None:
    os.set_inheritable(descriptor, False)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
    # What `-S` left out: in a virtual environment `sys.prefix` is set by it.
    site.main()
    with open(os.path.join(folder, "order"), encoding="utf-8") as file:
        # This file's folder is not among them.
        sys.path[:] = json.load(file)["path"]
    from triton_env.keeper.main import keep

    keep(folder)


if __name__ == "__main__":
    main()
