"""Variables that look like settings of triton-env but are not: most often one is misspelt."""

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from triton_env.errors import InvalidSetting
from triton_env.settings import dotenv_file
from triton_env.settings.model import Settings
from triton_env.settings.process import process_environment

_PREFIX = "TRITON_"
_CLOSE = 0.75
"""How similar a name has to be to one of ours. TRITON_CACHE_DIR and others belong to the compiler Triton."""
_OF_KUBERNETES = re.compile(r"_SERVICE_(HOST|PORT)(_|$)|_PORT_\d+_(TCP|UDP|SCTP)(_|$)")
"""Variables that Kubernetes sets for a service whose name begins with "triton"."""

_warned: set[str] = set()
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Unknown:
    """A variable that is not a setting.

    Attributes:
        name: the variable.
        place: where it is set, in words.
        close: the setting that may be meant; empty where none is like it.
    """

    name: str
    place: str
    close: str

    def __str__(self) -> str:
        return f"{self.name} in {self.place} is not a setting of triton-env"


def unknown_variables() -> Iterator[Unknown]:
    """The variables of the process environment and of `.env` that begin with TRITON_ and are not settings."""
    known = {name.upper().removeprefix(_PREFIX): name.upper() for name in Settings.model_fields}
    others: frozenset[str] | None = None
    for place, variables in _places().items():
        for name, value in sorted(variables.items()):
            upper = name.upper()
            if not upper.startswith(_PREFIX) or upper in known.values() or _is_of_kubernetes(upper, value):
                continue
            if others is None:
                others = _of_other_distributions()
            if upper in others:
                continue
            from difflib import get_close_matches

            close = get_close_matches(upper.removeprefix(_PREFIX), known, 1, cutoff=_CLOSE)
            yield Unknown(name, place, known[close[0]] if close else "")


def warn_of_misspelt(say: Callable[[str], None]) -> None:
    """Say once in this process which variables seem to be misspelt, each with the setting that may be meant."""
    for variable in unknown_variables():
        with _lock:
            if not variable.close or variable.name in _warned:
                continue
            _warned.add(variable.name)
        say(f"{variable}; did you mean {variable.close}?")


def _places() -> Mapping[str, Mapping[str, str]]:
    places = {"the process environment": process_environment()}
    if path := dotenv_file.find():
        try:
            places[str(path)] = {name: entry.value for name, entry in dotenv_file.read(path).items()}
        except InvalidSetting:
            # Whatever reads settings says so.
            places[str(path)] = {}
    return places


def _of_other_distributions() -> frozenset[str]:
    """The variables of the services that other distributions bring, without those of broken ones."""
    from triton_env.services import SERVICES

    groups = (SERVICES[name].settings_group for name in set(SERVICES.usable()).difference(SERVICES))
    return frozenset(field.upper() for group in groups for field in group.model_fields)


def _is_of_kubernetes(name: str, value: str) -> bool:
    return value.startswith(("tcp://", "udp://", "sctp://")) or _OF_KUBERNETES.search(name) is not None
