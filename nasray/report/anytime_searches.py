"""The report's part on differentiable searches: their losses epoch by epoch, and how they ended."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nasray.report.figures import Trace, styled_figure
from nasray.report.markup import Html
from nasray.report.quantities import MISSING, format_duration, format_metric
from nasray.report.sections import Figures
from nasray.report.tables import table

if TYPE_CHECKING:
    import plotly.graph_objects as go


def searches(found: Sequence[Mapping[str, Any]], figures: Figures) -> list[Html]:
    """Return the plot of the losses, and a table of how the searches ended.

    Args:
        found: Results of the searches, each with `name`, `history` and `seconds`.
        figures: Takes the plot.
    """
    lasts = [search["history"][-1] for search in found]
    metrics = {
        "loss": "Loss of the weights",
        "valid_loss": "Loss of the architecture",
        "holdout_accuracy": "Held-out accuracy",
    }
    rows = [
        [
            search["name"],
            str(len(search["history"])),
            *(format_metric(name, last.get(name)) for name in metrics),
            *(MISSING if name not in last else f"{last[name]:.0f}" for name in ("num_skips", "num_poolings")),
            format_duration(search["seconds"]),
        ]
        for search, last in zip(found, lasts, strict=True)
    ]
    heads = ["Search", "Epochs", *metrics.values(), "Skips", "Poolings", "Time"]
    caption = "Searches at their end; skip connections and poolings are those of the normal cell"
    place = figures.place(losses_figure(found), "Both losses of each search over its epochs.")
    return [place, table(heads, rows, caption=caption)]


def losses_figure(searches: Sequence[Mapping[str, Any]]) -> go.Figure:
    """Draw both losses of each search over its epochs."""
    traces: list[Trace] = []
    for series, search in enumerate(searches):
        name = html.escape(str(search["name"]), quote=False)
        for column, label, dash in (("loss", "weights", "solid"), ("valid_loss", "architecture", "dot")):
            traces.append(
                {
                    "x": [epoch["epoch"] for epoch in search["history"]],
                    "y": [epoch.get(column) for epoch in search["history"]],
                    "mode": "lines",
                    "name": f"{name}: {label}",
                    "line": {"width": 2, "dash": dash},
                    "meta": {"role": "path", "trial": search["name"], "series": series},
                }
            )
    return styled_figure(
        traces,
        height=420,
        meta={"trials": [search["name"] for search in searches]},
        xaxis={"title": {"text": "Epoch"}, "tickformat": "d"},
        yaxis={"title": {"text": "Loss, summed over exits"}},
    )
