"""Statements whose order is not known: what fails is tried again once others have succeeded."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from triton_env.services.clickhouse.http import ServerError

_Item = TypeVar("_Item")


def in_working_order(
    items: Sequence[_Item], act: Callable[[_Item], None], is_ready: Callable[[_Item], bool] = lambda item: True
) -> list[_Item]:
    """Do it with all of these, each as soon as the server lets it.

    Args:
        items: in the order in which they are tried.
        act: what is done with each.
        is_ready: whether it is worth a try yet. Where none is, and none has failed, all are tried all the same.

    Returns:
        The items in the order in which it succeeded.

    Raises:
        ServerError: that of the last one that failed, once none succeeds.
    """
    done: list[_Item] = []
    waiting = list(items)
    is_hasty = False
    while waiting:
        postponed: list[_Item] = []
        problem: ServerError | None = None
        for item in waiting:
            if not (is_hasty or is_ready(item)):
                postponed.append(item)
                continue
            try:
                act(item)
            except ServerError as error:
                problem = error
                postponed.append(item)
            else:
                done.append(item)
        is_stuck = len(postponed) == len(waiting)
        if is_stuck and problem is not None:
            raise problem
        is_hasty = is_stuck
        waiting = postponed
    return done
