"""Keeps secrets out of words that people and log files get to see."""

from collections.abc import Iterable

_SHORTEST = 4
"""Shorter "secrets" would turn ordinary words into stars."""


def redacted(text: str, secrets: Iterable[str]) -> str:
    """`text` with every secret of four characters or more replaced by `***`."""
    for secret in sorted(
        (secret for secret in secrets if len(secret) >= _SHORTEST),
        key=len,
        reverse=True,
    ):
        text = text.replace(secret, "***")
    return text
