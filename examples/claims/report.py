"""The report as one HTML page that needs nothing beside it."""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from html import escape

from claims import reference
from claims.books import TEMPLATES, Roi
from claims.reconciliation import Reconciliation
from claims.totals import Totals, dollars
from claims.warehouse import Analytics

_CSS = """
:root { color: #22303c; background: #f4f6f8; font: 15px/1.5 system-ui, "Segoe UI", Roboto, sans-serif; }
body { max-width: 1080px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { font-size: 30px; margin: 0; }
h2 { font-size: 19px; margin: 40px 0 8px; }
p { color: #566472; margin: 4px 0 12px; max-width: 72ch; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(170px, 1fr)); gap: 12px; margin: 24px 0; }
.tile { background: #fff; border-radius: 10px; padding: 14px 18px; box-shadow: 0 1px 3px #22303c1a; }
.tile b { display: block; font-size: 23px; font-variant-numeric: tabular-nums; }
.tile span { color: #566472; font-size: 13px; }
.verdict { border-radius: 10px; padding: 12px 18px; font-weight: 600; background: #dff1ed; color: #17594e; }
.verdict.bad { background: #f8e1da; color: #8a2f19; }
img { width: 100%; border-radius: 10px; box-shadow: 0 1px 3px #22303c1a; }
.scroll { overflow-x: auto; border-radius: 10px; box-shadow: 0 1px 3px #22303c1a; }
table { border-collapse: collapse; width: 100%; background: #fff; font-size: 14px; }
th, td { padding: 7px 14px; text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
th:first-child, td:first-child, td.text, th.text { text-align: left; }
th { color: #566472; font-weight: 600; border-bottom: 2px solid #e4e8ec; }
tr + tr td { border-top: 1px solid #eef1f4; }
.good { color: #1f7a6b; } .bad { color: #b0452c; }
"""


@dataclass(frozen=True)
class Cell:
    """A table cell: its words, and its classes."""

    words: str
    kind: str = ""


def money(amount: Decimal) -> str:
    """An exact amount with two places."""
    return f"-${-amount:,.2f}" if amount < 0 else f"${amount:,.2f}"


def ratio(roi: Roi) -> str:
    return f"{roi.avoided_cost / roi.intervention_cost:.2f}x" if roi.intervention_cost else "-"


def render(
    *,
    totals: Totals,
    analytics: Analytics,
    returns: Sequence[Roi],
    reconciliation: Reconciliation,
    plot: bytes,
    seed: int,
) -> str:
    """The page."""
    median, ninety, _ = analytics.days_to_pay
    agrees = reconciliation.agrees
    verdict = (
        "All stores agree, to the row and to the cent."
        if agrees
        else "The stores disagree: " + "; ".join(reconciliation.problems)
    )
    parts = [
        "<h1>Claims overview</h1>",
        f"<p>{totals.rows:,} synthetic claims (seed {seed}), services from {reference.FIRST_DAY:%B %Y} to "
        f"{reference.LAST_DAY:%B %Y}, books closed on {reference.AS_OF.day} {reference.AS_OF:%B %Y}.</p>",
        _tiles(
            (f"{totals.rows:,}", "claims"),
            (f"{analytics.members:,}", "members treated"),
            (money(dollars(totals.allowed_cents)), "allowed"),
            (money(dollars(totals.paid_cents)), "paid by the plans"),
            (f"{median:.0f} / {ninety:.0f}", "days to payment, median and 90%"),
        ),
        f'<div class="verdict{"" if agrees else " bad"}">{escape(verdict)}</div>',
        "<h2>At a glance</h2>",
        f'<img alt="Cost by month, concentration, denials and returns" '
        f'src="data:image/png;base64,{base64.b64encode(plot).decode()}">',
        "<h2>Totals of all stores</h2>",
        _table(
            ("Store", "Claims", "Billed", "Allowed", "Paid", ""),
            _reconciliation_rows(reconciliation),
        ),
        "<h2>Care programmes, a year</h2>",
        "<p>Avoided cost = the members' allowed cost in the last 12 months, divided by members, times participants, "
        "times the assumed reduction. Cost = outreach to every member found, plus a fee for every participant. "
        "Members are those with at least two claims for the condition.</p>",
        _table(
            ("Programme", "Engagement", "Reduction", "Outreach, a member", "Fee, a participant"),
            (
                (
                    Cell(template.name),
                    Cell(f"{template.engagement_rate:.0%}"),
                    Cell(f"{template.cost_reduction:.1%}"),
                    Cell(money(template.outreach_per_member)),
                    Cell(money(template.fee_per_participant)),
                )
                for template in TEMPLATES
            ),
        ),
        "<p></p>",
        _table(
            ("Client", "Programme", "Members", "Participants", "Allowed", "Cost", "Avoided", "Net", "Return"),
            (
                (
                    Cell(roi.client),
                    Cell(roi.template, "text"),
                    Cell(f"{roi.members:,}"),
                    Cell(f"{roi.participants:,}"),
                    Cell(money(roi.allowed)),
                    Cell(money(roi.intervention_cost)),
                    Cell(money(roi.avoided_cost)),
                    Cell(money(roi.net), "good" if roi.net >= 0 else "bad"),
                    Cell(ratio(roi), "good" if roi.net >= 0 else "bad"),
                )
                for roi in returns
            ),
        ),
        "<h2>Cost by month</h2>",
        _table(
            ("Month", "Claims", "Members", "Billed", "Allowed", "Paid", "Pending"),
            (
                (
                    Cell(f"{month.month:%B %Y}"),
                    Cell(f"{month.claims:,}"),
                    Cell(f"{month.members:,}"),
                    Cell(money(dollars(month.billed_cents))),
                    Cell(money(dollars(month.allowed_cents))),
                    Cell(money(dollars(month.paid_cents))),
                    Cell(f"{month.pending / month.claims:.1%}"),
                )
                for month in analytics.months
            ),
        ),
        "<h2>Providers with the highest cost</h2>",
        _table(
            ("Provider", "Mostly", "Claims", "Members", "Paid"),
            (
                (
                    Cell(str(provider.provider_id)),
                    Cell(reference.PROCEDURE_TITLES[provider.main_procedure], "text"),
                    Cell(f"{provider.claims:,}"),
                    Cell(f"{provider.members:,}"),
                    Cell(money(dollars(provider.paid_cents))),
                )
                for provider in analytics.providers
            ),
        ),
        "<h2>Denials by procedure</h2>",
        _table(
            ("Procedure", "Code", "Decided", "Denied", "Rate", "Billed of denied"),
            (
                (
                    Cell(reference.PROCEDURE_TITLES[denial.procedure_code]),
                    Cell(denial.procedure_code),
                    Cell(f"{denial.decided:,}"),
                    Cell(f"{denial.denied:,}"),
                    Cell(f"{denial.rate:.1%}"),
                    Cell(money(dollars(denial.denied_billed_cents))),
                )
                for denial in analytics.denials
            ),
        ),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Claims overview</title><style>{_CSS}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def _reconciliation_rows(reconciliation: Reconciliation) -> list[tuple[Cell, ...]]:
    stores = [(reconciliation.expected, "as made", "")]
    for comparison in reconciliation.comparisons:
        wrong = bool(comparison.differences)
        stores.append((comparison.store, "differs" if wrong else "agrees", "bad" if wrong else "good"))
    return [
        (
            Cell(store.name),
            Cell(f"{store.totals.rows:,}"),
            Cell(money(dollars(store.totals.billed_cents))),
            Cell(money(dollars(store.totals.allowed_cents))),
            Cell(money(dollars(store.totals.paid_cents))),
            Cell(words, kind),
        )
        for store, words, kind in stores
    ]


def _tiles(*tiles: tuple[str, str]) -> str:
    inner = "".join(
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>' for value, name in tiles
    )
    return f'<div class="tiles">{inner}</div>'


def _table(header: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    body = [list(row) for row in rows]
    text_columns = {i for row in body for i, cell in enumerate(row) if cell.kind == "text"}
    head = "".join(
        f'<th class="text">{escape(name)}</th>' if i in text_columns else f"<th>{escape(name)}</th>"
        for i, name in enumerate(header)
    )
    lines = ["".join(f'<td class="{cell.kind}">{escape(cell.words)}</td>' for cell in row) for row in body]
    return f'<div class="scroll"><table><tr>{head}</tr>{"".join(f"<tr>{line}</tr>" for line in lines)}</table></div>'
