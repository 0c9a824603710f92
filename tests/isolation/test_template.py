"""When two templates are the same, and when a changed one is another."""

import functools
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from triton_env import Template
from triton_env.errors import UsageError


def build(namespace: object, number: int = 1) -> None:
    """Fills nothing."""


class Seeds:
    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def __call__(self, namespace: object) -> None:
        """Fills nothing."""

    def build(self, namespace: object) -> None:
        """Fills nothing."""


class Slotted(Seeds):
    __slots__ = ("word",)
    KIND = "a"

    def __init__(self, word: str) -> None:
        super().__init__(1)
        self.word = word

    @classmethod
    def fill(cls, namespace: object) -> str:
        return cls.KIND


class Derived(Slotted):
    KIND = "b"


@dataclass
class Row:
    name: str


SCHEMA = ["create table a ()"]


def helper() -> object:
    return os, SCHEMA


def decorated(word: str) -> Any:
    def decorator(function: Any) -> Any:
        @functools.wraps(function)
        def wrapper(namespace: object) -> object:
            return word, function(namespace)

        return wrapper

    return decorator


def with_rows(rows: Any) -> Any:
    def closure(namespace: object) -> int:
        return len(rows) if isinstance(rows, str) else rows

    return closure


def digest(build: Any, **arguments: Any) -> str:
    return Template(build, **arguments).digest()


def test_the_same_function_is_the_same() -> None:
    assert digest(build) == digest(build)
    assert digest(Seeds(1)) == digest(Seeds(1))
    assert digest(Seeds(1).build) == digest(Seeds(1).build)
    assert digest(with_rows(3)) == digest(with_rows(3))


def test_it_is_the_same_in_another_process() -> None:
    script = (
        "from isolation import test_template as t; from triton_env import Template; import functools\n"
        "print(Template(t.build).digest(), Template(t.with_rows(3)).digest(), Template(t.Seeds(1)).digest(),"
        " Template(functools.partial(t.build, number=2)).digest())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    # This module has another name here than there, so these are imported as there.
    from isolation import test_template as here

    assert done.stdout.split() == [
        digest(here.build),
        digest(here.with_rows(3)),
        digest(here.Seeds(1)),
        digest(functools.partial(here.build, number=2)),
    ]


def test_what_it_is_made_of_tells_it_from_others() -> None:
    made = [
        digest(build),
        digest(build, version="2"),
        digest(functools.partial(build, number=2)),
        digest(functools.partial(build, number=3)),
        digest(with_rows(3)),
        digest(with_rows(4)),
        digest(with_rows("3")),
        digest(lambda namespace: None),
        digest(lambda namespace: 1),
        digest(Seeds(1)),
        digest(Seeds(2)),
        digest(Seeds(1).build),
        digest(Seeds(2).build),
        digest(functools.partial(build, number=[1])),
        digest(functools.partial(build, number=[2])),
        digest(functools.partial(build, number={"a": [1, {2}]})),
        digest(functools.partial(build, number={"a": [1, {3}]})),
        digest(functools.partial(build, number=Row("a"))),
        digest(functools.partial(build, number=Row("b"))),
        digest(with_rows([3])),
        digest(with_rows([4])),
        digest(Slotted("a")),
        digest(Slotted("b")),
        digest(Derived("b").build),
        digest(Slotted.fill),
        digest(Derived.fill),
        digest(with_rows(Slotted("a"))),
        digest(with_rows(Slotted("b"))),
        digest(functools.partial(build, number=Seeds(Seeds(1)))),
        digest(functools.partial(build, number=Seeds(Seeds(2)))),
        digest(functools.partial(build, number=with_rows(1))),
        digest(functools.partial(build, number=with_rows(2))),
        digest(functools.partial(build, number=Seeds(1).build)),
        digest(functools.partial(build, number=Seeds(2).build)),
    ]
    assert len(set(made)) == len(made)


def test_what_modules_hold_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def fills(namespace: object) -> None:
        helper()

    found = [digest(fills), digest(decorated("a")(build)), digest(decorated("b")(build)), digest(build)]
    # As a module that is imported after the file was changed that it reads, and a function of another cell.
    for name, value in (("SCHEMA", "create table b ()"), ("helper", lambda: None)):
        monkeypatch.setitem(globals(), name, value)
        found.append(digest(fills))
    assert len(set(found)) == len(found)


def test_what_a_build_changes_of_its_values_does_not_count() -> None:
    rows = [1]
    template = Template(with_rows(rows))
    before = template.digest()
    rows.append(rows)  # a value in itself, too
    assert template.digest() == before
    assert digest(with_rows(rows)) == digest(with_rows(rows))
    assert digest(with_rows(object())) == digest(with_rows(object())), "there is no address in it"


def test_files_count_with_their_content(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    one, other = tmp_path / "a.sql", tmp_path / "sub" / "b.sql"
    one.write_text("select 1")
    other.write_text("select 2")
    template = Template(tmp_path)
    found = [template.digest()]
    other.write_text("select 3")
    found.append(template.digest())
    other.rename(tmp_path / "sub" / "c.sql")
    found.append(template.digest())
    one.unlink()
    found.append(template.digest())
    found.append(digest(build, inputs=[tmp_path]))
    assert len(set(found)) == len(found)
    assert digest(build, inputs=[tmp_path]) == found[-1]


def test_hidden_files_and_caches_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "a.sql").write_text("select 1")
    before = digest(tmp_path)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "x.pyc").write_bytes(b"x")
    (tmp_path / ".a.sql.swp").write_bytes(b"x")
    assert digest(tmp_path) == before


def test_the_place_of_a_folder_does_not_count(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.sql").write_text("select 1")
    assert digest(tmp_path / "one") == digest(tmp_path / "other")


def test_what_cannot_be_a_template(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a function or a folder, not 7"):
        Template(7)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="An input of the template does not exist"):
        Template(build, inputs=[tmp_path / "absent"])

    async def later(namespace: object) -> None:
        """Fills nothing."""

    def piece_by_piece(namespace: object) -> Iterator[None]:
        yield

    for fills_nothing in (later, piece_by_piece, functools.partial(later)):
        with pytest.raises(UsageError, match="asynchronous or a generator"):
            Template(fills_nothing)
