"""PostgreSQL: clients, programme templates, monthly books and the return of each programme at each client."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

import psycopg

from claims import reference
from claims.totals import Totals, cents, dollars
from claims.warehouse import Baseline, ClientMonth

SCHEMA = "claims_walkthrough"

_CREATE = f"""
DROP SCHEMA IF EXISTS {SCHEMA} CASCADE;
CREATE SCHEMA {SCHEMA};
SET LOCAL search_path TO {SCHEMA};

CREATE TABLE client (
    id        integer PRIMARY KEY,
    name      text NOT NULL UNIQUE,
    industry  text NOT NULL
);

CREATE TABLE template (
    id                     integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name                   text NOT NULL UNIQUE,
    diagnoses              text[] NOT NULL CHECK (cardinality(diagnoses) > 0),
    engagement_rate        numeric(5, 4) NOT NULL CHECK (engagement_rate BETWEEN 0 AND 1),
    cost_reduction         numeric(5, 4) NOT NULL CHECK (cost_reduction BETWEEN 0 AND 1),
    outreach_per_member    numeric(10, 2) NOT NULL CHECK (outreach_per_member >= 0),
    fee_per_participant    numeric(10, 2) NOT NULL CHECK (fee_per_participant >= 0)
);

CREATE TABLE client_month (
    client_id  integer NOT NULL REFERENCES client,
    month      date NOT NULL CHECK (extract(day FROM month) = 1),
    claims     bigint NOT NULL CHECK (claims > 0),
    denied     bigint NOT NULL,
    pending    bigint NOT NULL,
    billed     numeric(16, 2) NOT NULL,
    allowed    numeric(16, 2) NOT NULL CHECK (allowed <= billed),
    paid       numeric(16, 2) NOT NULL CHECK (paid <= allowed),
    PRIMARY KEY (client_id, month)
);

CREATE TABLE baseline (
    client_id    integer NOT NULL REFERENCES client,
    template_id  integer NOT NULL REFERENCES template,
    members      integer NOT NULL CHECK (members > 0),
    claims       bigint NOT NULL,
    allowed      numeric(16, 2) NOT NULL,
    PRIMARY KEY (client_id, template_id)
);

CREATE TABLE roi (
    client_id          integer NOT NULL,
    template_id        integer NOT NULL,
    participants       integer NOT NULL,
    intervention_cost  numeric(16, 2) NOT NULL,
    avoided_cost       numeric(16, 2) NOT NULL,
    net                numeric(16, 2) GENERATED ALWAYS AS (avoided_cost - intervention_cost) STORED,
    PRIMARY KEY (client_id, template_id),
    FOREIGN KEY (client_id, template_id) REFERENCES baseline
);
"""

# All in numeric: the database rounds once per amount, to the cent, and the sums of those are exact.
_COMPUTE_ROI = """
INSERT INTO roi (client_id, template_id, participants, intervention_cost, avoided_cost)
SELECT client_id, template_id, participants,
       members * outreach_per_member + participants * fee_per_participant,
       round(allowed / members * participants * cost_reduction, 2)
FROM baseline
JOIN template ON template.id = template_id
CROSS JOIN LATERAL (SELECT floor(members * engagement_rate)::integer AS participants) AS engaged
"""


@dataclass(frozen=True)
class Template:
    """A programme for members with certain diagnoses, and what is assumed of it: rates from 0 to 1, dollars a year."""

    name: str
    diagnoses: tuple[str, ...]
    engagement_rate: Decimal
    cost_reduction: Decimal
    outreach_per_member: Decimal
    fee_per_participant: Decimal


TEMPLATES = (
    Template("Diabetes coaching", ("E11",), Decimal("0.34"), Decimal("0.13"), Decimal(12), Decimal(145)),
    Template("Heart check", ("I10", "I25", "I50"), Decimal("0.28"), Decimal("0.065"), Decimal(9), Decimal(215)),
    Template("Back care", ("M54", "M25", "M17"), Decimal("0.41"), Decimal("0.07"), Decimal(8), Decimal(310)),
    Template("Mind line", ("F41", "F33", "F32"), Decimal("0.22"), Decimal("0.09"), Decimal(6), Decimal(165)),
)


@dataclass(frozen=True)
class Roi:
    """What one programme would cost and save at one client, in a year."""

    client: str
    template: str
    members: int
    participants: int
    allowed: Decimal
    intervention_cost: Decimal
    avoided_cost: Decimal
    net: Decimal


class Books:
    """The schema, filled and asked over one connection. Each call is one transaction."""

    def __init__(self, connection: "psycopg.Connection[tuple[Any, ...]]") -> None:
        self._connection = connection

    def claim_for_this_session(self) -> bool:
        """Whether no other session works on these books; none can until this connection is closed."""
        try:
            with self._connection.transaction():
                # Not at once: the server gives a session's lock back a moment after its connection was closed.
                self._connection.execute("SET LOCAL lock_timeout = '5s'")
                self._connection.execute("SELECT pg_advisory_lock(hashtext(%s))", (SCHEMA,))
        except psycopg.errors.LockNotAvailable:
            return False
        return True

    def create(self) -> None:
        """Make the schema anew, with clients and templates in it."""
        with self._connection.transaction(), self._connection.cursor() as cursor:
            cursor.execute(_CREATE)
            cursor.executemany(
                f"INSERT INTO {SCHEMA}.client (id, name, industry) VALUES (%s, %s, %s)",
                [(client.id, client.name, client.industry) for client in reference.CLIENTS],
            )
            cursor.executemany(
                f"""
                INSERT INTO {SCHEMA}.template (name, diagnoses, engagement_rate, cost_reduction,
                                               outreach_per_member, fee_per_participant)
                VALUES (%s, %s, %s, %s, %s, %s)
                """,
                [
                    (
                        template.name,
                        list(template.diagnoses),
                        template.engagement_rate,
                        template.cost_reduction,
                        template.outreach_per_member,
                        template.fee_per_participant,
                    )
                    for template in TEMPLATES
                ],
            )

    def store_months(self, months: Sequence[ClientMonth]) -> None:
        with self._connection.transaction(), self._connection.cursor() as cursor:
            columns = "client_id, month, claims, denied, pending, billed, allowed, paid"
            with cursor.copy(f"COPY {SCHEMA}.client_month ({columns}) FROM STDIN") as copy:
                for row in months:
                    copy.write_row(
                        (
                            row.client_id,
                            row.month,
                            row.totals.rows,
                            row.denied,
                            row.pending,
                            dollars(row.totals.billed_cents),
                            dollars(row.totals.allowed_cents),
                            dollars(row.totals.paid_cents),
                        )
                    )

    def templates(self) -> list[tuple[int, list[str]]]:
        """Id and diagnoses of each template."""
        with self._connection.transaction():
            return [
                (row[0], row[1])
                for row in self._connection.execute(f"SELECT id, diagnoses FROM {SCHEMA}.template ORDER BY id")
            ]

    def store_baselines(self, template_id: int, baselines: Sequence[Baseline]) -> None:
        with self._connection.transaction(), self._connection.cursor() as cursor:
            cursor.executemany(
                f"""
                INSERT INTO {SCHEMA}.baseline (client_id, template_id, members, claims, allowed)
                VALUES (%s, %s, %s, %s, %s)
                """,
                [
                    (row.client_id, template_id, row.members, row.claims, dollars(row.allowed_cents))
                    for row in baselines
                ],
            )

    def compute_roi(self) -> list[Roi]:
        """Compute the return of every programme at every client from the baselines and the assumptions."""
        with self._connection.transaction():
            self._connection.execute(f"SET LOCAL search_path TO {SCHEMA}")
            self._connection.execute(_COMPUTE_ROI)
            rows = self._connection.execute("""
                SELECT client.name, template.name, members, participants, allowed,
                       intervention_cost, avoided_cost, net
                FROM roi
                JOIN baseline USING (client_id, template_id)
                JOIN client ON client.id = client_id
                JOIN template ON template.id = template_id
                ORDER BY client.id, template.id
            """).fetchall()
        return [Roi(*row) for row in rows]

    def months(self) -> list[tuple[int, str, date, int, int, int, Decimal, Decimal, Decimal]]:
        """Client id and name, month, claims, denied, pending, billed, allowed, paid."""
        with self._connection.transaction():
            return self._connection.execute(f"""
                SELECT client_id, name, month, claims, denied, pending, billed, allowed, paid
                FROM {SCHEMA}.client_month JOIN {SCHEMA}.client ON client.id = client_id
                ORDER BY client_id, month
            """).fetchall()

    def totals_by_client(self) -> dict[int, Totals]:
        """Rows and cents of each client as the books have them now."""
        with self._connection.transaction():
            rows = self._connection.execute(f"""
                SELECT client_id, sum(claims)::bigint, sum(billed), sum(allowed), sum(paid)
                FROM {SCHEMA}.client_month GROUP BY client_id ORDER BY client_id
            """).fetchall()
        return {
            client_id: Totals(claims, cents(billed), cents(allowed), cents(paid))
            for client_id, claims, billed, allowed, paid in rows
        }
