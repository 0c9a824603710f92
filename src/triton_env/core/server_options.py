"""Options of a server as one setting: NAME=VALUE, with commas between them.

What stands between two commas without being such a pair belongs to the value before it, so values may hold commas:
`shared_preload_libraries=auto_explain,pg_stat_statements,max_connections=300`. docker/options/options.sh reads
them as well.
"""

import re

_PAIR = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_.-]*)\s*=\s*(.*)", re.DOTALL)


def parsed(text: str) -> dict[str, str]:
    """The values of options by their names, in their order.

    Raises:
        ValueError: it does not begin with a pair.
    """
    found: list[list[str]] = []
    for piece in text.rstrip(", ").split(",") if text.strip(", ") else ():
        if pair := _PAIR.match(piece):
            found.append([pair[1], pair[2]])
        elif found:
            found[-1][1] += f",{piece}"
        else:
            raise ValueError("it must be NAME=VALUE, with commas between several")
    return {name: value.strip() for name, value in found}


class ServerOptions:
    """What a setting with the options of a server may be.

    Args:
        *taken: those that triton-env sets itself.
    """

    def __init__(self, *taken: str) -> None:
        self._taken = taken

    def __call__(self, value: str) -> str:
        """Raise `ValueError` if it is not a list of options, or has one of those that are taken; else return it."""
        for name in parsed(value):
            if name.lower() in self._taken:
                raise ValueError(f"it may not hold {name}, which triton-env sets itself")
        return value
