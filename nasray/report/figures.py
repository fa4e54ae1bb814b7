"""The plots, as plotly figures without colours: the page's script colours them for light and dark from its CSS.

Every trace says in its `meta` what it is: `role`, `trial` ("" for all of them), `series` (the index of its colour),
`cost` (the only cost that it is drawn for) and `columns` (its x values for each cost). From that the script
switches cost and trial. Text that plotly shows may hold markup, so everything from a run's files is escaped.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nasray.report.frames import cost_names, search_samples, trajectory_rows, trial_names
from nasray.report.quantities import format_metric, quantity

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

Trace = dict[str, Any]

_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "pentagon", "triangle-down", "x")


def trajectory_figure(frame: pd.DataFrame, cost_name: str) -> go.Figure | None:
    """Draw, over the iterations, the best sample's accuracy above its cost and the budget that it had to meet.

    Args:
        frame: Evaluations, from `evaluations_frame`.
        cost_name: Only trials that were guided by this cost are drawn.

    Returns:
        The figure, or `None` if no iteration of such a trial chose a best sample.
    """
    samples = search_samples(frame)
    path = trajectory_rows(samples)
    path = path[path["cost_name"] == cost_name]
    if path.empty:
        return None
    traces: list[Trace] = []
    for series, trial in enumerate(trial_names(samples)):
        rows = path[path["trial_id"] == trial]
        if not rows.empty:
            traces += _iteration_traces(rows, trial, series)
    shown = quantity(cost_name)
    return styled_figure(
        traces,
        height=560,
        meta={"trials": trial_names(path)},
        xaxis={"title": {"text": "Iteration"}, "anchor": "y2", "tickformat": "d"},
        yaxis={"title": {"text": "Best accuracy"}, "tickformat": ".1~%", "domain": [0.54, 1]},
        yaxis2={"title": {"text": shown.title}, "tickformat": shown.tick_format, "domain": [0, 0.46]},
    )


def _iteration_traces(rows: pd.DataFrame, trial: str, series: int) -> Iterator[Trace]:
    """Draw one trial's accuracy (upper plot), cost and budget (lower plot) over its iterations."""
    meta = {"trial": trial, "series": series}
    shared = {"x": _values(rows["iteration"]), "legendgroup": trial, "hoverinfo": "text"}
    hover = _points(rows, cost_names(rows))["hovertext"]
    marked = {
        "mode": "lines+markers",
        "name": _text(trial),
        "marker": {"symbol": _symbol(series), "size": 8},
        "hovertext": hover,
        "meta": {"role": "path", **meta},
    }
    yield {**shared, **marked, "y": _values(rows["accuracy"])}
    yield {**shared, **marked, "y": _values(rows["cost"]), "yaxis": "y2", "showlegend": False}
    yield {
        **shared,
        "y": _values(rows["budget"]),
        "yaxis": "y2",
        "mode": "lines",
        "name": f"{_text(trial)}: budget",
        "line": {"shape": "hvh", "dash": "dot", "width": 1.5},
        "hoverinfo": "skip",
        "meta": {"role": "budget", **meta},
    }


def _points(rows: pd.DataFrame, costs: Sequence[str]) -> Trace:
    """Return x (the first cost), y (accuracy) and the hover text of each row."""
    names = ["accuracy", *costs]
    texts = []
    for row in rows.to_dict("records"):
        iteration = f"iteration {row['iteration']:.0f}" if row["iteration"] == row["iteration"] else ""
        heading = [_text(row["arch_id"]), _text(row["trial_id"]), iteration]
        texts.append(_hover(heading, {name: None if row[name] != row[name] else row[name] for name in names}))
    x = _values(rows[costs[0]]) if costs else []
    return {"x": x, "y": _values(rows["accuracy"]), "hovertext": texts, "hoverinfo": "text"}


def _hover(heading: Sequence[str], metrics: Mapping[str, float | None]) -> str:
    lines = [f"{_text(quantity(name).label)}: {format_metric(name, value)}" for name, value in metrics.items()]
    return "<br>".join([line for line in heading if line] + lines)


def _columns(rows: pd.DataFrame, costs: Sequence[str]) -> dict[str, list[float | None]]:
    return {name: _values(rows[name]) for name in costs}


def _values(column: pd.Series[float]) -> list[float | None]:
    return [None if value != value else float(value) for value in column]


def _symbol(series: int) -> str:
    return _SYMBOLS[series % len(_SYMBOLS)]


def _text(value: object) -> str:
    return html.escape(str(value), quote=False)


def styled_figure(traces: Sequence[Trace], *, height: int, **layout: Any) -> go.Figure:
    """Assemble a figure without plotly's own template, whose colours would stand against the page's."""
    import plotly.graph_objects as go

    figure = go.Figure(data=[{"type": "scatter", **trace} for trace in traces])
    return figure.update_layout(
        template="none",
        height=height,
        margin={"l": 64, "r": 12, "t": 36, "b": 48},
        **layout,
    )
