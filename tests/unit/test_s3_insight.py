"""How the beginning of an object is shown."""

import pytest

from triton_env.services.s3.insight import _shown


@pytest.mark.parametrize("letter", ["e", "é", "日", "😀"])
@pytest.mark.parametrize("cut", [0, 1, 2, 3])
def test_text_is_shown_wherever_it_is_cut(letter: str, cut: int) -> None:
    content = (letter * 10).encode()
    assert _shown(content[: len(content) - cut], len(content)) == letter * (10 - -(-cut // len(letter.encode())))


@pytest.mark.parametrize("content", [b"a\0b", b"\xff\xfe", "é".encode()[:1]])
def test_all_else_is_shown_in_bytes(content: bytes) -> None:
    assert _shown(content, len(content)) == content.hex(" ")
