"""What people should know of a PostgreSQL before they rely on it."""

import re
from collections.abc import Iterator
from typing import Final

from triton_env.core.findings import Finding, Verdict
from triton_env.services.base_checks import Checks

_ENDED: Final = {13: "2025-11-13", 14: "2026-11-12"}
"""PostgreSQL majors without support, and since when: https://www.postgresql.org/support/versioning/"""


def end_of_life(image: str) -> str:
    """One line about a PostgreSQL image that no longer gets fixes; empty for any other, as far as its tag shows."""
    reference = image.partition("@")[0]
    repository, _, tag = reference.rpartition(":")
    major = re.match(r"\d+", tag)
    if "postgres" not in repository.rpartition("/")[2] or major is None:
        return ""
    number = int(major[0])
    if number > max(_ENDED):
        return ""
    since = f"on {_ENDED[number]}" if number in _ENDED else "long ago"
    return f"PostgreSQL {number} reached its end of life {since} and no longer gets fixes"


class PostgresChecks(Checks):
    """The end of life of majors."""

    def of_image(self, image: str) -> Iterator[Finding]:
        if ended := end_of_life(image):
            move_on = "set POSTGRES_IMAGE=postgres:18-alpine (or 16, 17) when you can"
            yield Finding("images", Verdict.WARNING, ended, move_on)


CHECKS: Final = PostgresChecks()
