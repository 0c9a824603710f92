"""The data directories of a project: made at once or not at all, and stamped with what made them."""

import os
import shutil
import threading
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex

from triton_env.core.model import STAMP_FILE, ServiceRecipe
from triton_env.core.private import open_file, sync_folder
from triton_env.errors import VolumeMismatch
from triton_env.persistent.embedded.folder import DataFiles, ProjectFolder
from triton_env.persistent.embedded.orders import Order, made_of, version_of
from triton_env.persistent.fitting import NOT_READABLE, SHOWN, START_OVER, is_readable, numbers
from triton_env.persistent.stamps import Stamp
from triton_env.runtimes.embedded.host import Host
from triton_env.runtimes.embedded.server import Server
from triton_env.services.of_machine import WHEEL

_NEW = ".new"
_MOVE_ON = (
    "To move on with the data: with that {} python -m triton_env backup FILE, then python -m triton_env reset, then "
    "python -m triton_env restore FILE with this one"
)


def fill(server: Server, order: Order, folder: ProjectFolder, host: Host) -> None:
    """Have a server's data directory be there. One that is made appears once it is complete.

    Raises:
        TritonError: it cannot be made.
    """
    data = folder.data(order.service)
    if data.exists():
        return
    owned = folder.owned()
    for left in data.parent.glob(f"{data.name}{_NEW}*"):
        shutil.rmtree(left)
    server.data = owned.servers_folder(f"{data.name}{_NEW}")
    host.data_directory(server, owned, threading.Event()).fill(lambda phase, words: None)
    stamp = Stamp(order.service, order.version, order.made_of, "", order.checkout, order.facts)
    # By now it may be another one than above.
    write_stamp(folder, stamp, server.data)
    # The whole of it before its name: what is there after a power failure is complete.
    os.sync()
    server.data.rename(data)
    sync_folder(data.parent)
    server.data = data


def stamp_of(folder: ProjectFolder, service: str) -> Stamp | None:
    """The stamp of a service's data; None where there is none that can be read."""
    return Stamp.from_json(DataFiles(folder.data(service)).files(STAMP_FILE).get(STAMP_FILE, b""))


def write_stamp(folder: ProjectFolder, stamp: Stamp, data: Path) -> None:
    """Note in a data directory what it is made with, unless it says so already.

    Args:
        folder: of the project.
        stamp: what it is made with.
        data: the directory.

    Raises:
        OSError: it cannot be written.
    """
    old = Stamp.from_json(DataFiles(data).files(STAMP_FILE).get(STAMP_FILE, b""))
    if old and old.is_like(stamp) and old.facts == stamp.facts:
        return
    noted = Stamp(
        *(stamp.service, stamp.version, stamp.image, stamp.image_id, stamp.checkout),
        facts=dict(stamp.facts),
        written=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    # Others may do the same.
    fresh = data / f".{STAMP_FILE}.{token_hex(4)}"
    # The folder is the server's, who could put a link in the place of a name. An open file is what it is.
    descriptor = open_file(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    with os.fdopen(descriptor, "wb") as file:
        file.write(noted.to_json())
        file.flush()
        if account := folder.account():
            os.fchown(descriptor, account.uid, account.gid)
        os.fsync(descriptor)
    fresh.rename(data / STAMP_FILE)


def check(folder: ProjectFolder, recipe: ServiceRecipe) -> Stamp | None:
    """See that a server can read the data that is there. No server touches it for that.

    Args:
        recipe: of the server, whose process is of the form that keeps data.

    Returns:
        The stamp of the data; None where there is none.

    Raises:
        VolumeMismatch: it cannot.
    """
    data, process = folder.data(recipe.name), recipe.process
    if not data.exists():
        return None
    stamp = stamp_of(folder, recipe.name)
    found = None
    with suppress(OSError):
        found = recipe.data.inspect(DataFiles(data)) if recipe.data and recipe.data.inspect else None
    if stamp and stamp.image and not process.shares_data and _program(stamp.image) != _program(made_of(process)):
        raise _of_another_program(recipe, stamp, data)
    wrote = (found.version if found else "") or (stamp.image or stamp.version if stamp else "")
    server = version_of(process)
    if is_readable(process.reads, wrote, server):
        return stamp
    shown = SHOWN[process.reads]
    was, now = (".".join(map(str, numbers(version)[:shown])) for version in (wrote, server))
    back = f"install that version again: pip install '{process.requires[0]}=={was}.*'" if process.requires else ""
    if process.variable and (process.shares_data or process.of_machine):
        back = f"set {process.variable} to a {recipe.title} {was}{f', or {back}' if back else ''}"
    raise VolumeMismatch(
        f"{recipe.title}'s data is of version {was}; the program here ({made_of(process)}) is {now}.",
        where=str(data),
        cause=NOT_READABLE[process.reads].format(title=recipe.title),
        hint=f"{back}. {_MOVE_ON.format('version')}; {START_OVER}",
    )


def _of_another_program(recipe: ServiceRecipe, stamp: Stamp, data: Path) -> VolumeMismatch:
    """The error about data of a program whose form of it this one does not read."""
    process = recipe.process
    # One of the two is of a distribution.
    other = WHEEL if process.of_machine else f"a {recipe.title} {'.'.join(map(str, numbers(stamp.image)))}"
    return VolumeMismatch(
        f"{recipe.title}'s data was written by {stamp.image}, and {made_of(process)} cannot take it over.",
        where=str(data),
        cause="these two programs keep their data in different forms",
        hint=f"set {process.variable} to {other}. {_MOVE_ON.format('program')}; {START_OVER}",
    )


def _program(made_of: str) -> str:
    """The name of a program, without its version."""
    return made_of.partition(" ")[0]
