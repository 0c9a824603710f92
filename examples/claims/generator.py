"""Synthetic claims, in batches, the same for the same seed and number of rows.

Columns depend on each other as they do in practice: a member has one client, an age and perhaps a chronic condition;
the diagnosis follows from that and the season, the procedure from the diagnosis, the provider from the procedure; the
allowed amount is part of the billed one, the paid part of the allowed; what was treated shortly before the books closed
is pending. Money is int64 cents, and is only ever added up as such.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from claims import reference
from claims.totals import Totals

BATCH_ROWS = 50_000
"""Rows made, inserted and announced at a time. Each batch has its own random stream, so this shapes the data too."""

COLUMNS = (
    "claim_id",
    "client_id",
    "member_id",
    "provider_id",
    "diagnosis_code",
    "procedure_code",
    "service_date",
    "paid_date",
    "status",
    "billed_cents",
    "allowed_cents",
    "paid_cents",
)

_CLAIMS_PER_MEMBER = 22
_PROVIDERS = 4_000
_MOST_OF_MEMBER_CENTS = 400_000
"""The most that a member pays of one claim."""
_PRICE_TREND = 1.071
"""A year."""
_PAID, _DENIED, _PENDING, _ADJUSTED = range(len(reference.STATUSES))


@dataclass(frozen=True)
class Batch:
    """Some claims by column; `columns` has the order of `COLUMNS`."""

    number: int
    columns: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.columns["claim_id"])

    def totals(self) -> dict[int, Totals]:
        """Rows and cents of each client in this batch."""
        index = self.columns["client_id"].astype(np.int64) - reference.CLIENTS[0].id
        rows = np.bincount(index, minlength=len(reference.CLIENTS))
        # Not bincount(weights=...): that adds floats.
        sums = np.zeros((3, len(reference.CLIENTS)), dtype=np.int64)
        for position, name in enumerate(("billed_cents", "allowed_cents", "paid_cents")):
            np.add.at(sums[position], index, self.columns[name])
        return {
            client.id: Totals(int(rows[i]), *(int(cents) for cents in sums[:, i]))
            for i, client in enumerate(reference.CLIENTS)
        }


class Generator:
    """Makes `rows` claims from `seed`.

    Memory is that of one batch and of the members (about 30 bytes each, one for every 22 claims).
    """

    def __init__(self, rows: int, seed: int) -> None:
        if rows < 1:
            raise ValueError(f"rows must be at least 1, not {rows}")
        self.rows = rows
        self.seed = seed
        random = np.random.default_rng([seed, 0])
        self._members = _Members(random, max(100, rows // _CLAIMS_PER_MEMBER))
        self._providers = _Providers(random)
        self._calendar = _Calendar(random)
        self._diagnoses = _Choice([condition.diagnoses for condition in reference.CONDITIONS])
        self._procedures = _Choice(
            [condition.procedures for condition in reference.CONDITIONS],
            values=[procedure.code for procedure in reference.PROCEDURES],
        )

    @property
    def members(self) -> int:
        """How many people the claims are about."""
        return len(self._members.client)

    @property
    def batch_count(self) -> int:
        return -(-self.rows // BATCH_ROWS)

    def batches(self) -> Iterator[Batch]:
        """The claims in the order of their service dates."""
        for number in range(self.batch_count):
            start = number * BATCH_ROWS
            yield self._batch(number, np.arange(start, min(start + BATCH_ROWS, self.rows)))

    def _batch(self, number: int, index: np.ndarray) -> Batch:
        random = np.random.default_rng([self.seed, 1, number])
        count = len(index)
        day = self._calendar.day((index + random.random(count)) / self.rows)
        member = self._members.pick(random, count)
        condition = self._condition(random, member, day)
        diagnosis = self._diagnoses.pick(random, condition)
        procedure = self._procedures.pick(random, condition)
        provider = self._providers.pick(random, procedure)
        billed = self._billed(random, member, day, procedure, provider)
        status, lag = self._status(random, member, day, procedure)
        allowed, paid = self._allowed_and_paid(random, member, procedure, provider, status, billed)

        client = self._members.client[member]
        service_date = np.datetime64(reference.FIRST_DAY) + day.astype("timedelta64[D]")
        settled = (status == _PAID) | (status == _ADJUSTED)
        paid_date = np.where(settled, service_date + lag.astype("timedelta64[D]"), np.datetime64("NaT", "D"))
        values = (
            index.astype(np.uint64) + np.uint64(1),
            _CLIENT_IDS[client],
            member.astype(np.uint32) + np.uint32(1),
            self._providers.id[provider],
            self._diagnoses.values[diagnosis],
            self._procedures.values[procedure],
            service_date,
            paid_date,
            _STATUS_NAMES[status],
            billed,
            allowed,
            paid,
        )
        return Batch(number, dict(zip(COLUMNS, values, strict=True)))

    def _condition(self, random: np.random.Generator, member: np.ndarray, day: np.ndarray) -> np.ndarray:
        """The chronic condition of the member, or something acute by the season."""
        chronic = self._members.chronic[member]
        weights = self._calendar.acute[day]
        acute = len(reference.CHRONIC) + (random.random(len(member))[:, None] > weights.cumsum(axis=1)).sum(axis=1)
        acute = np.minimum(acute, len(reference.CONDITIONS) - 1)
        return np.where((chronic >= 0) & (random.random(len(member)) < 0.68), chronic, acute)

    def _billed(
        self,
        random: np.random.Generator,
        member: np.ndarray,
        day: np.ndarray,
        procedure: np.ndarray,
        provider: np.ndarray,
    ) -> np.ndarray:
        dollars = (
            _PRICES[procedure]
            * np.exp(random.normal(0, 0.32, len(member)))
            * self._providers.markup[provider]
            * _COST_FACTORS[self._members.client[member]]
            * self._members.severity[member]
            * _PRICE_TREND ** (day / 365)
        )
        return np.maximum(np.rint(dollars * 100), 100).astype(np.int64)

    def _status(
        self,
        random: np.random.Generator,
        member: np.ndarray,
        day: np.ndarray,
        procedure: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """What became of each claim, and after how many days it was paid where it was."""
        count = len(member)
        lag = 3 + random.gamma(2.1, 8.5, count).astype(np.int64)
        denied = random.random(count) < _DENIAL_RATES[procedure] * self._members.denial_factor[member]
        later = 14 + random.gamma(2.0, 12.0, count).astype(np.int64)
        closing = (reference.AS_OF - reference.FIRST_DAY).days
        adjusted = (random.random(count) < 0.038) & (day + lag + later <= closing)
        status = np.select(
            [day + lag > closing, denied, adjusted],
            [_PENDING, _DENIED, _ADJUSTED],
            default=_PAID,
        )
        return status, np.where(status == _ADJUSTED, lag + later, lag)

    def _allowed_and_paid(
        self,
        random: np.random.Generator,
        member: np.ndarray,
        procedure: np.ndarray,
        provider: np.ndarray,
        status: np.ndarray,
        billed: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        contract = self._providers.contract[provider] * random.uniform(0.93, 1.07, len(member))
        contract = np.where(status == _ADJUSTED, contract * random.uniform(0.82, 1.0, len(member)), contract)
        allowed = np.minimum(np.rint(billed * contract).astype(np.int64), billed)
        allowed[(status == _DENIED) | (status == _PENDING)] = 0
        # From here on in whole cents: what is charged to the member is not charged to the plan.
        copay = np.minimum(_COPAYS[procedure], allowed)
        coinsurance = (allowed - copay) * _COINSURANCE[self._members.client[member]] // 10_000
        return allowed, allowed - np.minimum(copay + coinsurance, _MOST_OF_MEMBER_CENTS)


class _Members:
    """Everyone insured: client, chronic condition (-1 for none), severity, and how often each is treated."""

    def __init__(self, random: np.random.Generator, count: int) -> None:
        shares = np.array([client.share for client in reference.CLIENTS])
        self.client = random.choice(len(shares), count, p=shares / shares.sum()).astype(np.int8)
        age = np.clip(random.gamma(5.2, 7.6, count), 0, 92)
        chronic_rate = np.clip(0.05 + (age - 15) * 0.0095, 0.03, 0.72)
        # Mental health leads among the young, heart and kidney among the old.
        young, old = np.array([9, 6, 30, 46, 3, 1.0]), np.array([24, 34, 24, 6, 7, 5.0])
        mix = np.clip((age - 20) / 50, 0, 1)[:, None]
        weights = (1 - mix) * young / young.sum() + mix * old / old.sum()
        kind = (random.random(count)[:, None] > weights.cumsum(axis=1)).sum(axis=1)
        kind = np.minimum(kind, len(reference.CHRONIC) - 1)
        self.chronic = np.where(random.random(count) < chronic_rate, kind, -1).astype(np.int8)
        self.severity = np.exp(random.normal(-0.08, 0.4, count)).astype(np.float32)
        self.denial_factor = np.clip(random.normal(1.0, 0.15, count), 0.5, 1.5).astype(np.float32)
        use = random.gamma(0.75, 1.0, count) * (0.6 + age / 60)
        # Treatments of cancer and kidney failure come in series.
        self._cumulated_use = np.cumsum(use * np.array([3.0, 2.6, 3.2, 2.9, 6.5, 7.5, 1.0])[self.chronic])

    def pick(self, random: np.random.Generator, count: int) -> np.ndarray:
        at = random.random(count) * self._cumulated_use[-1]
        return np.minimum(np.searchsorted(self._cumulated_use, at, side="right"), len(self.client) - 1)


class _Providers:
    """Providers by specialty: some have many patients, most have few, and each has its prices and its contract."""

    def __init__(self, random: np.random.Generator) -> None:
        weights = np.array([36, 7, 6, 8, 9, 12, 11, 7, 4, 3.0])
        self._sizes = np.maximum(np.rint(_PROVIDERS * weights / weights.sum()), 1).astype(np.int64)
        self._starts = np.concatenate(([0], np.cumsum(self._sizes)[:-1]))
        count = int(self._sizes.sum())
        self.id = 1_000_000_000 + random.choice(999_999_999, count, replace=False).astype(np.uint64)
        self.markup = np.exp(random.normal(0, 0.22, count))
        self.contract = np.clip(random.beta(14, 12, count), 0.25, 0.92)

    def pick(self, random: np.random.Generator, procedure: np.ndarray) -> np.ndarray:
        specialty = _SPECIALTY_OF_PROCEDURE[procedure]
        rank = random.random(len(procedure)) ** 2.6 * self._sizes[specialty]
        return self._starts[specialty] + rank.astype(np.int64)


class _Calendar:
    """How many claims each day has, and what acute conditions are about on it."""

    def __init__(self, random: np.random.Generator) -> None:
        days = (reference.LAST_DAY - reference.FIRST_DAY).days + 1
        day = np.arange(days)
        weekday = (day + reference.FIRST_DAY.weekday()) % 7
        # 1 in the middle of January, -1 in the middle of July.
        season = np.cos((day - 14) / 365.25 * 2 * np.pi)
        amount = np.array([1.08, 1.1, 1.06, 1.04, 0.98, 0.34, 0.22])[weekday] * (1 + 0.055 * season)
        amount = amount * 1.025 ** (day / 365) * np.exp(random.normal(0, 0.05, days))
        self._cumulated = np.cumsum(amount)
        winter = np.array([condition.winter for condition in reference.ACUTE])
        acute = np.array(reference.ACUTE_WEIGHTS) * winter ** (season[:, None] / 2)
        self.acute = acute / acute.sum(axis=1, keepdims=True)

    def day(self, position: np.ndarray) -> np.ndarray:
        """The day (0 is the first) of the claim at `position` (0 to 1) among all claims."""
        found = np.searchsorted(self._cumulated, position * self._cumulated[-1], side="right")
        return np.minimum(found, len(self._cumulated) - 1)


class _Choice:
    """A random value for each row, with weights that depend on the row's condition."""

    def __init__(self, weights: list[dict[str, float]], values: list[str] | None = None) -> None:
        names = values or [name for row in weights for name in row]
        table = np.array([[row.get(name, 0.0) for name in names] for row in weights])
        self._cumulated = np.cumsum(table / table.sum(axis=1, keepdims=True), axis=1)
        # So that no rounding error lets a random number fall behind the last value that is possible.
        self._cumulated[self._cumulated > 1 - 1e-9] = 1.0
        self.values = np.array(names, dtype=object)

    def pick(self, random: np.random.Generator, condition: np.ndarray) -> np.ndarray:
        at = random.random(len(condition))
        picked = np.empty(len(condition), dtype=np.int64)
        for row, cumulated in enumerate(self._cumulated):
            chosen = condition == row
            picked[chosen] = np.searchsorted(cumulated, at[chosen], side="right")
        return picked


_CLIENT_IDS = np.array([client.id for client in reference.CLIENTS], dtype=np.uint16)
_COST_FACTORS = np.array([client.cost_factor for client in reference.CLIENTS])
_COINSURANCE = np.array([client.coinsurance_points for client in reference.CLIENTS], dtype=np.int64)
_PRICES = np.array([procedure.price for procedure in reference.PROCEDURES])
_DENIAL_RATES = np.array([procedure.denial_rate for procedure in reference.PROCEDURES])
_COPAYS = np.array([procedure.copay_cents for procedure in reference.PROCEDURES], dtype=np.int64)
_SPECIALTY_OF_PROCEDURE = np.array(
    [reference.SPECIALTIES.index(procedure.specialty) for procedure in reference.PROCEDURES]
)
_STATUS_NAMES = np.array(reference.STATUSES, dtype=object)
