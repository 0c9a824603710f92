"""Access to a service that is a process of this machine, by the private directory of its environment."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from triton_env.core.ending import Ending
from triton_env.core.files import size_of
from triton_env.core.model import Placement, Program, ServiceRecipe
from triton_env.runtimes.embedded.bases import all_bases
from triton_env.runtimes.embedded.server import Server, log_lines, log_size, log_tail
from triton_env.settings import process_environment

LOGS, TEMPORARY, DATA = "logs", "tmp", "data"
"""Folders of the private directory."""
_PASSED_ON = (
    *("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME"),
    # Gives a name to a user who has none, in containers that run as any user.
    *("LD_PRELOAD", "NSS_WRAPPER_PASSWD", "NSS_WRAPPER_GROUP"),
)
"""What programs of this user may need to run. Everything else, such as PGDATA, would only disturb."""


@dataclass(frozen=True, slots=True)
class FolderAccess:
    """See `Access`.

    Attributes:
        folder: the private directory.
        service: the service's name.
    """

    folder: Path
    service: str

    sees_endings: ClassVar[bool] = False

    @property
    def log(self) -> Path:
        """The file that it writes to."""
        return self.folder / LOGS / f"{self.service}.log"

    def logs(self, lines: int, since: float | None = None) -> str:
        return log_tail(self.log, lines, int(since or 0))

    def log_position(self) -> float:
        return log_size(self.log)

    def disk(self) -> int | None:
        # Of a session it may be in memory, in a directory of the same name.
        places = {self.folder, *(base / self.folder.name for base in all_bases())}
        folders = [self.folder / DATA / self.service]
        folders += [folder for place in places for folder in place.glob(f"{self.service}-{DATA}*")]
        return sum(map(size_of, folders))

    def lines(self, tail: int | None, *, follow: bool) -> Iterator[str]:
        return log_lines(self.log, tail, follow=follow)

    def program(
        self,
        recipe: ServiceRecipe,
        placement: Placement,
        argv: Sequence[str],
        environment: Mapping[str, str],
    ) -> Program:
        main = next(iter(placement.endpoints.values()))
        folder = self.folder
        # Of its files nothing is asked for: what is looked up are programs and where it listens.
        server = Server(recipe, folder, folder, placement.sockets or folder, folder, main.host)
        server.ports = {name: endpoint.port for name, endpoint in placement.endpoints.items()}
        name, *arguments = server.resolved(tuple(argv))
        # They come in one folder with the server's own.
        path = Path(server.resolved(recipe.process.argv[:1])[0]).with_name(name)
        return Program((str(path), *arguments), environment_of_servers(folder / TEMPORARY) | dict(environment))

    def ending(self, placement: Placement) -> Ending | None:
        return None


def environment_of_servers(temporary: Path) -> dict[str, str]:
    """The variables that servers and their programs get; `temporary` is their home."""
    ours = process_environment()
    return {
        "PATH": ours.get("PATH", os.defpath),
        "HOME": str(temporary),
        "TMPDIR": str(temporary),
        "LC_ALL": "C.UTF-8" if sys.platform != "darwin" else "en_US.UTF-8",
        # As in the images, whatever this machine's own is.
        "TZ": "UTC",
        "PYTHONUNBUFFERED": "1",
        **{name: ours[name] for name in _PASSED_ON if name in ours},
    }
