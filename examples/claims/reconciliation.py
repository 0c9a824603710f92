"""Whether all stores agree, to the row and to the cent."""

from collections.abc import Mapping
from dataclasses import dataclass

from claims.totals import Totals, total

_FIELDS = ("rows", "billed_cents", "allowed_cents", "paid_cents")


@dataclass(frozen=True)
class Store:
    """What one store holds."""

    name: str
    totals: Totals
    by_client: Mapping[int, Totals] | None = None
    """None where the store knows no clients."""

    @classmethod
    def of(cls, name: str, by_client: Mapping[int, Totals]) -> "Store":
        return cls(name, total(by_client.values()), by_client)


@dataclass(frozen=True)
class Comparison:
    """One store beside what it should hold."""

    store: Store
    differences: tuple[str, ...]


@dataclass(frozen=True)
class Reconciliation:
    """All stores beside the claims as they were made."""

    expected: Store
    comparisons: tuple[Comparison, ...]

    @property
    def agrees(self) -> bool:
        return not any(comparison.differences for comparison in self.comparisons)

    @property
    def problems(self) -> list[str]:
        return [
            f"{comparison.store.name}: {difference}"
            for comparison in self.comparisons
            for difference in comparison.differences
        ]


def reconcile(expected: Store, *stores: Store) -> Reconciliation:
    """Compare each of `stores` with what was made, in total and, where it knows them, client by client."""
    return Reconciliation(expected, tuple(Comparison(store, _differences(expected, store)) for store in stores))


def _differences(expected: Store, found: Store) -> tuple[str, ...]:
    differences = [
        f"{field} {getattr(found.totals, field):,} instead of {getattr(expected.totals, field):,}"
        for field in _FIELDS
        if getattr(found.totals, field) != getattr(expected.totals, field)
    ]
    if found.by_client is not None and expected.by_client is not None:
        known = {client: totals for client, totals in expected.by_client.items() if totals.rows}
        present = {client: totals for client, totals in found.by_client.items() if totals.rows}
        wrong = sorted(client for client in known | present if known.get(client) != present.get(client))
        if wrong:
            differences.append(f"differs for client {', '.join(map(str, wrong))}")
    return tuple(differences)
