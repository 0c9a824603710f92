"""Objects of a cluster as YAML that people read and `kubectl` takes."""

import base64
import re
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from triton_env.errors import ExtraMissing
from triton_env.runtimes.kubernetes.objects import Object

if TYPE_CHECKING:
    import yaml

_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_/.:-]*[A-Za-z0-9]")
"""Text that means itself without quotes, and is not what another YAML takes for a number or, as `y`, for a truth."""
_READABLE = {"Secret": ("data", "stringData"), "ConfigMap": ("binaryData", "data")}
"""Fields of kinds in which bytes stand as base64, and those in which they may stand as text instead."""


def as_yaml(objects: Iterable[Object]) -> str:
    """Some objects, each as a document.

    Raises:
        ExtraMissing: PyYAML is not installed.
    """
    if find_spec("yaml") is None:
        raise ExtraMissing("Manifests cannot be printed here.", "kubernetes", ("pyyaml",))
    import yaml

    class Dumper(yaml.SafeDumper):
        """Writes text on several lines as it is, and what is the same twice in both places."""

        def ignore_aliases(self, data: object) -> bool:
            return True

    Dumper.add_representer(str, _represented)
    return yaml.dump_all(
        map(_readable, objects),
        Dumper=Dumper,
        sort_keys=False,
        default_flow_style=False,
        width=2**16,
        allow_unicode=True,
    )


def _represented(dumper: "yaml.SafeDumper", text: str) -> "yaml.ScalarNode":
    style = "|" if "\n" in text else None if _PLAIN.fullmatch(text) else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _readable(found: Object) -> Mapping[str, Any]:
    """An object whose bytes stand as text where they are."""
    encoded, plain = _READABLE.get(found["kind"], ("", ""))
    if encoded not in found:
        return found
    readable: dict[str, Any] = {name: value for name, value in found.items() if name != encoded}
    for name, value in found[encoded].items():
        content = base64.b64decode(value)
        try:
            readable.setdefault(plain, {})[name] = content.decode()
        except UnicodeDecodeError:
            readable.setdefault(encoded, {})[name] = value
    return readable
