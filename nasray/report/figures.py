"""The plots, as plotly figures without colours: the page's script colours them for light and dark from its CSS.

Every trace says in its `meta` what it is: `role`, `trial` ("" for all of them), `series` (the index of its colour),
`cost` (the only cost that it is drawn for) and `columns` (its x values for each cost). From that the script
switches cost and trial. Text that plotly shows may hold markup, so everything from a run's files is escaped.
"""

from __future__ import annotations

import html
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nasray.report.frames import ALL_TRIALS, cost_names, front_rows, search_samples, trajectory_rows, trial_names
from nasray.report.quantities import format_metric, quantity

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

Trace = dict[str, Any]

MAX_POINTS = 5000
"""Samples drawn one by one; more would make the page heavy and slow without showing more."""

_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "pentagon", "triangle-down", "x")
_FOUND_SYMBOLS = ("hexagram", "star-diamond", "star-square", "star-triangle-up", "hourglass", "bowtie")


def accuracy_figure(frame: pd.DataFrame, results: Sequence[Mapping[str, Any]]) -> go.Figure | None:
    """Draw accuracy against cost: every sample, the front, each search's path, and the networks of the results.

    Accuracy is the search's own, with inherited weights; test accuracies are another measure and are not mixed in.

    Args:
        frame: Evaluations, from `evaluations_frame`.
        results: Rows of the run's `results`.

    Returns:
        The figure, showing the first cost and all trials; `None` if no evaluation has an accuracy and a cost.
    """
    samples = search_samples(frame)
    costs = cost_names(samples)
    if samples.empty or not costs:
        return None
    trials = trial_names(samples)
    groups = [(series, trial, samples[samples["trial_id"] == trial]) for series, trial in enumerate(trials)]
    traces = [
        _samples_trace(thin(rows, MAX_POINTS // len(trials)), costs, trial, series) for series, trial, rows in groups
    ]
    traces += _front_traces(samples, costs, ALL_TRIALS)
    if len(trials) > 1:
        traces += [trace for _, trial, rows in groups for trace in _front_traces(rows, costs, trial)]
    traces += [_path_trace(rows, costs, trial, series) for series, trial, rows in groups if rows["selected"].any()]
    traces += _result_traces(results, costs, trials)
    axes = {name: {"title": quantity(name).title, "tickformat": quantity(name).tick_format} for name in costs}
    return styled_figure(
        traces,
        height=560,
        meta={"costs": axes, "trials": trials},
        xaxis={"title": {"text": axes[costs[0]]["title"]}, "tickformat": axes[costs[0]]["tickformat"]},
        yaxis={"title": {"text": "Search accuracy"}, "tickformat": ".1~%"},
    )


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


def thin(rows: pd.DataFrame, limit: int) -> pd.DataFrame:
    """Keep at most `limit` rows, spread evenly over the run."""
    if len(rows) <= limit:
        return rows
    return rows.iloc[[index * len(rows) // limit for index in range(limit)]]


def _samples_trace(rows: pd.DataFrame, costs: Sequence[str], trial: str, series: int) -> Trace:
    return {
        **_points(rows, costs),
        "mode": "markers",
        "name": _text(trial),
        "legendgroup": trial,
        "showlegend": not rows["selected"].any(),
        "marker": {"symbol": _symbol(series), "size": 5, "opacity": 0.35},
        "meta": {"role": "samples", "trial": trial, "series": series, "columns": _columns(rows, costs)},
    }


def _front_traces(rows: pd.DataFrame, costs: Sequence[str], trial: str) -> Iterator[Trace]:
    """Draw the front for each cost, in steps: between two networks on it, the cheaper is the best to be had."""
    for cost in costs:
        front = front_rows(rows, cost)
        yield {
            "x": _values(front[cost]),
            "y": _values(front["accuracy"]),
            "mode": "lines",
            "name": "Pareto front",
            "line": {"shape": "hv", "dash": "dash", "width": 2},
            "hoverinfo": "skip",
            "visible": trial == ALL_TRIALS and cost == costs[0],
            "meta": {"role": "front", "trial": trial, "cost": cost},
        }


def _path_trace(rows: pd.DataFrame, costs: Sequence[str], trial: str, series: int) -> Trace:
    path = trajectory_rows(rows)
    return {
        **_points(path, costs),
        "mode": "lines+markers",
        "name": _text(trial),
        "legendgroup": trial,
        "line": {"width": 1.5},
        "marker": {"symbol": _symbol(series), "size": 9, "line": {"width": 1.5}},
        "meta": {"role": "path", "trial": trial, "series": series, "columns": _columns(path, costs)},
    }


def _result_traces(
    results: Sequence[Mapping[str, Any]], costs: Sequence[str], trials: Sequence[str]
) -> Iterator[Trace]:
    symbols = itertools.cycle(_FOUND_SYMBOLS)
    for row in results:
        if row.get("accuracy_supernet") is None:
            continue
        is_initial = row.get("label") == "initial"
        label = "initial network" if is_initial else _text(row.get("label"))
        columns = {name: [row.get(name)] for name in costs}
        trial = ALL_TRIALS if is_initial or row.get("trial_id") not in trials else row["trial_id"]
        metrics = {"accuracy": row["accuracy_supernet"]} | {name: row.get(name) for name in costs}
        yield {
            "x": columns[costs[0]],
            "y": [row["accuracy_supernet"]],
            "mode": "markers",
            "name": label if is_initial else f"found: {label}",
            "hovertext": [_hover([label, _text(row.get("arch_id"))], metrics)],
            "hoverinfo": "text",
            "marker": {"symbol": "star" if is_initial else next(symbols), "size": 16, "line": {"width": 1.5}},
            "meta": {"role": "initial" if is_initial else "found", "trial": trial, "columns": columns},
        }


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
        legend={"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0},
        hoverlabel={"align": "left"},
        **layout,
    )
