"""The public surface: every name that users may rely on, with its signature. `public_surface.txt` is reviewed with it.

python tests/public_surface.py --write
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import griffe

_STARS = {griffe.ParameterKind.var_positional: "*", griffe.ParameterKind.var_keyword: "**"}

FILE = Path(__file__).with_suffix(".txt")


def lines() -> list[str]:
    """One line for each public name, read from the source: nothing is imported."""
    package = griffe.load("triton_env", search_paths=[Path(__file__).parents[1] / "src"], resolve_aliases=True)
    found = {name: package[name] for name in sorted(package.exports or ())}
    return [line for name, thing in found.items() for line in _lines(name, _target(thing))]


def _target(thing: griffe.Object | griffe.Alias) -> griffe.Object:
    return thing.final_target if isinstance(thing, griffe.Alias) else thing


def _lines(path: str, thing: griffe.Object) -> Iterator[str]:
    if isinstance(thing, griffe.Function):
        yield f"{path}{_signature(thing)}"
    elif isinstance(thing, griffe.Class):
        bases = ", ".join(str(base) for base in thing.bases)
        yield f"class {path}({bases})" if bases else f"class {path}"
        # What errors inherit is that of TritonError, which is listed itself.
        members = thing.members if path.startswith("errors.") else thing.all_members
        for name, member in sorted(members.items()):
            if not name.startswith("_") or name == "__init__":
                yield from _lines(f"{path}.{name}", _target(member))
    elif isinstance(thing, griffe.Module):
        yield f"module {path}"
        for name in sorted(thing.exports or _own_names(thing)):
            yield from _lines(f"{path}.{name}", _target(thing[name]))
    elif isinstance(thing, griffe.Attribute):
        kind = f": {thing.annotation}" if thing.annotation else ""
        yield f"{path}{kind}"


def _own_names(module: griffe.Module) -> list[str]:
    return [name for name, member in module.members.items() if not (name.startswith("_") or member.is_alias)]


def _signature(function: griffe.Function) -> str:
    parts, names_only = [], False
    for parameter in function.parameters:
        if parameter.name in ("self", "cls"):
            continue
        if parameter.kind is griffe.ParameterKind.keyword_only and not names_only:
            names_only = True
            parts.append("*")
        star = _STARS.get(parameter.kind, "")
        names_only = names_only or star == "*"
        kind = f": {parameter.annotation}" if parameter.annotation else ""
        default = f" = {parameter.default}" if parameter.default and not star else ""
        parts.append(f"{star}{parameter.name}{kind}{default}")
    answer = f" -> {function.returns}" if function.returns else ""
    return f"({', '.join(parts)}){answer}"


if __name__ == "__main__":
    text = "".join(f"{line}\n" for line in lines())
    if "--write" in sys.argv[1:]:
        FILE.write_text(text, encoding="utf-8")
    else:
        print(text, end="")
