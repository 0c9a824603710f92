"""Whether persistent data fits a server and the settings, and the words where it does not."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from triton_env.core.model import DataCompatibility, DataRecipe, ServiceRecipe
from triton_env.errors import InvalidSetting, TritonError, VolumeMismatch
from triton_env.persistent.stamps import Stamp
from triton_env.services import SERVICES
from triton_env.settings import Settings

START_OVER = "or start over without the data: python -m triton_env reset"
NOT_READABLE = {
    DataCompatibility.ITS_MAJOR: "{title} reads the data of its own major version alone",
    DataCompatibility.NOT_NEWER: "{title} cannot read what a newer version wrote",
    DataCompatibility.ITS_OWN: "{title} keeps data in a form that only its own version reads",
}
_MATTERS_ONCE = "{title} takes {variables} only when it initialises an empty volume"


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One thing that does not fit, in words."""

    what: str
    cause: str
    hint: str


def explain_login_failure(
    recipe: ServiceRecipe, error: BaseException, stamp: Stamp | None = None, *, where: str = "", lost: str = ""
) -> TritonError | None:
    """What a client's error says of the data: that it was initialised with other values.

    Args:
        error: what the client raised, or what was raised from it.
        stamp: that of the data, which knows some of these values.
        where: the data, for people; empty for its volume.
        lost: see `DataRecipe.remedies`.

    Returns:
        The same as an error; None where the error says nothing of the kind.
    """
    data = recipe.data
    if data is None:
        return None
    words = "\n".join(_words(error))
    for variable, pattern in data.login_errors.items():
        match = re.search(pattern, words)
        if match is None:
            continue
        said = next(line.strip() for line in words.splitlines() if match[0] in line)
        old = stamp.facts.get(variable, "") if stamp else ""
        return _made_with_other(recipe, data, variable, old, said, where, lost)
    return None


def check_values(recipe: ServiceRecipe, given: Mapping[str, str], *, where: str, lost: str = "") -> None:
    """See that data was initialised with the values of the settings, of those that only an initialisation takes.

    Args:
        given: by variable, what it was initialised with.
        where: the data, for people.
        lost: see `DataRecipe.remedies`.

    Raises:
        VolumeMismatch: it was initialised with another value.
    """
    data, wanted = recipe.data, recipe.container.environment
    for variable in data.remedies if data else ():
        assert data is not None
        if variable in given and variable in wanted and given[variable] != wanted[variable]:
            old = given[variable] if variable in data.init_values else ""
            raise _made_with_other(recipe, data, variable, old, "", where, lost)


def check_given(
    recipe: ServiceRecipe, settings: Settings, wanted: Mapping[str, str], given: Mapping[str, str], *, where: str
) -> None:
    """See that a server which runs has the names and passwords of the settings.

    Args:
        wanted: by variable, what it would be given now. Those that are none of the settings may differ.
        given: by variable, what it was given.
        where: the server, for people.

    Raises:
        InvalidSetting: one differs.
    """
    fields = settings.with_group(SERVICES[recipe.name].settings_group).model_fields
    for variable, value in wanted.items():
        if variable.lower() in fields and given.get(variable, value) != value:
            raise InvalidSetting(
                f"{recipe.title} runs with another {variable} than the settings have.",
                where=where,
                hint=f"python -m triton_env up applies the settings; or set {variable} as it was",
            )


def _made_with_other(
    recipe: ServiceRecipe, data: DataRecipe, variable: str, old: str, said: str, where: str, lost: str
) -> VolumeMismatch:
    setting = f"{variable}={data.init_values[variable]}" if variable in data.init_values else variable
    new = data.init_values.get(variable, "")
    way_out = data.remedies[variable].format(old=old or "what it was", new=new, lost=lost)
    once = _MATTERS_ONCE.format(title=recipe.title, variables=variable)
    return VolumeMismatch(
        f"{recipe.title} refuses {setting}: its data was initialised with {old or 'another value'}.",
        where=where or f"volume {data.volume} of the project",
        cause=f"{said}\n{once}" if said else once,
        hint=f"{way_out}; {START_OVER}",
    )


SHOWN = {DataCompatibility.ITS_MAJOR: 1, DataCompatibility.NOT_NEWER: 2, DataCompatibility.ITS_OWN: 3}
"""How many numbers of a version count."""


def is_readable(reads: DataCompatibility, data: str, server: str) -> bool:
    """Whether a server of version `server` reads what version `data` wrote. What is not known is left to try."""
    wrote, reads_it = (numbers(version)[: SHOWN[reads]] for version in (data, server))
    if not wrote or not reads_it:
        return True
    return wrote <= reads_it if reads is DataCompatibility.NOT_NEWER else wrote == reads_it


def numbers(text: str) -> tuple[int, ...]:
    """The numbers of the first version in a text."""
    found = re.search(r"\d+(?:\.\d+)*", text)
    return tuple(int(number) for number in found[0].split(".")) if found else ()


def unreadable(recipe: ServiceRecipe, data: DataRecipe, version: str, server: str, stamp: Stamp | None) -> Mismatch:
    """A server that cannot read the data, in words.

    Args:
        version: what wrote the data.
        server: what the server prints of its version.
        stamp: of the data; None where there is none.
    """
    variable, image = recipe.container.image_variable, recipe.container.image
    shown = SHOWN[data.compatibility]
    was = ".".join(map(str, numbers(version)[:shown]))
    back = stamp.image if stamp and stamp.image != image else f"an image of {recipe.title} {was}"
    return Mismatch(
        f"{recipe.title}'s data is of version {was}; the image {image} is "
        f"{'.'.join(map(str, numbers(server)[:shown]))}.",
        NOT_READABLE[data.compatibility].format(title=recipe.title),
        f"set {variable} back to {back}. To move on with the data: with that image python -m triton_env backup FILE, "
        f"then python -m triton_env reset, then set {variable}={image} and python -m triton_env restore FILE",
    )


def refusal(found: Mapping[str, Sequence[Mismatch]], holder: str) -> VolumeMismatch:
    """The error for data that does not fit.

    Args:
        found: what does not fit, by the name of what holds the data.
        holder: what that is: "volume".
    """
    mismatches = [mismatch for of_volume in found.values() for mismatch in of_volume]
    words = [mismatch.what for mismatch in mismatches]
    hints = dict.fromkeys(mismatch.hint for mismatch in mismatches)
    return VolumeMismatch(
        words[0] if len(words) == 1 else f"{len(words)} things do not fit the data:\n  " + "\n  ".join(words),
        where=f"{holder}{'' if len(found) == 1 else 's'} {', '.join(found)}",
        cause="\n".join(dict.fromkeys(mismatch.cause for mismatch in mismatches)),
        hint="; ".join([*hints, START_OVER]),
    )


def _words(error: BaseException | None) -> Iterator[str]:
    """What an exception says, and those that it comes from. No chain is as long as this looks."""
    for _ in range(20):
        if error is None:
            return
        yield str(error)
        error = error.__cause__ or error.__context__
