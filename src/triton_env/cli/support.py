"""Facts about versions that people should know before they rely on them."""

import re

_POSTGRES_ENDED = {13: "2025-11-13", 14: "2026-11-12"}
"""PostgreSQL majors without support, and since when: https://www.postgresql.org/support/versioning/"""


def postgres_end_of_life(image: str) -> str:
    """One line about a PostgreSQL image that gets no fixes any more; empty for any other, as far as its tag tells."""
    reference = image.partition("@")[0]
    repository, _, tag = reference.rpartition(":")
    major = re.match(r"\d+", tag)
    if "postgres" not in repository.rpartition("/")[2] or major is None:
        return ""
    number = int(major[0])
    if number > max(_POSTGRES_ENDED):
        return ""
    since = f"on {_POSTGRES_ENDED[number]}" if number in _POSTGRES_ENDED else "long ago"
    return f"PostgreSQL {number} reached its end of life {since} and gets no fixes any more"


MOVE_ON = "set POSTGRES_IMAGE=postgres:18-alpine (or 16, 17) when you can"
"""What to do about it."""
