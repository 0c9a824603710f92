"""What a runtime is called decides nothing outside of the places that choose one: others ask for its form."""

import ast
from pathlib import Path

import triton_env
from triton_env.core.forms import RUNTIME_NAMES

SOURCE = Path(triton_env.__file__).parent
NAMES = {*RUNTIME_NAMES, "persistent"}
CHOOSE = ("modes/", "runtimes/choice.py")
OTHER_THINGS = {
    "backup/display.py": "`auto` of TRITON_PROGRESS",
    "inspection/data.py": "the mode of an entry, which is data",
    "progress/open.py": "`auto` of TRITON_PROGRESS",
    "runtimes/docker/engine_errors.py": "the module docker",
}
"""Where such a word is compared that is not the name of a runtime."""


def compares_names(path: Path) -> bool:
    compared: list[ast.AST] = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Compare):
            compared += [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            compared.append(node.value)
    constants = (each for root in compared for each in ast.walk(root) if isinstance(each, ast.Constant))
    return any(each.value in NAMES for each in constants)


def test_only_what_chooses_a_runtime_compares_names_of_runtimes() -> None:
    places = {str(path.relative_to(SOURCE)) for path in SOURCE.rglob("*.py") if compares_names(path)}
    assert {place for place in places if not place.startswith(CHOOSE)} == OTHER_THINGS.keys()
