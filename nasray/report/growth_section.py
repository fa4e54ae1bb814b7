"""The report's section on the growth of the front."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nasray.report.candidates import Candidates
from nasray.report.figures import styled_figure
from nasray.report.growth import CarbonSpent, Growth, carbon_spent, growth
from nasray.report.markup import Html, element
from nasray.report.quantities import MISSING, format_metric, in_sentence, quantity
from nasray.report.sections import Figures
from nasray.report.tables import table

if TYPE_CHECKING:
    import plotly.graph_objects as go

_ROWS = 20


def growth_section(candidates: Candidates, account: Mapping[str, Any] | None, figures: Figures) -> Html | None:
    """Show the hypervolume over evaluations and over kg CO2e; None where there is nothing to measure.

    Args:
        candidates: Of the run.
        account: Content of its `energy.json`.
        figures: Takes the plots.
    """
    found = growth(candidates)
    if found is None:
        return None
    spent = carbon_spent(candidates, account)
    figure = growth_figure(found, found.evaluations, "Evaluations", ",d")
    plots = [figures.place(figure, "Hypervolume over evaluations; tabulated below.")]
    if spent.total_g is not None:
        figure = growth_figure(found, _kilograms(found, spent), "kg CO2e", "~g")
        plots.append(figures.place(figure, "Hypervolume over kg CO2e; tabulated below."))
    names = ", ".join(in_sentence(name) for name in found.reference_point)
    reference = ", ".join(
        f"{quantity(name).label} {format_metric(name, value)}" for name, value in found.reference_point.items()
    )
    return element(
        "section",
        element("h2", "Growth of the front"),
        element(
            "p",
            f"Hypervolume of the front of {names}{_left_out(candidates, found)}, as a share of the box between the "
            "best values seen and the reference point, which is the worst value of each: "
            f"{reference}. It grows with the front and does not compare with other runs. {spent.explanation}",
            class_="note",
        ),
        element("div", *plots, class_="pair"),
        element("details", element("summary", "The growth in numbers"), growth_table(found, spent)),
    )


def growth_figure(found: Growth, x: Sequence[float], title: str, tick_format: str) -> go.Figure:
    """Draw the hypervolume, in steps, over evaluations or CO2."""
    trace = {
        "x": list(x),
        "y": found.shares,
        "mode": "lines",
        "name": "Hypervolume",
        "line": {"shape": "hv", "width": 2.5},
        "hovertext": [
            html.escape(f"{count:,} evaluations, {share:.2%}, {front:,} on the front", quote=False)
            for count, share, front in zip(found.evaluations, found.shares, found.front, strict=True)
        ],
        "hoverinfo": "text",
        "showlegend": False,
        "meta": {"role": "path", "trial": "", "series": 0},
    }
    return styled_figure(
        [trace],
        height=340,
        meta={"trials": []},
        xaxis={"title": {"text": title}, "tickformat": tick_format, "rangemode": "tozero"},
        yaxis={"title": {"text": "Hypervolume"}, "tickformat": ".3~%", "rangemode": "tozero"},
    )


def growth_table(found: Growth, spent: CarbonSpent) -> Html:
    """Tabulate some points of the curve, evenly spread."""
    count = len(found.evaluations)
    picked = sorted({round(step * (count - 1) / (_ROWS - 1)) for step in range(_ROWS)})
    kilograms = None if spent.total_g is None else _kilograms(found, spent)
    rows = [
        [
            f"{found.evaluations[at]:,}",
            MISSING if kilograms is None else f"{kilograms[at]:.4g}",
            f"{found.front[at]:,}",
            f"{found.shares[at]:.2%}",
            f"{found.hypervolume[at]:.6g}",
        ]
        for at in picked
    ]
    heads = ["Evaluations", "kg CO2e", "On the front", "Hypervolume, of the box", "Hypervolume, in the units' product"]
    return table(heads, rows, caption="Growth of the front", num_text=0)


def _left_out(candidates: Candidates, found: Growth) -> str:
    names = [goal.name for goal in candidates.measured if goal.name not in found.reference_point]
    return (
        f" (without {', '.join(map(in_sentence, names))}, which is the same for all, or which not all have)"
        if names
        else ""
    )


def _kilograms(found: Growth, spent: CarbonSpent) -> list[float]:
    if spent.total_g is None:
        return []
    return [float(spent.total_g[count - 1]) / 1000 for count in found.evaluations]
