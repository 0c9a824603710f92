"""What the contract has to know of a service: how a word is put into it, and how it is found there."""

from collections.abc import Mapping
from typing import Any, Protocol

from triton_env.environment import TritonEnvironment
from triton_env.isolation.namespace import Namespace

Place = TritonEnvironment | Namespace


class Contents(Protocol):
    """One word in a service, as its clients write and read it. Each method makes clients of its own."""

    @property
    def files(self) -> Mapping[str, str]:
        """Files of a template's folder that leave the word "seeded": their text by their paths below that of the
        service. Empty where the service offers no seeding."""

    def put(self, service: Any, word: str) -> None:
        """Have the service hold this word instead of an earlier one."""

    def look(self, service: Any) -> str | None:
        """The word that it holds; None where there is none."""

    def remove(self, service: Any) -> None:
        """Remove the word, which is there, and all that `put` made for it."""


def put(place: Place, contents: Mapping[str, Contents], word: str) -> None:
    """Put a word into each service."""
    for name in _known(place, contents):
        contents[name].put(place.service(name), word)


def look(place: Place, contents: Mapping[str, Contents]) -> dict[str, str | None]:
    """The words in each service, by its name."""
    return {name: contents[name].look(place.service(name)) for name in _known(place, contents)}


def remove(place: Place, contents: Mapping[str, Contents]) -> None:
    """Remove what `put` has put."""
    for name in _known(place, contents):
        contents[name].remove(place.service(name))


def everywhere(place: Place, contents: Mapping[str, Contents], word: str | None) -> dict[str, str | None]:
    """What `look` finds where each service holds that word."""
    return dict.fromkeys(_known(place, contents), word)


def _known(place: Place, contents: Mapping[str, Contents]) -> list[str]:
    return [name for name in place.services if name in contents]
