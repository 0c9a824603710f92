"""Files that come with triton-env beside its code: the compose file, what containers mount, and `.env.example`."""

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


def packaged_file(path: str) -> Path:
    """The file or folder of that path, as it stands in the repository: `docker-compose.yml`, say."""
    packaged = _PACKAGE / "compose" / path
    # In a checkout nothing is copied: they are used where they are.
    return packaged if packaged.exists() else _PACKAGE.parents[1] / path
