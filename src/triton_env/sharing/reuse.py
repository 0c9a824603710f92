"""How an environment is shared."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reuse:
    """How an environment is shared; `reuse=True` means one without any of these.

    Attributes:
        key_suffix: only those who name the same word share it, such as the workers of one test run.
        linger: seconds that the services go on while they are unused; None for TRITON_LINGER. That of the process that
            starts them counts.
    """

    key_suffix: str = ""
    linger: float | None = None
