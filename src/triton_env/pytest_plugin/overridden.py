"""Exported variables that were changed afterwards, so that an application would use other servers than its tests."""

from collections.abc import Mapping
from urllib.parse import SplitResult, urlsplit

import pytest

from triton_env.core.settings_group import Role
from triton_env.errors import UsageError
from triton_env.pytest_plugin.state import State
from triton_env.settings import Settings, process_environment

_PLAIN = ("HOST", "PORT", "DB", "USER", "BUCKET", "REGION")
"""How names of variables end whose values are shown: an application may have any name for a password."""
_HERE = ("localhost", "127.0.0.1", "::1")
_SHOWN = 4
"""Variables that a message names."""


def check(state: State) -> None:
    """See that the application finds what was exported.

    Raises:
        pytest.UsageError: it does not.
    """
    if changed := _changed(state):
        raise pytest.UsageError(f"triton-env: {_explained(state, changed)}")


def see(state: State, item: pytest.Item) -> None:
    """Look at the variables when a test begins, and none of its own fixtures is in force.

    What has changed before the first one, in a worker of pytest-xdist, fails it and the others. What changes later is
    noted for the end of the run: a fixture of a module or session may do so on purpose.
    """
    changed = _changed(state)
    if state.refused is None:
        is_worker = hasattr(item.config, "workerinput")
        state.refused = str(_explained(state, changed)) if is_worker and changed else ""
    if state.refused:
        pytest.fail(f"triton-env: {state.refused}", pytrace=False)
    if new := changed.keys() - state.changed:
        state.changed |= new
        state.problems.append(f"{_listed(new)} no longer had the exported value when {item.nodeid} began")


def _changed(state: State) -> Mapping[str, tuple[str, str | None]]:
    """The variables that lead elsewhere, each with what was exported and what it is now."""
    if state.exported is None:
        return {}
    now = process_environment()
    return {
        name: (value, now.get(name))
        for part in state.exported.parts
        for name, value in part.exported.values.items()
        if now.get(name) != value
        and not _is_harmless(name, part.environment.settings)
        and not _is_same_place(value, now.get(name))
    }


def _is_harmless(name: str, settings: Settings) -> bool:
    """Whether any value of a variable leads to the same server."""
    return name.lower() in settings.names_in(Role.REGION)


def _is_same_place(exported: str, now: str | None) -> bool:
    """Whether two URLs name the same database of the same server: drivers and options are the application's matter."""
    if now is None or "://" not in exported:
        return False
    try:
        return _place(urlsplit(exported)) == _place(urlsplit(now))
    except ValueError:
        return False


def _place(url: SplitResult) -> tuple[str | None, int | None, str]:
    return "localhost" if url.hostname in _HERE else url.hostname, url.port, url.path.rstrip("/")


def _explained(state: State, changed: Mapping[str, tuple[str, str | None]]) -> UsageError:
    name, (exported, now) = next(iter(changed.items()))
    return UsageError(
        f"{_listed(changed)} changed after the export, so the application would not use what its tests use.",
        where=f"{name} is {_shown(name, now)}, and was exported as {_shown(name, exported)}",
        cause=_suspects(state.config, changed),
        hint="do not set them there, or only where they are not set yet (pytest-env: `D:NAME=value`)",
    )


def _suspects(config: pytest.Config, names: Mapping[str, object]) -> str:
    """Who may have done it."""
    plugins = config.pluginmanager
    found = []
    if plugins.has_plugin("env") and any(name in line for line in _lines(config, "env") for name in names):
        found.append("pytest-env (`env`)")
    elif plugins.has_plugin("env"):
        found.append("pytest-env")
    if plugins.has_plugin("dotenv"):
        found.append("pytest-dotenv")
    return ", or ".join([*found, "a conftest.py or what it imports, such as by load_dotenv(override=True)"])


def _lines(config: pytest.Config, option: str) -> list[str]:
    try:
        return [str(line) for line in config.getini(option) or ()]
    except (ValueError, KeyError, TypeError):  # another plugin of that name, with other options
        return []


def _shown(name: str, value: str | None) -> str:
    if value is None:
        return "not set"
    head, separator, rest = value.partition("://")
    if separator:
        return f"{head}://{rest.rpartition('@')[2]}"
    return repr(value) if name.endswith(_PLAIN) else "another value"


def _listed(names: Mapping[str, object] | set[str]) -> str:
    ordered = list(names) if isinstance(names, Mapping) else sorted(names)
    more = f" and {len(ordered) - _SHOWN} more" if len(ordered) > _SHOWN else ""
    return ", ".join(ordered[:_SHOWN]) + more
