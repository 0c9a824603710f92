"""The runtimes by name, and the form in which each has services: also that of one which another process runs."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, Literal, get_args


class Form(StrEnum):
    """Which part of a recipe a runtime executes."""

    CONTAINER = "container"
    """A container of the image that the settings name."""
    POD = "pod"
    """A pod of that image, in a cluster."""
    PROCESS = "process"
    """A process of this machine, from Python distributions."""
    EXTERNAL = "external"
    """A server that others run."""

    @property
    def is_started_by_us(self) -> bool:
        """Whether triton-env starts the servers, and ends them."""
        return self is not Form.EXTERNAL

    @property
    def has_image(self) -> bool:
        """Whether the services are of the images that the settings name."""
        return self in (Form.CONTAINER, Form.POD)


RuntimeName = Literal["auto", "docker", "embedded", "kubernetes", "external"]
RUNTIME_NAMES: Final[tuple[str, ...]] = get_args(RuntimeName)
"""What a runtime may be asked for by."""
_AUTO = RUNTIME_NAMES[0]
_FORMS: Mapping[str, Form] = {
    "docker": Form.CONTAINER,
    "embedded": Form.PROCESS,
    "kubernetes": Form.POD,
    "external": Form.EXTERNAL,
}
_FOUND_BY_AUTO = (Form.CONTAINER, Form.PROCESS)
"""A cluster is used by others too: it is taken where it was named, and nowhere else."""


def form_of(runtime: str) -> Form:
    """The form in which the runtime of that name has services."""
    return _FORMS[runtime]


def forms_for(asked: str) -> tuple[Form, ...]:
    """Those that services may have where this runtime was asked for, by its name or by `auto`."""
    if is_named(asked):
        return (_FORMS[asked],)
    return _FOUND_BY_AUTO


def is_named(asked: str) -> bool:
    """Whether this is the name of a runtime, which leaves no choice."""
    return asked in _FORMS


def suits(runtime: str, asked: str) -> bool:
    """Whether this runtime is what was asked for, by its name or by `auto`."""
    return asked in (_AUTO, runtime)
