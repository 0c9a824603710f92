"""How much processor and memory a server uses."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Usage:
    """What a server uses at present.

    Attributes:
        cpu_percent: 100 is one processor.
        memory: in bytes, without what the kernel could give back at once.
        memory_limit: in bytes; None where it has none of its own.
        at: when that was seen, where it is not at present, in seconds since the epoch; None where it is.
    """

    cpu_percent: float
    memory: int
    memory_limit: int | None
    at: float | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """What is seen of a server at one moment. Two of them make a `Usage`.

    Attributes:
        at: seconds on a clock of the machine that has the server.
        cpu_seconds: of processors, by each of its processes.
        memory: see `Usage`.
        memory_limit: see `Usage`.
    """

    at: float
    cpu_seconds: dict[int, float]
    memory: int
    memory_limit: int | None

    def since(self, before: "Reading") -> Usage:
        """What was used between an earlier reading and this one."""
        passed, seen = self.at - before.at, before.cpu_seconds
        used = sum(max(0.0, seconds - seen[each]) for each, seconds in self.cpu_seconds.items() if each in seen)
        return Usage(used / passed * 100 if passed > 0 else 0.0, self.memory, self.memory_limit)
