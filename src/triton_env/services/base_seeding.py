"""How a service is filled from the folder of a template: the part `seeding` of a service."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

from triton_env.services.base import Service

ServiceT = TypeVar("ServiceT", bound=Service)


class Seeding(ABC, Generic[ServiceT]):
    """What becomes of the files below the folder of a template that has the service's name."""

    files: ClassVar[str]
    """What these files are, for people: "SQL files"."""
    suffix: ClassVar[str] = ""
    """The end of their names, in lower case; empty where all files are taken."""

    def takes(self, folder: Path) -> bool:
        """Whether a template's folder that has no folder of any service is this service's.

        Raises:
            UsageError: something in it would be left out.
        """
        return False

    @abstractmethod
    def load(self, folder: Path, service: ServiceT) -> None:
        """Fill the service.

        Args:
            folder: the service's, below the folder of a template.
            service: bound to the namespace that is filled.

        Raises:
            UsageError: something in the folder would be left out.
            TemplateFailed: the server refused something; the message names the file and the place in it.
        """


def line_of(text: str, place: int) -> int:
    """The number of the line in which a place of a text is."""
    return text.count("\n", 0, place) + 1
