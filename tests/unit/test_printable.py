"""What files and servers say is text to a terminal, never a command."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triton_env.cli.output import print_data, say_notice
from triton_env.core.printable import coloured, one_line, printable

HOSTILE = "\x1b]0;owned\x07\x9b2J\u202e\u2028\ufeff\r\x00"
ESCAPED = r"\x1b]0;owned\x07\x9b2J\u202e\u2028\ufeff\x0d\x00"


@given(st.text(st.characters(), max_size=40))
def test_no_control_character_is_left(text: str) -> None:
    left = [character for character in printable(text) if not character.isprintable()]
    # Blanks other than the plain one are not printable for Python, and harmless.
    assert all(character in "\n\t" or character.isspace() or not character.isascii() for character in left)
    assert "\n" not in one_line(text)
    printable(text).encode()


def test_a_notice_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    say_notice(f"{HOSTILE}\nerror: fake")
    assert capsys.readouterr().err == f"warning: {ESCAPED}\\nerror: fake\n"


@pytest.mark.parametrize("on_a_terminal", [True, False])
def test_data_is_escaped_on_a_terminal_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, on_a_terminal: bool
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: on_a_terminal)
    print_data(HOSTILE, colours=True)
    assert capsys.readouterr().out == f"{ESCAPED if on_a_terminal else HOSTILE}\n"
    assert coloured(f"\x1b[31mred\x1b[0m{HOSTILE}") == f"\x1b[31mred\x1b[0m{ESCAPED}"
