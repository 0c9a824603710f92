"""What `doctor` finds."""

from dataclasses import dataclass
from enum import StrEnum

from triton_env.errors import InvalidSetting


class Verdict(StrEnum):
    """How a finding is to be taken."""

    GOOD = "good"
    NOTE = "note"
    """Neither good nor bad: good to know, with nothing to be done about it."""
    WARNING = "warning"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `doctor`.

    Attributes:
        subject: what was looked at.
        verdict: whether it is fine.
        words: what was found.
        hint: what to do about it, best a command; empty where there is nothing to do.
        document: a text that the hint speaks of, to be copied as it is; empty where it speaks of none.
    """

    subject: str
    verdict: Verdict
    words: str
    hint: str = ""
    document: str = ""


def finding_of(error: InvalidSetting, verdict: Verdict) -> Finding:
    """What a setting that cannot be used is as a finding."""
    return Finding("settings", verdict, f"{error.what} {error.cause or error.where}".strip(), error.hint)
