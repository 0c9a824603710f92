"""`%load_ext triton_env`: SQL in the cells of a notebook, and in IPython on a terminal."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from keyword import iskeyword
from typing import Any

from triton_env.core import interrupts
from triton_env.environment import TritonEnvironment
from triton_env.errors import UsageError
from triton_env.services import SERVICES

_OPTION = re.compile(r"\s*--(?P<name>\w[\w-]*)(?:\s*=\s*|\s+)?(?P<value>[^\s-]\S*)?")
_OPTIONS = ("env", "out")
_HELP = """\
Run SQL on {titles} of a running TritonEnvironment.

%%sql {names} [--env NAME] [--out NAME]   with statements in the lines below
%sql  {names} [--env NAME] [--out NAME] STATEMENT

--env NAME: the variable with the environment or namespace; not needed where one environment runs.
--out NAME: keep the result in this variable instead of showing it.

The result of the last statement that has rows is a DataFrame where pandas is installed, else a table.
{parameters} stand for the value of that variable.
"""


@dataclass(frozen=True, slots=True)
class _Request:
    """What a magic line asks for.

    Attributes:
        service: the name of the service.
        sql: the rest of the line.
        env: the variable that holds the environment; empty for the only one that runs.
        out: the variable to keep the result in; empty to show it.
    """

    service: str
    sql: str
    env: str
    out: str


def load(ipython: Any) -> None:
    """Register the magic in a shell.

    Args:
        ipython: the shell, an `InteractiveShell`.
    """
    from IPython.core.magic import no_var_expand

    def sql(line: str, cell: str | None = None) -> Any:
        return run(line, cell, ipython.user_ns)

    sql.__doc__ = _help()
    # IPython would put values into the line by itself, as text: wrong in SQL, and not what `{name:Type}` means there.
    ipython.register_magic_function(no_var_expand(sql), "line_cell", "sql")


def run(line: str, cell: str | None, variables: dict[str, Any]) -> Any:
    """Do what a line or cell asks for; returns the rows that it is to show, or None.

    Args:
        line: what follows `%sql` or `%%sql`.
        cell: the lines below it; None for a line alone.
        variables: the user's.

    Raises:
        TritonError: it cannot be done. A notebook shows the message alone, without a traceback.
    """
    request = _parsed(line)
    service = _service(_environment(request, variables), request.service)
    text = request.sql if cell is None else f"{request.sql}\n{cell}"
    outcome = SERVICES[request.service].parts.load("sql").run(service, text, variables)
    # Where rows are shown, the statements before them are not reported.
    for words in (*outcome.notices, *(outcome.done if outcome.result is None else ())):
        print(words)
    if not request.out:
        return outcome.result
    variables[request.out] = outcome.result
    return None


def _speak_sql() -> list[str]:
    """The services that do."""
    return [name for name, service in SERVICES.items() if service.parts.sql]


def _help() -> str:
    names = _speak_sql()
    titles = {name: SERVICES[name].title for name in names}
    parameters = [f"`{SERVICES[name].parts.load('sql').parameter}` ({titles[name]})" for name in names]
    return _HELP.format(names="|".join(names), titles=" or ".join(titles.values()), parameters=" and ".join(parameters))


def _example() -> str:
    first, *_, last = _speak_sql()
    return f"%%sql {first}, and the statements in the lines below it; or in one line: %sql {last} select 1"


def _parsed(line: str) -> _Request:
    options: dict[str, str] = {}
    rest = _without_options(line, options)
    service, rest = (*rest.split(None, 1), "", "")[:2]
    rest = _without_options(rest, options)
    if service not in SERVICES or not SERVICES[service].parts.sql:
        known = " or ".join(_speak_sql())
        what = f"There is no SQL for {service!r}: it is {known}." if service else f"%sql needs to know where: {known}."
        raise UsageError(what, hint=_example())
    out = options.get("out", "")
    if out and (not out.isidentifier() or iskeyword(out)):
        raise UsageError(f"{out!r} cannot be the name of a variable.", where="--out", hint="--out claims")
    return _Request(service, rest, options.get("env", ""), out)


def _without_options(text: str, options: dict[str, str]) -> str:
    text = text.strip()
    while (match := _OPTION.match(text)) and match.start() == 0:
        name, value = match["name"], match["value"]
        if name not in _OPTIONS:
            raise UsageError(
                f"Unknown option --{name}.", hint="--env NAME and --out NAME, before the statement; see %sql?"
            )
        if not value:
            raise UsageError(f"--{name} needs the name of a variable.", hint=f"--{name} claims")
        options[name] = value
        text = text[match.end() :].strip()
    return text


def _environment(request: _Request, variables: Mapping[str, Any]) -> Any:
    if request.env:
        if request.env not in variables:
            raise UsageError(
                f"The variable {request.env!r} is not defined.",
                where="--env",
                hint=f"{request.env} = TritonEnvironment().start()",
            )
        return variables[request.env]
    running = [each for each in interrupts.living() if isinstance(each, TritonEnvironment)]
    fitting = [each for each in running if request.service in each.services]
    if len(fitting) == 1:
        return fitting[0]
    title = SERVICES[request.service].title
    if not fitting:
        raise UsageError(
            f"No environment with {title} runs in this notebook.",
            where=", ".join(f"there is {each!r}" for each in running),
            hint="env = TritonEnvironment().start()",
        )
    names = _names_of(fitting, variables)
    raise UsageError(
        f"{len(fitting)} environments with {title} run in this notebook.",
        where=", ".join(names),
        hint=f"name one: %%sql {request.service} --env {names[0] if names else 'NAME'}",
    )


def _names_of(environments: Sequence[object], variables: Mapping[str, Any]) -> list[str]:
    return [
        name
        for name, value in variables.items()
        if not name.startswith("_") and any(value is environment for environment in environments)
    ]


def _service(environment: Any, name: str) -> Any:
    """The service of an environment or of a namespace, which have the same attributes."""
    service = getattr(environment, name, None)
    if not isinstance(service, SERVICES[name]):
        raise UsageError(
            f"--env has to name an environment or a namespace, not a {type(environment).__name__}.",
            hint="env = TritonEnvironment().start(), then --env env",
        )
    return service
