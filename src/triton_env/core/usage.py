"""How much processor and memory a server uses."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Usage:
    """What a server uses at present.

    Attributes:
        cpu_percent: 100 is one processor.
        memory: in bytes, without what the kernel could give back at once.
        memory_limit: in bytes; None where it has none of its own.
    """

    cpu_percent: float
    memory: int
    memory_limit: int | None
