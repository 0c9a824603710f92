"""A service is named in its own folder, and elsewhere in few files, each for a reason."""

import re
from pathlib import Path

import pytest

import triton_env
from triton_env.services import SERVICES

SOURCE = Path(triton_env.__file__).parent

ELSEWHERE = {
    "__init__.py": "the classes are public",
    "environment.py": "`env.NAME` has the type of the service",
    "isolation/namespace.py": "`namespace.NAME` has the type of the service",
    "services/__init__.py": "the classes by their types, for the folders of the services",
    "services/built_in.py": "the one list of the services that come with triton-env",
    "settings/model.py": "type checkers know each field of `Settings`",
}
"""Files that name each of the services."""
ONE_MORE = {"s3": {"errors.py": "LocalStackTokenRequired is public"}}
WORDS = {"s3": "s3|localstack"}
"""How a service is named; by its name where it is not among them."""


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_named_in_its_folder_and_in_few_other_files(name: str) -> None:
    word = re.compile(WORDS.get(name, name), re.IGNORECASE)
    own = (Path("services", name), Path("servers", name))
    found = {
        str(place)
        for path in SOURCE.rglob("*.py")
        if not any((place := path.relative_to(SOURCE)).is_relative_to(folder) for folder in own)
        and word.search(path.read_text("utf-8"))
    }
    assert len(ELSEWHERE) <= 6
    assert found == ELSEWHERE.keys() | ONE_MORE.get(name, {}).keys()


def test_the_architecture_gives_the_reasons() -> None:
    root = SOURCE.parents[1]
    text = (root / "docs" / "architecture.md").read_text("utf-8")
    section = text.partition("### Where a service is named")[2].partition("\n#")[0]
    named = set(re.findall(r"^\| `([\w/.]+)` \|", section, re.MULTILINE))
    assert named == ELSEWHERE.keys() | {place for more in ONE_MORE.values() for place in more}
