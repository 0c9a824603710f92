"""What a service offers beyond its clients, and where the code for it stands: loaded when it is asked for."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a service, each as "package.module:name". An empty one is not offered.

    Attributes:
        isolation: its subclass of `triton_env.services.base_isolation.Isolation`.
        diagnostics: its subclass of `triton_env.services.base_diagnostics.Diagnostics`.
        seeding: its subclass of `triton_env.services.base_seeding.Seeding`.
        saver: saves it; see `Saver` in `triton_env.services.base_backup`, also for those that follow.
        restorer: makes its `Restorer`; see `RestorerOf`.
        takeover: makes its `Takeover`; see `TakeoverOf`.
        remains: finds what restores left in it; see `Remains`.
        way_in: its `triton_env.services.base_shell.Shell`.
        checks: its `triton_env.services.base_checks.Checks`.
        sql: its `triton_env.services.base_sql.Sql`.
        insight: its subclass of `triton_env.services.base_insight.Insight`.
    """

    isolation: str = ""
    seeding: str = ""
    diagnostics: str = ""
    saver: str = ""
    restorer: str = ""
    takeover: str = ""
    remains: str = ""
    way_in: str = ""
    checks: str = ""
    sql: str = ""
    insight: str = ""

    def load(self, part: str) -> Any:
        """The object that a part names; None where the service does not offer that part."""
        module, _, name = getattr(self, part).partition(":")
        return getattr(import_module(module), name) if module else None
