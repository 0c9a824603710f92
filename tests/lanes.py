"""Which tests run and in which process: the long lane is left out, tests that share what they start stay together.

The marks are `long`, for a test, a module or one set of parameters, and `long_on`, for variants by a parameter. Each
kind of fault is looked for outside of the long lane too, by the variant that is quickest or most usual.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

LONG = (
    "random kills, soak, fuzzing, races of eight processes, benchmark scripts, the whole documentation matrix, "
    "traps of the stand-ins, further variants of what one variant shows"
)
"""What the marker `long` is for."""


def is_long(item: pytest.Item) -> bool:
    """Whether a test is in the long lane in this variant only, as the closest mark `long_on` has it.

    `long_on("docker")` means its variants with the parameter "docker", and `long_on()` none, whatever its module says.
    """
    marker = item.get_closest_marker("long_on")
    call = getattr(item, "callspec", None)
    values = {value for value in call.params.values() if isinstance(value, str)} if call else set()
    return bool(marker and values & set(marker.args))


def is_long_among(items: Iterable[pytest.Item]) -> bool:
    """Whether tests of the long lane run too, for which a fixture may have to start more."""
    return any(item.get_closest_marker("long") for item in items)


def is_long_lane_asked_for(config: pytest.Config) -> bool:
    """Whether the command line asks for the long lane: by `--all`, or by an expression that names it."""
    return bool(config.getoption("all_lanes")) or "long" in config.getoption("markexpr")


def leave_out_long(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the tests of the long lane, except those of a file that the command line names."""
    if is_long_lane_asked_for(config):
        return
    arguments = (config.invocation_params.dir / argument.partition("::")[0] for argument in config.args)
    named = {path.resolve() for path in arguments if path.is_file()}
    left_out = {item for item in items if item.get_closest_marker("long") and item.path.resolve() not in named}
    if left_out:
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]


def groups(items: Iterable[pytest.Item]) -> Mapping[str, str]:
    """By the ids of tests: a name for all that have to run in one process.

    These are tests that share a fixture of their module or class, since each process would make it again. Where it is
    made once for each of several values, those that share a value. And those that share the containers of a process.
    """
    leaders: dict[str, str] = {}

    def leader(of: str) -> str:
        while leaders.setdefault(of, of) != of:
            of = leaders[of]
        return of

    grouped = [(item.nodeid, list(_shared(item))) for item in items]
    for nodeid, keys in grouped:
        for key in keys:
            leaders[leader(key)] = leader(nodeid)
    return {nodeid: leader(nodeid) for nodeid, keys in grouped if keys}


def _shared(item: pytest.Item) -> Iterator[str]:
    """A word for each fixture that the test shares with others of its module or class."""
    fixtures: Mapping[str, Any] = getattr(item, "_fixtureinfo").name2fixturedefs  # noqa: B009
    call = getattr(item, "callspec", None)
    values = [
        f"{name}={index}"
        for name, index in (call.indices.items() if call else ())
        if name in fixtures and fixtures[name][-1].scope != "function"
    ]
    if "environments" in fixtures and item.get_closest_marker("docker"):
        yield "environments"
    for name, definitions in fixtures.items():
        # Automatic ones only change what this process does.
        if definitions[-1].scope in ("module", "class") and not definitions[-1]._autouse:
            yield " ".join([str(item.path), name, *values])


class Scheduler(LoadScopeScheduling):
    """Gives each group of tests to one process, and each other test to the next that is free.

    `--dist loadgroup` passes the groups on in the ids of the tests, which pytest 9.2 does not let it change.
    """

    def __init__(self, config: pytest.Config, log: Producer, file: Path) -> None:
        super().__init__(config, log)
        self._file = file
        self._groups: Mapping[str, str] = {}

    def schedule(self) -> None:
        if self.collection is None:
            self._groups = json.loads(self._file.read_text())
        super().schedule()

    def _split_scope(self, nodeid: str) -> str:
        return self._groups.get(nodeid, nodeid)


def pass_on(groups: Mapping[str, str], file: Path) -> None:
    """Write the groups down for the scheduler, which is in another process and knows the ids of the tests only."""
    fresh = file.with_suffix(f".{os.getpid()}")
    fresh.write_text(json.dumps(groups))
    fresh.replace(file)
