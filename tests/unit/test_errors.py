"""Errors: one tree, as drawn; messages that fit a screen; hints that survive."""

import re

import pytest

from triton_env import errors
from triton_env.errors import (
    ExtraMissing,
    NoSharedNetwork,
    NotStarted,
    ServiceExited,
    ServiceNotSelected,
    TritonError,
    UnknownRuntime,
    UnknownService,
    UsageError,
)


def subclasses(kind: type[TritonError]) -> list[type[TritonError]]:
    return [kind, *(nested for child in kind.__subclasses__() for nested in subclasses(child))]


OF_THE_MODULE = [kind for kind in subclasses(TritonError) if kind.__module__ == errors.__name__]
WITH_OWN_ARGUMENTS = {
    UnknownService: ("mongo", ("postgres", "redis")),
    UnknownRuntime: ("podman", ("auto", "docker")),
    ServiceNotSelected: ("s3", ("postgres", "redis")),
    NoSharedNetwork: ("PostgreSQL",),
    ExtraMissing: ("It cannot be shown.", "dashboard", ("starlette", "uvicorn")),
    NotStarted: ("stopped",),
}
PLAIN = [kind for kind in OF_THE_MODULE if kind not in WITH_OWN_ARGUMENTS]


def drawn_parents() -> dict[str, str | None]:
    """From the drawing at the top of the module: each name with its parent."""
    parents: dict[str, str | None] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        node = re.match(r"^((?:[│ ] {3})*(?:[├└]── )?)([A-Z]\w+)(?: {2,}| [a-z]|$)", line)
        if node and (node[1] or node[2] == "TritonError"):
            depth = len(node[1]) // 4
            path[depth:] = [node[2]]
            parents[node[2]] = path[depth - 1] if depth else None
    return parents


def test_the_drawing_is_the_tree() -> None:
    real = {kind.__name__: kind.__base__.__name__ if kind is not TritonError else None for kind in OF_THE_MODULE}
    assert drawn_parents() == real


def test_each_has_words_about_it() -> None:
    assert all(kind.__doc__ for kind in OF_THE_MODULE)


@pytest.mark.parametrize("kind", OF_THE_MODULE)
def test_wrong_use_exits_with_2_and_all_else_with_1(kind: type[TritonError]) -> None:
    assert kind.exit_code == (2 if issubclass(kind, UsageError) else 1)


def test_a_message_says_what_where_cause_log_and_hint() -> None:
    error = ServiceExited(
        "Redis exited while it started.",
        where="container triton-1-redis",
        cause="exit code 1",
        log_tail="first\n\nsecond\n",
        hint="check REDIS_IMAGE",
    )
    assert str(error) == (
        "Redis exited while it started.\n"
        "  where: container triton-1-redis\n"
        "  cause: exit code 1\n"
        "  last log lines:\n"
        "    first\n"
        "    second\n"
        "\n"
        "hint: check REDIS_IMAGE"
    )


def test_what_is_not_known_is_left_out() -> None:
    assert str(TritonError("It broke.")) == "It broke."
    assert str(TritonError("It broke.", log_tail=" \n\n", cause="\n")) == "It broke."


def assert_fits_a_screen(message: str) -> None:
    lines = message.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 120


HUGE_LINE = "x" * 10_000
HUGE_TEXT = "\n".join(f"{number} " + "word " * 100 for number in range(1000))


@pytest.mark.parametrize("huge", [HUGE_LINE, HUGE_TEXT], ids=["line", "text"])
@pytest.mark.parametrize("kind", PLAIN)
def test_every_message_fits_a_screen(kind: type[TritonError], huge: str) -> None:
    error = kind(f"It broke: {huge}", where=huge, cause=huge, log_tail=huge, hint="docker info")
    assert_fits_a_screen(str(error))
    assert str(error).startswith("It broke: ")
    assert str(error).endswith("\n\nhint: docker info")
    # As data it is complete.
    assert error.log_tail == huge


@pytest.mark.parametrize("kind", WITH_OWN_ARGUMENTS)
def test_messages_with_own_arguments_fit_and_have_a_hint(kind: type[TritonError]) -> None:
    message = str(kind(*WITH_OWN_ARGUMENTS[kind]))  # type: ignore[arg-type]
    assert_fits_a_screen(message)
    assert "\n\nhint: " in message


def test_an_unknown_name_of_any_length_fits() -> None:
    assert_fits_a_screen(str(UnknownService(HUGE_LINE, ("redis",))))


def test_the_last_lines_of_the_cause_and_log_are_those_shown() -> None:
    error = TritonError("It broke.", cause=HUGE_TEXT, log_tail=HUGE_TEXT)
    shown = re.findall(r"^\D*(\d+) word", str(error), flags=re.MULTILINE)
    assert shown == ["997", "998", "999", *(str(number) for number in range(988, 1000))]


def test_a_command_in_a_hint_is_wrapped_between_words_only() -> None:
    command = "docker rm -fv $(docker ps -aq --filter label=org.triton-env.environment=" + "0123456789" * 12 + ")"
    message = str(TritonError("It broke.", hint=f"remove them with: {command}"))
    hint = message.partition("hint: ")[2]
    assert " ".join(hint.split()) == f"remove them with: {command}"


def test_colours_and_control_characters_of_logs_do_not_reach_the_terminal() -> None:
    log = "\x1b[31;1mFATAL\x1b[0m\tno space\r\n\x07bell\x1b[2K\n"
    message = str(TritonError("It broke.", log_tail=log))
    assert message == "It broke.\n  last log lines:\n    FATAL   no space\n    \\x07bell\\x1b[2K"


def test_no_part_of_a_message_reaches_the_terminal_as_a_command() -> None:
    hostile = "a\x1b]0;owned\x07\x9b2J\u202e\x00"
    message = str(TritonError(hostile, where=hostile, cause=hostile, log_tail=hostile, hint=hostile))
    assert message.count("a\\x1b]0;owned\\x07\\x9b2J\\u202e\\x00") == 5
    assert all(character.isprintable() or character == "\n" for character in message)
