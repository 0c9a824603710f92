"""Errors in words for agents: what can be done next is a tool, and not a line of a shell, Python or a notebook."""

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

from triton_env.errors import TritonError

_HINTS: tuple[tuple[str, str], ...] = (
    (r"(?:see what runs: )?python -m triton_env ps\b.*", "list_environments has the ids of what runs"),
    (r"%sql \S+ (select 1), or .*", r"give one, such as: \1"),
    (r"print\(env\.logs\('(\w+)'\)\) may say why.*", r"service_logs of \1 may say why"),
    (r"env\.snapshot\((.*?)\) takes one", r"take_snapshot with the name \1 takes one"),
    (r", for example services=\(.*\)", ""),
    (r"set TRITON_RUNTIME or runtime= to", "set `runtime` to"),
    (r", or replace it with --force.*", ""),
)
"""How hints for people begin or end, and what stands in that place for agents."""


def for_agents(error: TritonError) -> str:
    """The message of an error."""
    hint = error.hint
    for pattern, words in _HINTS:
        hint = re.sub(pattern, words, hint)
    if hint.startswith("python -m "):
        hint = f"in a shell: {hint}"
    where = error.where.replace(" of the cell", " of the statement")
    return str(TritonError(error.what, where=where, cause=error.cause, log_tail=error.log_tail, hint=hint))


def wrong_arguments(tool: Callable[..., Any], given: Mapping[str, Any], problems: Mapping[str, str]) -> str:
    """What is wrong with the arguments of a tool, and what it takes; empty where nothing is.

    Args:
        tool: that is called.
        given: the arguments.
        problems: with values, by the name of their argument.
    """
    parameters = inspect.signature(tool).parameters
    needed = [name for name, each in parameters.items() if each.default is each.empty]
    wrong = [f"`{name}` is missing" for name in needed if name not in given]
    wrong += [f"the argument `{name}` is not known" for name in given if name not in parameters]
    wrong += [f"`{name}`: {words}" for name, words in problems.items() if name in given]
    if not wrong:
        return ""
    takes = ", ".join(name if name in needed else f"{name} (optional)" for name in parameters)
    return f"{'; '.join(wrong)}. It takes: {takes or 'nothing'}."
