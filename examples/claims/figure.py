"""The report's plot: cost by month, concentration, denials, and the return of the programmes."""

import io
from collections.abc import Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from claims import reference
from claims.books import Roi
from claims.warehouse import Analytics, Month, ProcedureDenials

DPI = 150
SIZE_INCHES = (14.0, 9.6)

_INK, _MUTED, _GRID = "#22303c", "#6b7a88", "#e4e8ec"
_DARK, _LIGHT, _GOOD, _BAD, _ACCENT = "#1f4e79", "#a9c4de", "#2a8c7c", "#c0533a", "#e0972f"
_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "text.color": _INK,
    "axes.labelcolor": _MUTED,
    "axes.edgecolor": _GRID,
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 24,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "legend.frameon": False,
}
_PENDING_WORTH_A_MARK = 0.1


def draw(analytics: Analytics, returns: Sequence[Roi]) -> bytes:
    """The plot as PNG."""
    with plt.rc_context(_STYLE):
        figure = plt.figure(figsize=SIZE_INCHES, dpi=DPI)
        try:
            # By hand: the lower plots have long names at their left, the upper ones need no such margin.
            _trend(figure.add_axes((0.05, 0.545, 0.43, 0.315)), analytics.months)
            _concentration(figure.add_axes((0.55, 0.545, 0.43, 0.315)), analytics.concentration)
            _denials(figure.add_axes((0.155, 0.045, 0.325, 0.355)), analytics.denials)
            _returns(figure.add_axes((0.645, 0.045, 0.335, 0.355)), returns)
            claims = sum(month.claims for month in analytics.months)
            figure.text(0.012, 0.972, "Claims overview", size=19, weight="bold", va="center")
            figure.text(
                0.012,
                0.938,
                f"{claims:,} claims of {analytics.members:,} members at {len(reference.CLIENTS)} clients, "
                f"services from {reference.FIRST_DAY:%B %Y} to {reference.LAST_DAY:%B %Y}. Synthetic data.",
                size=10.5,
                color=_MUTED,
                va="center",
            )
            file = io.BytesIO()
            figure.savefig(file, format="png")
            return file.getvalue()
        finally:
            plt.close(figure)


def _subtitle(axes: Axes, words: str) -> None:
    axes.annotate(
        words, (0, 1), (0, 9), xycoords="axes fraction", textcoords="offset points", color=_MUTED, va="bottom", size=9
    )


def _trend(axes: Axes, months: Sequence[Month]) -> None:
    place = np.arange(len(months))
    # Floats only here: pixels need no cents.
    paid = np.array([month.paid_cents for month in months]) / 1e8
    allowed = np.array([month.allowed_cents for month in months]) / 1e8
    axes.bar(place, paid, 0.74, color=_DARK, label="paid by the plan")
    axes.bar(place, allowed - paid, 0.74, bottom=paid, color=_LIGHT, label="paid by members")
    top = max(float(allowed.max()), 1e-9)
    open_months = [i for i, month in enumerate(months) if month.pending / month.claims >= _PENDING_WORTH_A_MARK]
    if open_months:
        axes.axvspan(open_months[0] - 0.5, place[-1] + 0.5, color=_ACCENT, alpha=0.16, lw=0, zorder=0)
        axes.annotate(
            "still being paid",
            (place[-1] + 0.4, top * 1.12),
            ha="right",
            va="center",
            color=_ACCENT,
            weight="bold",
            size=8.5,
        )
    labelled = place[::3]
    axes.set_xticks(labelled, [f"{months[i].month:%b}\n{months[i].month:%Y}" for i in labelled])
    axes.set_ylim(0, top * 1.2)
    axes.set_xlim(-0.7, max(len(months) - 0.3, 1))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _millions(value)))
    axes.tick_params(length=0)
    axes.grid(axis="y")
    axes.set_title("Cost by month of service")
    _subtitle(axes, "Allowed amount")
    axes.legend(
        loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, handlelength=1, handleheight=1, columnspacing=1.4
    )


def _millions(value: float) -> str:
    if value == 0:
        return "$0"
    if value >= 1:
        return f"${value:,.0f}M" if value == round(value) else f"${value:,.1f}M"
    return f"${value * 1000:,.0f}k"


def _concentration(axes: Axes, concentration: np.ndarray) -> None:
    percent = np.arange(101)
    axes.plot([0, 100], [0, 1], color=_MUTED, lw=1, ls=(0, (4, 4)))
    axes.text(
        66,
        0.64,
        "if all cost the same",
        color=_MUTED,
        size=8.5,
        rotation=np.degrees(np.arctan(0.01)),
        rotation_mode="anchor",
        transform_rotates_text=True,
        va="top",
    )
    axes.fill_between(percent, concentration, color=_LIGHT, alpha=0.35, lw=0)
    axes.plot(percent, concentration, color=_DARK, lw=2.4)
    for point in (1, 5, 20):
        share = float(concentration[point])
        axes.plot(point, share, "o", color=_BAD, ms=6.5, mec="white", mew=1.2, zorder=5)
        axes.annotate(
            f"{point}% of members: {share:.0%} of cost",
            (point, share),
            (point + 3.5, share - 0.022),
            va="center",
            weight="bold",
            size=9.2,
            bbox={"color": "#f1f5f9", "pad": 1.5},
        )
    axes.set_xlim(-1.5, 100)
    axes.set_ylim(0, 1.03)
    axes.xaxis.set_major_formatter(PercentFormatter(100, decimals=0))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.tick_params(length=0)
    axes.grid()
    axes.set_xlabel("members, most expensive first")
    axes.set_title("Concentration of cost")
    _subtitle(axes, "Share of the paid amount")


def _denials(axes: Axes, denials: Sequence[ProcedureDenials]) -> None:
    decided = sum(denial.decided for denial in denials)
    overall = sum(denial.denied for denial in denials) / max(1, decided)
    # A rate of a handful of claims says nothing.
    shown = [denial for denial in denials if denial.decided >= max(30, decided // 5000)][:12][::-1]
    rates = [denial.rate for denial in shown]
    place = np.arange(len(shown))
    bars = axes.barh(place, rates, 0.68, color=[_BAD if rate > 2 * overall else _LIGHT for rate in rates])
    axes.bar_label(bars, [f"{rate:.1%}" for rate in rates], padding=4, color=_INK, size=8.8)
    axes.axvline(overall, color=_INK, lw=1.1, ls=(0, (4, 3)))
    names = [f"{reference.PROCEDURE_TITLES[denial.procedure_code]}  {denial.procedure_code}" for denial in shown]
    axes.set_yticks(place, names, color=_INK)
    axes.set_xlim(0, max([*rates, 0.01]) * 1.13)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.tick_params(length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    axes.set_title("Denial rate by procedure")
    _subtitle(axes, f"Of decided claims; dashed: all procedures, {overall:.1%}; red: more than twice that")


def _returns(axes: Axes, returns: Sequence[Roi]) -> None:
    sums = [
        (
            client.name,
            float(sum(roi.intervention_cost for roi in returns if roi.client == client.name)),
            float(sum(roi.avoided_cost for roi in returns if roi.client == client.name)),
        )
        for client in reference.CLIENTS
    ]
    sums = sorted((row for row in sums if row[1] > 0), key=lambda row: row[2] / row[1])
    place = np.arange(len(sums))
    for y, (_, cost, avoided) in zip(place, sums, strict=True):
        color = _GOOD if avoided >= cost else _BAD
        axes.plot([cost, avoided], [y, y], color=color, lw=4.5, alpha=0.3, solid_capstyle="butt", zorder=2)
        axes.annotate(
            f"{avoided / cost:.2f}x",
            (max(cost, avoided), y),
            (9, 0),
            textcoords="offset points",
            va="center",
            color=color,
            weight="bold",
            size=8.8,
        )
    costs, avoideds = [row[1] for row in sums], [row[2] for row in sums]
    axes.scatter(costs, place, s=52, color=_MUTED, zorder=3, label="programmes cost")
    axes.scatter(
        avoideds,
        place,
        s=52,
        color=[_GOOD if avoided >= cost else _BAD for _, cost, avoided in sums],
        zorder=3,
    )
    axes.scatter([], [], s=52, color=_GOOD, label="cost avoided, pays off")
    axes.scatter([], [], s=52, color=_BAD, label="does not")
    axes.set_yticks(place, [row[0] for row in sums], color=_INK)
    axes.set_ylim(-0.7, max(len(sums), 1) - 0.3)
    axes.set_xlim(0, max([*costs, *avoideds, 1]) * 1.13)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _millions(value / 1e6)))
    axes.tick_params(length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    axes.set_title("Return of the care programmes in a year")
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        ncols=3,
        borderaxespad=0,
        borderpad=0.7,
        handletextpad=0.1,
        columnspacing=1.2,
    )
