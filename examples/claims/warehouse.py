"""ClickHouse: the claims themselves, and the questions asked of all of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from clickhouse_connect.driver.client import Client

from claims import reference
from claims.generator import COLUMNS, Batch
from claims.totals import Totals

TABLE = "claims_walkthrough"

# In whole cents: sums of Int64 are exact in any order, those of floats are not.
_CREATE = f"""
CREATE TABLE {TABLE} (
    claim_id        UInt64,
    client_id       UInt16,
    member_id       UInt32,
    provider_id     UInt64,
    diagnosis_code  LowCardinality(String),
    procedure_code  LowCardinality(String),
    service_date    Date,
    paid_date       Nullable(Date),
    status          Enum8({", ".join(f"'{name}' = {i}" for i, name in enumerate(reference.STATUSES, 1))}),
    billed_cents    Int64,
    allowed_cents   Int64,
    paid_cents      Int64
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(service_date)
ORDER BY (client_id, service_date, claim_id)
"""


class Loader:
    """Fills a new, empty table batch by batch."""

    def __init__(self, client: Client) -> None:
        client.command(f"DROP TABLE IF EXISTS {TABLE}")
        client.command(_CREATE)
        self._client = client
        self._context = client.create_insert_context(TABLE, column_names=COLUMNS, column_oriented=True)

    def insert(self, batch: Batch) -> int:
        """Insert the batch; returns how many rows the server says it wrote."""
        # Dates as Python's: the driver takes those, and None where there is none.
        self._context.data = [
            column.astype(object) if column.dtype.kind == "M" else column for column in batch.columns.values()
        ]
        return int(self._client.insert(context=self._context).written_rows)


@dataclass(frozen=True)
class ClientMonth:
    """What one client's members cost in one month of service."""

    client_id: int
    month: date
    denied: int
    pending: int
    totals: Totals


@dataclass(frozen=True)
class Month:
    """The cost of all clients in one month of service."""

    month: date
    claims: int
    members: int
    billed_cents: int
    allowed_cents: int
    paid_cents: int
    pending: int


@dataclass(frozen=True)
class Provider:
    """One of the providers with the highest cost."""

    provider_id: int
    main_procedure: str
    claims: int
    members: int
    paid_cents: int


@dataclass(frozen=True)
class ProcedureDenials:
    """How often a procedure is denied, of the claims that were decided."""

    procedure_code: str
    decided: int
    denied: int
    denied_billed_cents: int

    @property
    def rate(self) -> float:
        return self.denied / self.decided


@dataclass(frozen=True)
class Analytics:
    """Answers of the warehouse."""

    months: list[Month]
    providers: list[Provider]
    denials: list[ProcedureDenials]
    concentration: np.ndarray
    """Share of all paid (0 to 1) that the most expensive 0, 1, ... 100 % of the members have."""
    members: int
    """Members with at least one claim."""
    days_to_pay: tuple[float, float, float]
    """Median, 90th and 99th percentile of the days between service and payment."""


@dataclass(frozen=True)
class Baseline:
    """What one client's members with certain diagnoses cost."""

    client_id: int
    members: int
    claims: int
    allowed_cents: int


def totals_by_client(client: Client) -> dict[int, Totals]:
    """Rows and cents of each client as they are in the table now."""
    rows = client.query(f"""
        SELECT client_id, count(), sum(billed_cents), sum(allowed_cents), sum(paid_cents)
        FROM {TABLE} GROUP BY client_id ORDER BY client_id
    """).result_rows
    return {client_id: Totals(*values) for client_id, *values in rows}


def client_months(client: Client) -> list[ClientMonth]:
    """Each client's months, for the books in PostgreSQL."""
    rows = client.query(f"""
        SELECT client_id, toStartOfMonth(service_date) AS month,
               countIf(status = 'denied'), countIf(status = 'pending'),
               count(), sum(billed_cents), sum(allowed_cents), sum(paid_cents)
        FROM {TABLE} GROUP BY client_id, month ORDER BY client_id, month
    """).result_rows
    return [
        ClientMonth(client_id, month, denied, pending, Totals(*values))
        for client_id, month, denied, pending, *values in rows
    ]


def baselines(client: Client, diagnoses: Sequence[str], first: date, last: date) -> list[Baseline]:
    """For each client the members with at least two claims whose diagnosis code starts with one of `diagnoses`."""
    rows = client.query(
        f"""
        SELECT client_id, count(), sum(claims), sum(allowed)
        FROM (
            SELECT client_id, member_id, count() AS claims, sum(allowed_cents) AS allowed
            FROM {TABLE}
            WHERE service_date BETWEEN {{first:Date}} AND {{last:Date}}
              AND arrayExists(prefix -> startsWith(diagnosis_code, prefix), {{diagnoses:Array(String)}})
            GROUP BY client_id, member_id
            HAVING claims >= 2
        )
        GROUP BY client_id ORDER BY client_id
        """,
        parameters={"first": first, "last": last, "diagnoses": list(diagnoses)},
    ).result_rows
    return [Baseline(*row) for row in rows]


def analytics(client: Client) -> Analytics:
    """Ask everything that the report shows."""
    [(members,)] = client.query(f"SELECT uniqExact(member_id) FROM {TABLE}").result_rows
    [(lag,)] = client.query(f"""
        SELECT quantilesExact(0.5, 0.9, 0.99)(dateDiff('day', service_date, assumeNotNull(paid_date)))
        FROM {TABLE} WHERE paid_date IS NOT NULL
    """).result_rows
    return Analytics(
        months=_months(client),
        providers=_top_providers(client),
        denials=_denials(client),
        concentration=_concentration(client),
        members=members,
        days_to_pay=(float(lag[0]), float(lag[1]), float(lag[2])),
    )


def _months(client: Client) -> list[Month]:
    rows = client.query(f"""
        SELECT toStartOfMonth(service_date) AS month, count(), uniqExact(member_id),
               sum(billed_cents), sum(allowed_cents), sum(paid_cents), countIf(status = 'pending')
        FROM {TABLE} GROUP BY month ORDER BY month
    """).result_rows
    return [Month(*row) for row in rows]


def _top_providers(client: Client) -> list[Provider]:
    rows = client.query(
        f"""
        SELECT provider_id, topKWeighted(1)(procedure_code, toUInt64(paid_cents))[1],
               count(), uniqExact(member_id), sum(paid_cents) AS paid
        FROM {TABLE} GROUP BY provider_id ORDER BY paid DESC, provider_id LIMIT {{limit:UInt8}}
        """,
        parameters={"limit": 10},
    ).result_rows
    return [Provider(*row) for row in rows]


def _denials(client: Client) -> list[ProcedureDenials]:
    rows = client.query(f"""
        SELECT procedure_code, countIf(status != 'pending') AS decided, countIf(status = 'denied') AS denied,
               sumIf(billed_cents, status = 'denied')
        FROM {TABLE} GROUP BY procedure_code HAVING decided > 0
        ORDER BY denied / decided DESC, procedure_code
    """).result_rows
    return [ProcedureDenials(*row) for row in rows]


def _concentration(client: Client) -> np.ndarray:
    rows = client.query(f"""
        SELECT intDiv((place - 1) * 100, members) + 1 AS percent, sum(paid)
        FROM (
            SELECT paid, row_number() OVER (ORDER BY paid DESC) AS place, count() OVER () AS members
            FROM (SELECT sum(paid_cents) AS paid FROM {TABLE} GROUP BY member_id)
        )
        GROUP BY percent ORDER BY percent
    """).result_rows
    paid = np.zeros(101, dtype=np.int64)
    for percent, cents in rows:
        paid[percent] = cents
    return paid.cumsum() / max(1, int(paid.sum()))
