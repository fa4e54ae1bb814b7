"""The report's tables: every number that the plots show, to read, copy or hear."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nasray.causes import Cause
from nasray.report.frames import search_samples, trajectory_rows, trial_names
from nasray.report.markup import Html, element, join
from nasray.report.quantities import (
    MISSING,
    format_duration,
    format_factor,
    format_metric,
    format_share,
    format_time,
    quantity,
)

if TYPE_CHECKING:
    import pandas as pd

_COSTS = ("macs", "parameters", "memory_bytes", "latency_ms")


def table(
    heads: Sequence[str], rows: Iterable[Sequence[object]], *, caption: str, num_text: int = 1, class_: str = "cards"
) -> Html:
    """Write a table that scrolls sideways by itself; with the class "cards" a phone shows each row as a card.

    Args:
        heads: Column names.
        rows: One sequence of cells per row, as long as `heads`; the first cell names the row.
        caption: What the table shows.
        num_text: How many of the first columns are text; the others are numbers, set to the right.
        class_: Classes of the table element.
    """
    kinds = ["text" if index < num_text else "number" for index in range(len(heads))]
    columns = [element("th", head, scope="col", class_=kind) for head, kind in zip(heads, kinds, strict=True)]
    body = [element("tr", *map(_cell, cells, heads, kinds, range(len(heads)))) for cells in rows]
    whole = element(
        "table",
        element("caption", caption),
        element("thead", element("tr", *columns)),
        element("tbody", *body),
        class_=class_,
    )
    return element("div", whole, class_="scroll", role="region", aria_label=caption, tabindex="0")


def results_table(results: Sequence[Mapping[str, Any]]) -> Html:
    """Tabulate the initial network and those found, every cost also as a share of the initial network's."""
    initial = initial_result(results)
    heads = ["Network", "Search accuracy", "Test accuracy", *(quantity(name).label for name in _COSTS), "Samples"]
    rows = []
    for row in results:
        found_by = [
            _target(row, initial),
            f"network {row.get('arch_id')}",
            f"in {row['model_dir']}" if row.get("model_dir") else "",
        ]
        samples = _count(row.get("samples"))
        iterations = f"{row['iterations']} iterations" if row.get("iterations") else ""
        rows.append(
            [
                join(row.get("label", MISSING), *map(_small, found_by)),
                *(format_metric("accuracy", row.get(name)) for name in ("accuracy_supernet", "test_accuracy")),
                *(_cost(row, initial, name) for name in _COSTS),
                join(samples, _small(iterations)),
            ]
        )
    return table(heads, rows, caption="The initial network and the networks found")


def trade_offs_table(rows: Sequence[Mapping[str, Any]]) -> Html:
    """Tabulate the best network of each objective and the best trade-offs, costs with the factor that they save."""
    names = list(rows[0]["metrics"])
    cells = []
    for row in rows:
        saves = row["saves"]
        metrics = [
            join(
                format_metric(name, row["metrics"].get(name)),
                _small(format_factor(saves.get(name, 1.0))),
            )
            for name in names
        ]
        cells.append([join(row["network"], _small(f"network {row['arch_id']}")), *metrics])
    heads = ["Network", *(quantity(name).label for name in names)]
    return table(heads, cells, caption="The best of each objective, and the best trade-offs")


def prediction_table(results: Sequence[Mapping[str, Any]]) -> Html | None:
    """Tabulate predicted against measured latency; `None` if no result has a prediction."""
    rows = []
    for row in results:
        predicted_ms, measured_ms = row.get("latency_predicted_ms"), row.get("latency_ms")
        if predicted_ms is not None:
            spread_ms = row.get("latency_spread_ms")
            spread = MISSING if spread_ms is None else f"{spread_ms:.3g} ms"
            error = f"{100 * (predicted_ms / measured_ms - 1):+.1f} %" if measured_ms else MISSING
            latencies = (format_metric("latency_ms", value) for value in (predicted_ms, measured_ms))
            rows.append([row.get("label", MISSING), *latencies, spread, error])
    heads = ["Network", "Predicted", "Measured", "Spread of the measurement", "Prediction error"]
    return table(heads, rows, caption="Latency: sum of the lookup table, and measured") if rows else None


def iterations_table(frame: pd.DataFrame) -> Html:
    """Tabulate each iteration's samples, budget and best sample."""
    counts = frame.groupby(["trial_id", "iteration"]).size()
    path = trajectory_rows(search_samples(frame))
    rows = []
    for trial in trial_names(path):
        for row in path[path["trial_id"] == trial].to_dict("records"):
            costs = [format_metric(row["cost_name"], _none_if_nan(row[name])) for name in ("budget", "cost")]
            samples = int(counts[(trial, row["iteration"])])
            accuracy = format_metric("accuracy", row["accuracy"])
            rows.append(
                [f"{trial}, {_number(row['iteration'])}", element("code", row["arch_id"]), samples, *costs, accuracy]
            )
    heads = ["Trial and iteration", "Best architecture", "Samples", "Budget", "Cost", "Search accuracy"]
    return table(heads, rows, caption="The best sample of each iteration", num_text=2)


def causes_table(causes: Sequence[Cause], num_evaluations: int) -> Html:
    """Tabulate why evaluations failed or were infeasible, with an example of each and what may help."""
    rows = [
        [
            cause.reason,
            cause.status,
            f"{cause.count:,}",
            format_share(cause.count, num_evaluations),
            element("code", cause.arch_id),
            cause.remedy,
        ]
        for cause in causes
    ]
    heads = ["Reason", "Status", "Evaluations", "Share", "Example", "Remedy"]
    return table(heads, rows, caption="Failures by reason", class_="cards causes")


def stages_table(stages: Sequence[Mapping[str, Any]]) -> Html:
    """Tabulate the time of each stage, with a bar for its share."""
    total_s = sum(stage["seconds"] for stage in stages)
    longest_s = max((stage["seconds"] for stage in stages), default=0)
    rows = []
    for stage in stages:
        width = 100 * stage["seconds"] / longest_s if longest_s else 0
        bar = element("span", element("span", style=f"width:{width:.2f}%"), class_="time-bar", aria_hidden="true")
        duration, share = format_duration(stage["seconds"]), format_share(stage["seconds"], total_s)
        rows.append([stage["name"], bar, duration, share, stage.get("device"), format_time(stage.get("started"))])
    heads = ["Stage", "", "Time", "Share", "Device", "Started"]
    return table(heads, rows, caption=f"Time of each stage, {format_duration(total_s)} in all", class_="cards stages")


def facts_table(facts: Iterable[tuple[str, Any]], *, caption: str) -> Html:
    """Tabulate names and values; what is neither text nor missing is written as JSON."""
    rows = [[element("code", name), element("code", _fact(value))] for name, value in facts]
    return table(["Name", "Value"], rows, caption=caption, num_text=2, class_="facts")


def initial_result(results: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the row of the network that the search started from; empty if there is none."""
    return next((row for row in results if row.get("label") == "initial"), {})


def _cell(cell: object, head: str, kind: str, index: int) -> Html:
    if index == 0:
        return element("th", cell, class_=kind, scope="row")
    return element("td", element("span", cell), class_=kind, data_label=head or None)


def _cost(row: Mapping[str, Any], initial: Mapping[str, Any], name: str) -> Html:
    """Write a cost with its spread and device, and its share of the initial network's."""
    value, details = row.get(name), []
    text = format_metric(name, value)
    if name == "latency_ms" and value is not None:
        if row.get("latency_spread_ms") is not None:
            text += f" ± {row['latency_spread_ms']:.3g}"
        details.append(f"on {row.get('device', 'an unnamed device')}")
    if row is not initial and value is not None and initial.get(name):
        details.insert(0, f"{format_share(value, initial[name])} of initial")
    return join(text, _small(", ".join(details)))


def _target(row: Mapping[str, Any], initial: Mapping[str, Any]) -> str:
    """Say the target and whether it was met; a target up to 1 on a counted cost is a share of the initial one."""
    target, name = row.get("target"), str(row.get("cost_name"))
    if target is None:
        return ""
    if target <= 1 and quantity(name).tick_format == "~s":
        target = target * initial[name] if initial.get(name) else None
    text = f"target {format_metric(name, target)}"
    if row.get(name) is None or target is None:
        return text
    return f"{text}, {'met' if row[name] <= target else 'missed'}"


def _small(text: str) -> Html | None:
    return element("small", text) if text else None


def _number(value: float) -> str:
    return MISSING if value != value else f"{value:.0f}"


def _count(value: int | None) -> str:
    return MISSING if value is None else f"{value:,}"


def _none_if_nan(value: float) -> float | None:
    return None if value != value else value


def _fact(value: object) -> str:
    if value is None:
        return "not recorded"
    return value if isinstance(value, str) else json.dumps(value)
