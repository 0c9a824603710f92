"""Environment variables as text: dotenv, shell exports, JSON."""

import json
import re
import shlex
from collections.abc import Mapping

from triton_env.errors import TritonError

FORMATS = ("dotenv", "shell", "json")

_BARE = re.compile(r"(?!=|.*:=)[A-Za-z0-9_@%+=:,./-]*")
"""What stands without quotes; zsh replaces `=NAME` by the path of a program, where a value or a part of it begins."""
_REFERENCE = re.compile(r"\$\{[^}]*\}")


def as_text(variables: Mapping[str, str], form: str) -> str:
    """The variables in one of `FORMATS`, ending in a newline.

    `dotenv` means the same to python-dotenv and to a shell (`set -a; . FILE`); `shell` is for `eval`.

    Raises:
        TritonError: a value that has no such dotenv form.
    """
    if form == "json":
        return json.dumps(dict(variables), indent=2) + "\n"
    if form == "shell":
        return "".join(f"export {name}={_quoted(value)}\n" for name, value in variables.items())
    return "".join(f"{name}={_dotenv(name, value)}\n" for name, value in variables.items())


def _quoted(value: str) -> str:
    quoted = shlex.quote(value)
    return quoted if quoted != value or _BARE.fullmatch(value) else f"'{value}'"


def _dotenv(name: str, value: str) -> str:
    """`value` so that shells and dotenv readers agree on it: they treat backslashes and `$` in quotes differently."""
    if _BARE.fullmatch(value):
        return value
    readable = "\r" not in value and "\0" not in value
    # python-dotenv replaces ${NAME} in single quotes too, and takes a backslash there for an escape.
    if readable and not re.search(r"['\\]", value) and not _REFERENCE.search(value):
        return f"'{value}'"
    if readable and not re.search(r"[$`]", value):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    raise TritonError(
        f"The value of {name} cannot be written so that shells and dotenv readers understand the same.",
        hint="use --format json or --format shell",
    )
