"""Write what is said of each setting into `.env.example` and docs/reference/settings.md, from where it is declared.

python scripts/settings_tables.py [--check]

What stands before the first headline of `.env.example`, and around the tables of the reference, is written by hand.
With --check nothing is written, and the status is 1 where something would be.
"""

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import wrap
from typing import Literal, get_args, get_origin

from triton_env.core.setting_types import PortNumber, plain_text
from triton_env.core.settings_group import Field, SettingsGroup
from triton_env.services import SERVICES
from triton_env.settings.own import ApplicationSettings, OwnSettings

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / ".env.example"
REFERENCE = ROOT / "docs" / "reference" / "settings.md"
GROUPS: Mapping[str, type[SettingsGroup]] = {
    **{service.title: service.settings_group for service in SERVICES.values()},
    "triton-env": OwnSettings,
    "The application": ApplicationSettings,
}
WIDTH = 110
_KINDS = {"SecretStr": "secret", "bool": "true or false", "float": "seconds", "int": "whole number", "str": "text"}


def example(old: str) -> str:
    """`.env.example`, of which `old` is the part before the first headline and more."""
    lines = [old.partition("\n# --- ")[0]]
    for title, group in GROUPS.items():
        lines.append(f"# --- {title} ".ljust(107, "-"))
        for field in group.model_fields.values():
            lines += wrap(_plain(field), WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
            lines.append(f"{field.variable}={_default(field)}")
        lines.append("")
    return "\n".join(lines)


def reference(old: str) -> str:
    """docs/reference/settings.md with each of its tables as it has to be."""
    parts = re.split(r"^## (.*)\n", old, flags=re.MULTILINE)
    new = parts[0]
    for headline, text in zip(parts[1::2], parts[2::2], strict=True):
        before, bar, rest = text.partition("\n|")
        after = re.sub(r"\A(.*\n)+?(?!\|)", "", rest) if bar else ""
        table = "\n" + "\n".join(_rows(GROUPS[headline])) + "\n" if bar else ""
        new += f"## {headline}\n{before}{table}{after}"
    return new


def _rows(group: type[SettingsGroup]) -> Iterator[str]:
    yield "| Variable | Type | Default | Meaning |"
    yield "|---|---|---|---|"
    for field in group.model_fields.values():
        default = f"`{_default(field)}`" if _default(field) else "empty"
        yield f"| `{field.variable}` | {_kind(field)} | {default} | {field.doc} |"


def _plain(field: Field) -> str:
    """What a setting means, without Markdown, and which words there are where one of some is to be chosen."""
    text = re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", field.doc).replace("`", "")
    *others, last = _choices(field) or ("", "")
    return f"{', '.join(others)} or {last}. {text}" if last else text


def _choices(field: Field) -> tuple[str, ...]:
    if get_origin(field.annotation) is Literal:
        return get_args(field.annotation)
    return tuple(str(choice) for choice in getattr(field.annotation, "__members__", {}).values())


def _kind(field: Field) -> str:
    if choices := _choices(field):
        return " ".join(f"`{choice}`" for choice in choices)
    if field.limits == get_args(PortNumber)[1:]:
        return "port"
    return _KINDS[field.annotation.__name__]


def _default(field: Field) -> str:
    if isinstance(field.default, bool):
        return str(field.default).lower()
    return f"{field.default:g}" if field.annotation is float else plain_text(field.default)


def main() -> int:
    """Write both, or check them; returns the exit status."""
    status = 0
    for path, rewritten in ((EXAMPLE, example), (REFERENCE, reference)):
        old = path.read_text("utf-8")
        if (new := rewritten(old)) == old:
            continue
        if "--check" in sys.argv[1:]:
            print(f"{path} differs from the settings: python scripts/settings_tables.py", file=sys.stderr)
            status = 1
        else:
            path.write_text(new, "utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main())
