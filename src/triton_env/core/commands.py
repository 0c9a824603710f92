"""Commands that are shown to people: as they work when pasted into any shell of this machine.

Messages are written with `python -m triton_env` and `pip install`, as in the documents. Another shell may have another
`python`, or none, so `runnable` names this interpreter by its path where a message is printed.
"""

import re
import shlex
import sys
import textwrap
from pathlib import Path
from urllib.parse import unquote, urlsplit

# Compiled when they are first used: most commands print none of these.
_OURS = r"(?<![\w./'-])python(?= -m triton_env\b)"
_INSTALL = r"(?<![\w./'-])(?<!-m )(?<!uv )pip install(?P<what> [^\n]*)"
_REQUIREMENT = r"""(?<= )(['"]?)triton-env(?P<extras>\[[a-z0-9,-]+\])?\1(?![\w.-])"""
_COMMAND = r"""(?x)(?:eval\ "\$\()?(?:cd\ [^&\n]*&&\ )?
        (?:'[^'\n]*'|[\w./+~-]+)\ (?:-m\ (?:triton_env|pip|uv)|pip\ install)\b
        [^,;\n]*"""
_OTHERS = r"(?<![\w./-])(?:docker|export|unset|set -a|ls|sed|chown|chmod|iconv|ALTER|RENAME|sudo|make|ssh) [^,;\n]*"
"""Commands of other programs."""
_SPACE = "\0"
"""Stands for a space at which nothing is wrapped. What is shown has no such character: see `printable`."""


def runnable(text: str) -> str:
    """`text` with its commands as they work in any shell: `python` and `pip` are those of this interpreter."""
    if "pip install" in text:
        text = re.sub(_INSTALL, _installation, text)
    return re.sub(_OURS, lambda _: interpreter(), text) if "python -m triton_env" in text else text


def interpreter() -> str:
    """This interpreter in a command line, quoted where it has to be."""
    return shlex.quote(sys.executable or "python")


def wrapped(text: str, width: int) -> list[str]:
    """The lines of a text, each with as many words as `width` has room for.

    No word is broken, and no command goes over two lines: what is copied would be two commands.
    """
    for pattern in (_COMMAND, _OTHERS):
        text = re.sub(pattern, lambda match: match[0].replace(" ", _SPACE), text)
    lines = [
        part
        for line in text.splitlines()
        for part in textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False) or [""]
    ]
    return [line.replace(_SPACE, " ") for line in lines]


def _installation(match: re.Match[str]) -> str:
    return f"{_installer()} install{re.sub(_REQUIREMENT, _requirement, match['what'])}"


def _installer() -> str:
    """What installs into this interpreter's environment. Those that uv makes have no pip."""
    import importlib.util
    import shutil

    if importlib.util.find_spec("pip"):
        return f"{interpreter()} -m pip"
    if importlib.util.find_spec("uv"):
        return f"{interpreter()} -m uv pip"
    # Its `install` takes the environment by this variable too.
    uv = shutil.which("uv")
    return f"VIRTUAL_ENV={shlex.quote(sys.prefix)} {shlex.quote(uv)} pip" if uv else f"{interpreter()} -m pip"


def _requirement(match: re.Match[str]) -> str:
    """This distribution from where it was installed: a checkout or a wheel is not on an index."""
    url, is_editable = _origin()
    place = Path(unquote(urlsplit(url).path))
    if not url.startswith("file:") or not place.exists():
        return match[0]
    extras = match["extras"] or ""
    return f"-e {shlex.quote(f'{place}{extras}')}" if is_editable else shlex.quote(f"triton-env{extras} @ {url}")


def _origin() -> tuple[str, bool]:
    """The URL that this distribution was installed from, and whether as a link to a checkout; "" for an index.

    https://packaging.python.org/en/latest/specifications/direct-url/
    """
    import json
    from importlib import metadata

    try:
        content = json.loads(metadata.distribution("triton-env").read_text("direct_url.json") or "{}")
    except (metadata.PackageNotFoundError, ValueError):
        return "", False
    return str(content.get("url", "")), bool(content.get("dir_info", {}).get("editable"))
