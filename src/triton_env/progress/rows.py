"""What a display knows about one service while it starts, and the words for it."""

from dataclasses import dataclass

from triton_env.core.timeline import Event, Phase

_WORDS = {Phase.PULL: "looking for its image", Phase.CREATE: "creating", Phase.BOOT: "booting"}
_CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Row:
    """What is known about one service."""

    phase: Phase | None = None
    entered: float = 0
    at: float = 0
    detail: str = ""
    pull: bool = False

    def after(self, event: Event) -> "Row":
        same = event.phase is self.phase
        return Row(
            phase=event.phase,
            entered=self.entered if same else event.at,
            at=event.at,
            detail=event.detail,
            # An image that is there is looked up without a word.
            pull=event.phase is Phase.PULL and (bool(event.detail) or (same and self.pull)),
        )

    @property
    def is_over(self) -> bool:
        """Whether this service's start has come to an end, good or bad."""
        return self.phase in (Phase.READY, Phase.FAILED)

    @property
    def doing(self) -> str:
        """What it does now, in words."""
        if self.phase is None:
            return "waiting"
        if self.phase is Phase.READY:
            return "ready"
        if self.phase is Phase.FAILED:
            return self.detail or "failed"
        return self.detail or _WORDS[self.phase]

    @property
    def outcome(self) -> str:
        """What came of it, in words, when the display has ended."""
        if self.phase is Phase.READY:
            return seconds_words(self.at)
        return self.detail or "failed" if self.phase is Phase.FAILED else _CANCELLED


def seconds_words(seconds: float) -> str:
    """A duration for people."""
    return f"{seconds:.1f} s"
