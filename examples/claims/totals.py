"""Rows and money of a set of claims: what all stores have to agree on. Money is whole cents, never a float."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True)
class Totals:
    """How many claims, and what was billed, allowed and paid for them, in cents."""

    rows: int = 0
    billed_cents: int = 0
    allowed_cents: int = 0
    paid_cents: int = 0

    def __add__(self, other: "Totals") -> "Totals":
        return Totals(
            self.rows + other.rows,
            self.billed_cents + other.billed_cents,
            self.allowed_cents + other.allowed_cents,
            self.paid_cents + other.paid_cents,
        )


def total(parts: Iterable[Totals]) -> Totals:
    """The sum of `parts`."""
    return sum(parts, start=Totals())


def add_by_client(one: Mapping[int, Totals], other: Mapping[int, Totals]) -> dict[int, Totals]:
    """The sums client by client."""
    return {client: one.get(client, Totals()) + other.get(client, Totals()) for client in {**one, **other}}


def dollars(cents: int) -> Decimal:
    """`cents` as an exact amount with two places."""
    return Decimal(cents).scaleb(-2)


def cents(amount: Decimal | str) -> int:
    """An exact amount in dollars as whole cents.

    Raises:
        ValueError: it is no amount, or has fractions of a cent.
    """
    try:
        value = Decimal(amount).scaleb(2)
    except ArithmeticError as error:
        raise ValueError(f"{amount!r} is not an amount") from error
    if value != value.to_integral_value():
        raise ValueError(f"{amount!r} has fractions of a cent")
    return int(value)
