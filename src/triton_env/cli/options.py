"""Options that several commands take. What they may be is looked up when they are used, not for `--help`."""

from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from pathlib import Path
from string import Template
from typing import Any

import click

from triton_env.cli import completion
from triton_env.cli.choice import Choice
from triton_env.services.built_in import BUILT_IN

passed_on = {"ignore_unknown_options": True, "allow_interspersed_args": False, "help_option_names": ["--help"]}
"""Context settings of commands that pass their arguments on to a program, `-h` included."""


def _names(context: click.Context, parameter: click.Parameter, values: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """The services that are named, each once; empty where none is."""
    if values is None:
        return ()
    from triton_env.services import SERVICES
    from triton_env.services.selection import known_name

    texts = (values,) if isinstance(values, str) else values
    names = dict.fromkeys(known_name(part) for text in texts for part in text.split(",") if part.strip())
    for name in names:
        if name not in SERVICES:
            words = no_such("service", name, tuple(SERVICES)) + _by_option(name, context)
            raise click.BadParameter(words, context, parameter)
    if texts and not names:
        raise click.BadParameter(f"name at least one of {', '.join(SERVICES)}.", context, parameter)
    return tuple(names)


def _runtime(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    from triton_env.core.forms import RUNTIME_NAMES

    name = value.strip().lower()
    if name not in RUNTIME_NAMES:
        raise click.BadParameter(no_such("runtime", name, RUNTIME_NAMES), context, parameter)
    return name


def _session(context: click.Context, parameter: click.Parameter, value: str | None) -> str:
    if value is not None and not value.strip():
        # A variable of a script that is not set; without it the command would work on something else.
        raise click.BadParameter("it is empty; ids are shown by: python -m triton_env status", context, parameter)
    return value or ""


def no_such(kind: str, name: str, known: tuple[str, ...]) -> str:
    """The words for a name that does not exist, with the one that may be meant."""
    return f"there is no {kind} {name!r}; choose from {', '.join(known)}.{guess(name, known)}"


def _by_option(name: str, context: click.Context) -> str:
    """How a command is given an environment whose id it was given as another word; empty where it is not one."""
    if all(each.name != "session" for each in context.command.params):
        return ""
    from triton_env.errors import TritonError
    from triton_env.settings import Settings
    from triton_env.state.registry import Registry, matching

    try:
        is_id = bool(matching(Registry.of(Settings()).running(), name))
    except TritonError:
        return ""
    return f" The environment of that name is chosen by: --session {name}" if is_id else ""


def guess(name: str, known: Iterable[str]) -> str:
    """The name that may be meant, as a sentence that follows another; empty where none is close."""
    from difflib import get_close_matches

    close = get_close_matches(name, list(known), 1)
    return f" Did you mean {close[0]!r}?" if close else ""


_EXAMPLES = {"service": BUILT_IN[0], "other": BUILT_IN[-2]}
"""What $service and $other stand for in the help of commands."""

_SERVICES_HELP = f"Only these of {', '.join(BUILT_IN)} (with commas between)."


def _option_for_services(words: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option(
        "--services",
        "services_option",
        callback=_names,
        metavar="NAME,...",
        shell_complete=completion.services,
        help=words,
    )


_services_option = _option_for_services(f"{_SERVICES_HELP}  [default: all]")
_services_option_without_default = _option_for_services(_SERVICES_HELP)


def _runtime_option(words: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option("--runtime", callback=_runtime, metavar="NAME", shell_complete=completion.runtimes, help=words)


runtime_option = _runtime_option(
    "Where they run: auto, docker, embedded, kubernetes or external.  [default: TRITON_RUNTIME]"
)
persistent_runtime_option = _runtime_option(
    "Where they run: docker, embedded or kubernetes.  [default: TRITON_RUNTIME, else where they ran before]"
)

_project_option = click.option(
    "--project",
    metavar="NAME",
    shell_complete=completion.projects,
    help="The persistent services of this project.  [default: TRITON_PROJECT]",
)
_ENVIRONMENT_OPTIONS = (
    click.option(
        "--session",
        callback=_session,
        metavar="ID",
        shell_complete=completion.sessions,
        help="The session of this id, or of the project of this name.",
    ),
    click.option("--persistent", is_flag=True, help="The persistent services, also while a session runs here."),
    _project_option,
)


def environment_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that choose an environment, as the argument `choice`."""

    @wraps(function)
    def chosen(*, session: str, persistent: bool, project: str | None, **others: Any) -> Any:
        return function(choice=Choice(session, persistent, project), **others)

    for option in reversed(_ENVIRONMENT_OPTIONS):
        chosen = option(chosen)
    return chosen


def persistent_options(command: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The options of a command for persistent services alone, as the argument `choice`. A session is refused."""

    def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def chosen(*, session: str, persistent: bool, project: str | None, **others: Any) -> Any:
            choice = Choice(session, persistent, project)
            if session:
                from triton_env.cli.session import refuse

                refuse(command, choice)
            return function(choice=choice, **others)

        # As other commands have them.
        hidden = click.option("--persistent", is_flag=True, hidden=True)(chosen)
        return _project_option(click.option("--session", callback=_session, hidden=True)(hidden))

    return decorated


def named_services(function: Callable[..., Any]) -> Callable[..., Any]:
    """The services that a command is about, as the argument `services`; empty for all."""
    return _services_argument("[SERVICE]...")(_services_option(_merged(function)))


def environment_and_services(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that choose an environment and [ID] [SERVICE]..., as the arguments `choice` and `services`.

    The first word that is not a service names an environment.
    """
    return _environment_and_services(function, "[ID] [SERVICE]...", _services_option)


def environment_and_required_services(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same, for a command that should not do by accident to all what it was to do to one."""

    @wraps(function)
    def checked(*, services: tuple[str, ...], **others: Any) -> Any:
        if not services:
            raise click.UsageError("Missing argument 'SERVICE...'.")
        return function(services=services, **others)

    return _environment_and_services(checked, "[ID] SERVICE...", _services_option_without_default)


def environment_alone(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that choose an environment and [ID], as the argument `choice`."""

    @wraps(function)
    def chosen(*, name: str | None, choice: Choice, **others: Any) -> Any:
        if name is not None:
            context = click.get_current_context()
            (parameter,) = (each for each in context.command.params if each.name == "name")
            choice = _choice_of(name, choice, context, parameter, takes_services=False)
        return function(choice=choice, **others)

    argument = click.argument("name", required=False, metavar="[ID]", shell_complete=completion.environments)
    return environment_options(argument(chosen))


def _environment_and_services(
    function: Callable[..., Any], metavar: str, option: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> Callable[..., Any]:

    @wraps(function)
    def chosen(*, words: tuple[str, ...], services: tuple[str, ...], choice: Choice, **others: Any) -> Any:
        context = click.get_current_context()
        (parameter,) = (each for each in context.command.params if each.name == "words")
        name, *rest = words or ("",)
        if not name or any(is_service(part) for part in name.split(",")):
            rest = list(words)
        else:
            choice = _choice_of(name, choice, context, parameter)
        named = _names(context, parameter, tuple(rest)) if rest else ()
        return function(choice=choice, services=tuple(dict.fromkeys((*named, *services))), **others)

    argument = click.argument("words", nargs=-1, metavar=metavar, shell_complete=completion.environments_and_services)
    return environment_options(argument(option(_merged(chosen))))


def is_service(word: str) -> bool:
    """Whether a word is the name of a service, or another name of one."""
    from triton_env.services import SERVICES
    from triton_env.services.selection import known_name

    return known_name(word) in SERVICES


def _choice_of(
    name: str, choice: Choice, context: click.Context, parameter: click.Parameter, *, takes_services: bool = True
) -> Choice:
    """The environment of that id, or of the beginning of one.

    Raises:
        BadParameter: there is none.
    """
    from triton_env.inspection import inspect
    from triton_env.services import SERVICES
    from triton_env.settings import Settings
    from triton_env.state.registry import Registry, matching

    unknown = no_such("service", name, tuple(SERVICES)) if takes_services else ""
    if choice != Choice():
        words = "--session, --persistent and --project name an environment already"
        raise click.BadParameter("; ".join(filter(None, [words, unknown])), context, parameter)
    settings = Settings()
    if matching(Registry.of(settings).running(), name):
        return Choice(session=name)
    if any(each.id == name and each.is_persistent for each in inspect(settings).environments):
        return Choice(project=name, any_checkout=True)
    words = ", and ".join(filter(None, [f"no environment has the id {name!r}", unknown]))
    ids = "" if takes_services else ". Ids are shown by: python -m triton_env ps"
    raise click.BadParameter(words + ids, context, parameter)


def _services_argument(metavar: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.argument(
        "services_argument", nargs=-1, callback=_names, metavar=metavar, shell_complete=completion.services
    )


def services_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """--services alone, as the argument `services`, for commands whose arguments are a command line."""
    return _services_option(_merged(function))


def file_and_services(function: Callable[..., Any]) -> Callable[..., Any]:
    """FILE and the services that a command is about, as the arguments `file` and `services`."""

    @wraps(function)
    def split(*, words: tuple[str, ...], services: tuple[str, ...], **others: Any) -> Any:
        from triton_env.services import SERVICES
        from triton_env.services.selection import known_name

        files = [word for word in words if known_name(word) not in SERVICES]
        names = tuple(known_name(word) for word in words if known_name(word) in SERVICES)
        if not files:
            named = f": {words[0]!r} is a service; a file of that name is ./{words[0]}" if words else ""
            raise click.UsageError(f"Missing argument 'FILE'{named}.")
        if len(files) > 1:
            unknown = no_such("service", files[1], tuple(SERVICES))
            raise click.UsageError(f"{files[1]!r}: {unknown}{_by_option(files[1], click.get_current_context())}")
        return function(file=Path(files[0]), services=tuple(dict.fromkeys((*names, *services))), **others)

    return click.argument("words", nargs=-1, metavar="FILE [SERVICE]...")(_services_option(_merged(split)))


def named_in(parameters: Mapping[str, Any]) -> tuple[str, ...]:
    """The services that are named by what click has parsed for a command; empty where none is."""
    given = (parameters.get(name) or () for name in ("services_argument", "services_option"))
    return tuple(dict.fromkeys(name for names in given for name in names))


def _merged(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def merged(*, services_option: tuple[str, ...], services_argument: tuple[str, ...] = (), **others: Any) -> Any:
        named = {"services_argument": services_argument, "services_option": services_option}
        return function(services=named_in(named), **others)

    merged.__doc__ = Template(function.__doc__ or "").safe_substitute(_EXAMPLES)
    return merged


def selected(services: tuple[str, ...]) -> tuple[str, ...]:
    """The services that were asked for, or all."""
    from triton_env.services import SERVICES

    return services or tuple(SERVICES)
