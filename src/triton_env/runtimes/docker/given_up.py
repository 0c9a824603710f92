"""What living owners could not remove from an engine and have given up: known to every process of this user.

The labels on an engine say whose something is, and cannot be changed. So a file in the state folder says that its owner
has no more use for it: what looks for remains takes it for one of a dead owner's.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from triton_env.errors import InvalidSetting
from triton_env.runtimes.owner import Owner, OwnerLiveness, OwnerState
from triton_env.settings import Settings
from triton_env.state import store
from triton_env.state.folders import make_private, private_folder

_log = logging.getLogger(__name__)

_FOLDER = "given-up"


@dataclass(frozen=True, slots=True)
class GivenUp:
    """An environment that its owner could not remove.

    Attributes:
        owner: the owner, which may live.
        engine: the address of the engine that has it.
        cause: why it could not be removed.
    """

    owner: Owner
    engine: str
    cause: str


@dataclass(frozen=True, slots=True)
class _Written:
    """The same in a file, with the labels of its owner."""

    owner: Mapping[str, str]
    engine: str
    cause: str


def remember(settings: Settings, given_up: GivenUp) -> None:
    """Let every process of this user know. Where it cannot be written down, there is no other error."""
    try:
        folder = private_folder(settings, _FOLDER)
        make_private(folder)
        path = folder / f"{given_up.owner.environment}.json"
        store.write(path, _Written(given_up.owner.labels(), given_up.engine, given_up.cause))
    except (OSError, InvalidSetting) as error:
        _log.warning(
            "Other processes will not know that the environment %s was given up: %s", given_up.owner.environment, error
        )


def forget(settings: Settings, environment: str) -> None:
    """It was removed after all."""
    with suppress(OSError, InvalidSetting):
        (private_folder(settings, _FOLDER) / f"{environment}.json").unlink(missing_ok=True)


def all_given_up(settings: Settings) -> Mapping[str, GivenUp]:
    """Everything of living owners, by environment. What dead ones had given up is theirs no more, and is forgotten."""
    here = Owner.this_process("")
    found: dict[str, GivenUp] = {}
    for path, given_up in _written(settings):
        if given_up is None or given_up.owner.liveness(here).state in (OwnerState.DEAD, OwnerState.PROBABLY_DEAD):
            with suppress(OSError):
                path.unlink()
        else:
            found[given_up.owner.environment] = given_up
    return found


def liveness_of(owner: Owner, here: Owner, given_up: Mapping[str, GivenUp]) -> OwnerLiveness:
    """What became of an owner. Of what it has given up it is as good as dead."""
    liveness = owner.liveness(here)
    known = given_up.get(owner.environment)
    if liveness.state is OwnerState.LIVES and known is not None and known.owner.labels() == owner.labels():
        return OwnerLiveness(OwnerState.DEAD, f"process {owner.pid} runs, and has given it up: {known.cause}")
    return liveness


def _written(settings: Settings) -> Iterator[tuple[Path, GivenUp | None]]:
    try:
        paths = sorted(private_folder(settings, _FOLDER).glob("*.json"))
    except (OSError, InvalidSetting):
        return
    for path in paths:
        try:
            written = store.read(path, _Written)
            owner = Owner.of_labels(written.owner)
            yield path, GivenUp(owner, written.engine, written.cause) if owner else None
        except FileNotFoundError:  # it has just been removed
            continue
        except (OSError, ValueError):
            yield path, None
