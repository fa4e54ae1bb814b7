"""Figures 2 to 4 of Fu et al. 2021 as plots that the page's script colours; what they show is in the tables too.

Bars are thick lines, because the script knows lines and marks.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nasray.carbon.nas_costs import SearchCost, SearchMethod
from nasray.report.figures import styled_figure
from nasray.report.quantities import format_count, format_metric

if TYPE_CHECKING:
    import plotly.graph_objects as go

Trace = dict[str, Any]

PAPER_FACTORS, OWN_FACTORS = "paper", "own"
_MIN_MACS, _MAX_MACS = 5e7, 5e9
_UNKNOWN_SIZE = 11
_MIN_HEIGHT = 320  # that of a plot's place in the page


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A named amount of CO2.

    Args:
        name: What emits it.
        carbon_t: How much, in t; None where it is not known.
        own_t: The same with the caller's factors; None where there are none.
        note: More for the hover text.
    """

    name: str
    carbon_t: float | None
    own_t: float | None = None
    note: str = ""


def search_figure(
    known: Sequence[tuple[SearchMethod, SearchCost, SearchCost | None]], *, num_added: int = 0
) -> go.Figure:
    """Draw accuracy against the CO2 of the search; the size of a mark is the network's multiply-adds.

    Args:
        known: Methods of known GPU hours and accuracy, their cost by the paper's factors and, if there are other
            factors, by those.
        num_added: How many of the last ones the reader added.

    Source: Fu et al. 2021, Fig. 2. Deviation: the methods are those whose figures are printed in the papers at hand.
    """
    split = len(known) - num_added
    traces: list[Trace] = []
    for series, (name, rows) in enumerate((("From the papers", known[:split]), ("From your file", known[split:]))):
        for is_sized in (True, False):
            chosen = [row for row in rows if (row[0].macs is not None) == is_sized]
            if chosen:
                traces.append(_marks(chosen, name if is_sized else f"{name}, MACs not known", series, is_sized))
    has_own = any(own is not None for _, _, own in known)
    return _assemble(
        traces,
        height=560,
        has_own=has_own,
        title="Search: kg CO2",
        xaxis={"type": "log", "tickformat": "~g", "dtick": "D2", "range": None if has_own else _log_range(known)},
        yaxis={"title": {"text": "Top-1 accuracy on ImageNet"}, "tickformat": ".1~%"},
    )


def bar_figure(bars: Sequence[Bar], *, title: str, series: int = 0) -> go.Figure:
    """Draw amounts of CO2, the first at the top.

    Args:
        bars: What to draw.
        title: Of the axis, with the unit.
        series: Index of the colour.
    """
    has_own = any(bar.own_t is not None for bar in bars)
    largest = max(bar.carbon_t or 0.0 for bar in bars)
    return _assemble(
        [_thick_line(bar, series, has_own=has_own) for bar in bars],
        height=max(_MIN_HEIGHT, 110 + 34 * len(bars)),
        has_own=has_own,
        title=title,
        # Room for the amount at the end of the longest bar.
        xaxis={
            "tickformat": "~s",
            "nticks": 5,
            "rangemode": "tozero",
            "range": None if has_own else [0, 1.4 * largest],
        },
        yaxis={"autorange": "reversed", "type": "category", "ticklabelstandoff": 6},
    )


def _marks(
    rows: Sequence[tuple[SearchMethod, SearchCost, SearchCost | None]], name: str, series: int, is_sized: bool
) -> Trace:
    columns = {PAPER_FACTORS: [cost.carbon_kg for _, cost, _ in rows]}
    columns |= {OWN_FACTORS: [own.carbon_kg for _, _, own in rows if own is not None]}
    symbol = ("circle", "square")[series] + ("" if is_sized else "-open")
    return {
        "x": columns[PAPER_FACTORS],
        "y": [method.top1_accuracy for method, _, _ in rows],
        "mode": "markers+text",
        "name": name,
        "text": [_text(method.name) for method, _, _ in rows],
        "textposition": "top center",
        "textfont": {"size": 11},
        "cliponaxis": False,
        "hovertext": [_hover(*row) for row in rows],
        "hoverinfo": "text",
        "marker": {
            "symbol": symbol,
            "size": [_UNKNOWN_SIZE if method.macs is None else _size(method.macs) for method, _, _ in rows],
            "opacity": 0.85,
        },
        "meta": {"role": "samples", "trial": "", "series": series, "columns": columns},
    }


def _thick_line(bar: Bar, series: int, *, has_own: bool) -> Trace:
    amount = "not known" if bar.carbon_t is None else _tonnes(bar.carbon_t)
    own = "" if bar.own_t is None else f"; with your factors {_tonnes(bar.own_t)}"
    hover = "<br>".join(_text(line) for line in (bar.name, amount + own, bar.note) if line)
    # A bar of nothing still says that its amount is not known.
    columns = {PAPER_FACTORS: [0.0, bar.carbon_t or 0.0]} | ({OWN_FACTORS: [0.0, bar.own_t or 0.0]} if has_own else {})
    return {
        "x": columns[PAPER_FACTORS],
        "y": [_text(bar.name)] * 2,
        "mode": "lines+text",
        "line": {"width": 18},
        "text": ["", "" if has_own and bar.carbon_t is not None else f" {amount}"],
        "textposition": "middle right",
        "cliponaxis": False,
        "hovertext": [hover, hover],
        "hoverinfo": "text",
        "showlegend": False,
        "meta": {"role": "samples", "trial": "", "series": series, "columns": columns},
    }


def _hover(method: SearchMethod, cost: SearchCost, own: SearchCost | None) -> str:
    lines = [
        method.name,
        f"{cost.gpu_hours:,.4g} GPU hours",
        f"{cost.carbon_kg:,.4g} kg CO2" + ("" if own is None else f"; with your factors {own.carbon_kg:,.4g} kg"),
        f"Accuracy {format_metric('accuracy', method.top1_accuracy)}",
        "MACs not known" if method.macs is None else f"{format_count(method.macs)}MACs",
        method.source,
        method.note,
    ]
    return "<br>".join(_text(line) for line in lines if line)


def _size(macs: float) -> float:
    """Return a diameter whose area follows the multiply-adds, within what can be seen and fits."""
    return 16 * math.sqrt(min(max(macs, _MIN_MACS), _MAX_MACS) / 3e8)


def _log_range(known: Sequence[tuple[SearchMethod, SearchCost, SearchCost | None]]) -> list[float]:
    """Return the limits of the axis, in powers of ten, with room for the names beside the outermost marks."""
    exponents = [math.log10(cost.carbon_kg) for _, cost, _ in known] or [2.0]
    room = 0.12 * (max(exponents) - min(exponents)) + 0.1
    return [min(exponents) - room, max(exponents) + room]


def _tonnes(value: float) -> str:
    if value >= 1e4:
        return f"{value / 1000:,.1f} kt"
    return f"{value:,.1f} t" if value >= 1 else f"{value:.2g} t"


def _text(value: str) -> str:
    return html.escape(value, quote=False)


def _assemble(
    traces: Sequence[Trace], *, height: int, has_own: bool, title: str, xaxis: Trace, yaxis: Trace
) -> go.Figure:
    """Assemble a figure, with a selector of the factors where there are two sets of them."""
    meta: Trace = {"trials": []}
    if has_own:
        names = {PAPER_FACTORS: "paper's factors", OWN_FACTORS: "your factors"}
        meta["costs"] = {
            key: {"title": f"{title}, {name}", "tickformat": xaxis["tickformat"]} for key, name in names.items()
        }
    shown = {key: value for key, value in xaxis.items() if value is not None}
    return styled_figure(traces, height=height, meta=meta, xaxis={"title": {"text": title}, **shown}, yaxis=yaxis)
