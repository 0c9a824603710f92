"""Files of this machine as the archive that an engine unpacks into a container."""

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path


def archive_of(files: Mapping[str, Path]) -> bytes:
    """A tar archive of files and whole folders, to be unpacked in the root folder.

    Its entries belong to root and all users may read them, whatever they are here. Folders have no entries of their
    own: the engine makes those that it lacks, and leaves the others as they are.

    Args:
        files: by the absolute paths that they get.
    """
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        for path, source in files.items():
            for file in [source] if source.is_file() else sorted(source.rglob("*")):
                # What Python writes beside modules is that of another Python.
                if not file.is_file() or "__pycache__" in file.parts:
                    continue
                entry = tarfile.TarInfo((Path(path) / file.relative_to(source)).as_posix().lstrip("/"))
                entry.size, entry.mode = file.stat().st_size, 0o755 if file.stat().st_mode & 0o100 else 0o644
                with file.open("rb") as content:
                    tar.addfile(entry, content)
    return target.getvalue()
