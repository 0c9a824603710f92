"""Tar archives, in which engines and pods hand out the files of data."""

import io
import tarfile


def unpacked(archive: bytes) -> dict[str, bytes]:
    """The regular files of a tar archive by name."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {entry.name: tar.extractfile(entry).read() for entry in tar if entry.isfile()}  # type: ignore[union-attr]
