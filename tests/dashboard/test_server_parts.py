"""Parts of the dashboard that need no server."""

import json
import math
import webbrowser
from importlib.util import find_spec
from pathlib import Path

import pytest

from triton_env import Settings
from triton_env.cli.dashboard import opened
from triton_env.dashboard import extra
from triton_env.dashboard.answers import as_json, data, event
from triton_env.dashboard.guard import Key, token_of
from triton_env.dashboard.logs import new_after
from triton_env.dashboard.watch import with_answers
from triton_env.errors import ExtraMissing, UsageError
from triton_env.inspection import EnvironmentEntry, Inspection, ServiceEntry


@pytest.mark.parametrize(
    ("known", "lines", "new"),
    [
        ("", "abc", "abc"),
        ("abc", "abc", ""),
        ("abc", "abcde", "de"),
        ("abc", "bcd", "d"),
        ("abc", "xyz", "xyz"),
        ("aab", "abab", "ab"),
        ("abc", "", ""),
    ],
)
def test_a_log_that_is_read_again_shows_no_line_twice(known: str, lines: str, new: str) -> None:
    assert "".join(new_after(list(known), list(lines))) == new


def test_data_is_what_a_browser_reads_without_loss() -> None:
    found = json.loads(json.dumps(as_json({"a": (math.nan, math.inf, 2**53 + 1, -(2**63), 1.5, None, True)})))

    assert found == {"a": [None, None, "9007199254740993", "-9223372036854775808", 1.5, None, True]}


def test_half_a_character_is_an_answer_too() -> None:
    assert data({"name": "\udc80é"}).body == b'{"name":"\\udc80\\u00e9"}'


def test_no_text_ends_an_event() -> None:
    encoded = event("line", "a\n\ndata: forged\r\u2028")

    assert encoded.count(b"\n") == 3
    assert json.loads(encoded.decode().partition("data: ")[2]) == "a\n\ndata: forged\r\u2028"


def test_what_is_seen_without_asking_is_not_replaced_by_an_earlier_answer() -> None:
    seen = ServiceEntry(
        name="redis", title="Redis", state="running", host=None, ports={}, url=None, container=None, pid=2
    )
    answer = seen.model_copy(update={"pid": 1, "version": "8.0", "url": "redis://***@host"})

    def inspection(service: ServiceEntry) -> Inspection:
        entry = EnvironmentEntry(
            id="app",
            mode="persistent",
            runtime="embedded",
            reason="",
            started=None,
            owner=None,
            users=(),
            is_offered=False,
            services=(service,),
            spaces=(),
            timeline=(),
        )
        return Inspection(asked=False, environments=(entry,), leftovers=None, engine_problem=None)

    (environment,) = with_answers(inspection(seen), inspection(answer)).environments
    assert environment.services == (answer.model_copy(update={"pid": 2}),)
    without = seen.model_copy(update={"pid": None})
    (environment,) = with_answers(inspection(without), inspection(answer)).environments
    assert environment.services == (answer,)


def test_without_its_packages_the_command_says_how_to_install_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extra, "find_spec", lambda name: None if name == "starlette" else find_spec(name))

    with pytest.raises(ExtraMissing) as caught:
        extra.check_installed()
    assert "starlette" in caught.value.cause
    assert "uvicorn" not in caught.value.cause
    assert "triton-env[dashboard]" in caught.value.hint


def test_the_browser_is_opened_without_the_token_in_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words: list[str] = []
    monkeypatch.setattr(webbrowser, "open", words.append)
    url = Key(8123).url

    with opened(Settings(triton_state_dir=str(tmp_path)), url):
        (file,) = (tmp_path / "dashboard").iterdir()
        assert words == [file.as_uri()]
        assert f'content="0; url={url}"' in file.read_text()
        assert file.stat().st_mode & 0o777 == 0o600
    assert not file.exists()


def test_the_token_of_a_file_stays(tmp_path: Path) -> None:
    file = tmp_path / "token"
    token = token_of(file)

    assert token_of(file) == token == file.read_text().strip()
    assert file.stat().st_mode & 0o777 == 0o600
    file.chmod(0o644)
    with pytest.raises(UsageError, match="Others can read"):
        token_of(file)
    file.chmod(0o600)
    file.write_text("short")
    with pytest.raises(UsageError, match="no token"):
        token_of(file)
    with pytest.raises(UsageError, match="cannot be used") as missing:
        token_of(tmp_path / "missing" / "token")
    assert missing.value.hint.startswith(f"mkdir -p {tmp_path}/missing")
