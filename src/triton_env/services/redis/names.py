"""What of a Redis is the user's: neither isolation nor a restore made it."""

from collections.abc import Collection
from typing import Final

OWN_NUMBERS: Final = range(16)
"""The logical databases of the user, where a Redis has more: those that it has by default."""
NAMESPACE_USER: Final = "triton-namespace"
"""The user of Redis as whom clients of spaces log in."""
RESTORE_KEY: Final = "triton_restore"
"""In a logical database that a restore uses: whose it is, and what is in it."""


def own_numbers(databases: int, taken: Collection[int]) -> list[int]:
    """The logical databases that are the user's.

    Args:
        databases: how many the server has.
        taken: those that spaces have.
    """
    numbers = OWN_NUMBERS if databases > len(OWN_NUMBERS) else range(databases)
    return [number for number in numbers if number not in taken]
