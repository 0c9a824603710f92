"""Work in threads: that may hang, or that is done several at once."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

_Answer = TypeVar("_Answer")
_Item = TypeVar("_Item")


def in_thread(action: Callable[..., _Answer], *arguments: Any) -> "Future[_Answer]":
    """Do it in a daemon thread: one that hangs may not keep this process from ending.

    Where no thread can be started, it is done at once, in this one.
    """
    future: Future[_Answer] = Future()
    # It runs from now on: no one who waits can cancel it.
    future.set_running_or_notify_cancel()

    def work() -> None:
        try:
            future.set_result(action(*arguments))
        except BaseException as error:
            future.set_exception(error)

    try:
        threading.Thread(target=work, daemon=True).start()
    except RuntimeError:
        # A limit, or the interpreter is on its way out. What cleans up has to be done all the same.
        work()
    return future


def for_each(items: Sequence[_Item], action: Callable[[_Item], _Answer], threads: int) -> list[_Answer]:
    """What `action` makes of each item, several at once.

    The first error is raised when all that had begun is at its end; what had not begun is not done.
    """
    if len(items) < 2:
        return [action(item) for item in items]
    with ThreadPoolExecutor(min(threads, len(items)), thread_name_prefix="triton") as pool:
        futures = [pool.submit(action, item) for item in items]
        waiting = set(futures)
        try:
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
        finally:
            for future in waiting:
                future.cancel()
        return [future.result() for future in futures]
