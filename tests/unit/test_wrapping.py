"""Sentences are wrapped between words, and what is to be copied out of them stays on one line."""

import pytest

from triton_env.core.commands import wrapped
from triton_env.errors import TritonError

PATH = "/home/guest/projects/claims/.venv/lib/python3.11/site-packages/compose/docker-compose"
COMMAND = f"docker compose --file {PATH} up --wait"


@pytest.mark.parametrize("width", [10, 40, 60, 80])
def test_a_line_has_as_many_words_as_there_is_room_for(width: int) -> None:
    text = "the engine is on this machine and reached at its own address " * 5
    lines = wrapped(text.strip(), width)
    assert " ".join(lines) == text.strip()
    assert max(len(line) for line in lines) <= width


@pytest.mark.parametrize("width", [20, 40, 80])
@pytest.mark.parametrize(
    "whole", [PATH, COMMAND, f"sed -n 3p {PATH}", "python -m triton_env restore monday.backup", "iconv -f X -t Y a > b"]
)
def test_paths_and_commands_are_never_broken(whole: str, width: int) -> None:
    text = f"see what is there with {whole}, or wait until it has ended"
    assert [line for line in wrapped(text, width) if whole in line]


@pytest.mark.parametrize("width", [40, 73, 110])
def test_an_error_keeps_them_whole(width: int) -> None:
    error = TritonError(f"There is nothing at {PATH}.", where=PATH, hint=f"start it with: {COMMAND}, then try again")
    shown = error.shown(width)
    assert shown.count(PATH) == 3
    assert COMMAND in shown
    assert all(len(line) <= len("  where: ") + width or PATH in line for line in shown.splitlines())


@pytest.mark.parametrize("width", [20, 40, 80, 110])
@pytest.mark.parametrize("length", [100, 230, 400])
def test_a_long_path_in_a_sentence_is_whole_to_its_end(length: int, width: int) -> None:
    path = f"/tmp/{'folder/' * (length // 7)}.env"
    error = TritonError("It is wrong.", where=f"AWS_SECRET_ACCESS_KEY comes from line 2 of {path}")
    assert path in error.shown(width)


def test_lines_stay_lines() -> None:
    assert wrapped("one\n\ntwo three", 5) == ["one", "", "two", "three"]
