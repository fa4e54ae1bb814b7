"""The report's section on costs that were measured again: predicted against measured, with the line of equality."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from nasray.reading import build
from nasray.records import RunError
from nasray.report.figures import styled_figure
from nasray.report.markup import Html, element
from nasray.report.quantities import MISSING, format_metric, in_sentence, quantity
from nasray.report.sections import Figures
from nasray.report.tables import prediction_table, table

if TYPE_CHECKING:
    import plotly.graph_objects as go

FILE = "cost_check.json"
"""Name of the file in a run's directory."""


def cost_check(check: Mapping[str, Any] | None, results: Sequence[Mapping[str, Any]], figures: Figures) -> Html | None:
    """Show predicted costs beside measured ones; `None` where the run has none.

    Args:
        check: Content of the run's `cost_check.json`: the found networks, measured again.
        results: Rows of its results, with predicted latencies where there are any.
        figures: Takes the plot.
    """
    predictions = prediction_table(results)
    content: list[Html | None] = [predictions]
    if check and check.get("networks"):
        label = f"Predicted against measured {in_sentence(check['metric'])} of every found network; tabulated below."
        content += [
            element("h3", "Measured again after the search"),
            element("p", _sentence(check), class_="note"),
            figures.place(cost_check_figure(check), label),
            element("details", element("summary", "Every network"), cost_check_table(check)),
        ]
    elif predictions is None:
        return None
    return element("section", element("h2", "Predicted against measured"), *content)


def cost_check_figure(check: Mapping[str, Any]) -> go.Figure:
    """Draw predicted over measured cost of each network, with the line on which both are equal."""
    networks, unit = check["networks"], check["unit"]
    measured, predicted = ([row[name] for row in networks] for name in ("measured", "predicted"))
    ends = [min(*measured, *predicted), max(*measured, *predicted)]
    spreads = [row["spread"] or 0.0 for row in networks]
    points = {
        "x": measured,
        "y": predicted,
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [spread / 2 for spread in spreads],
            "arrayminus": [min(spread / 2, value) for spread, value in zip(spreads, measured, strict=True)],
            "thickness": 1,
            "width": 0,
        },
        "mode": "markers",
        "name": "networks",
        "marker": {"size": 9, "line": {"width": 1}},
        "hovertext": [_hover(row, check["metric"], unit) for row in networks],
        "hoverinfo": "text",
        "meta": {"role": "samples", "trial": "", "series": 0},
    }
    line = {
        "x": ends,
        "y": ends,
        "mode": "lines",
        "name": "predicted = measured",
        "line": {"dash": "dash", "width": 2},
        "hoverinfo": "skip",
        "meta": {"role": "front", "trial": ""},
    }
    name = quantity(check["metric"]).label
    return styled_figure(
        [line, points],
        height=460,
        meta={"trials": []},
        xaxis={"title": {"text": f"{name} measured ({html.escape(unit, quote=False)})"}},
        yaxis={"title": {"text": f"{name} predicted ({html.escape(unit, quote=False)})"}},
    )


def cost_check_table(check: Mapping[str, Any]) -> Html:
    """Tabulate the networks, the cheapest first."""
    unit = check["unit"]
    rows = [
        [
            row["label"],
            element("code", row["arch_id"]),
            _with_unit(row["predicted"], unit),
            _with_unit(row["measured"], unit),
            MISSING if row["spread"] is None else _with_unit(row["spread"], unit),
            f"{100 * (row['predicted'] / row['measured'] - 1):+.1f} %",
        ]
        for row in sorted(check["networks"], key=lambda row: row["measured"])
    ]
    heads = ["Network", "Architecture", "Predicted", "Measured", "Spread of the rounds", "Prediction error"]
    return table(heads, rows, caption=f"Predicted and measured on {check['device']}", num_text=2)


@dataclass(frozen=True, kw_only=True)
class _Network:
    arch_id: str
    label: str
    predicted: float
    measured: float
    spread: float | None

    def __post_init__(self) -> None:
        if min(self.predicted, self.measured) <= 0 or (self.spread or 0.0) < 0:
            raise ValueError(f"Costs of {self.label!r} must be positive")


@dataclass(frozen=True, kw_only=True)
class _Check:
    schema_version: int
    metric: str
    unit: str
    device: str
    networks: list[_Network]
    kendall_tau: float | None
    spearman_rho: float | None
    mean_absolute_percentage_error: float
    median_ratio: float


def _checked(check: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        return asdict(build(_Check, check))
    except ValueError as error:
        raise RunError(f"{FILE} of the run is damaged ({error}). Restore it from a copy or remove it.") from error


def _sentence(check: Mapping[str, Any]) -> str:
    orders = [("Kendall's tau", check["kendall_tau"]), ("Spearman's rho", check["spearman_rho"])]
    ranks = " and ".join(f"{name} of {value:.2f}" for name, value in orders if value is not None)
    error = check["mean_absolute_percentage_error"]
    return (
        f"{len(check['networks'])} networks were measured again on {check['device']}. Predictions are "
        f"{error:.1f} % off on average, with a median of predicted over measured of {check['median_ratio']:.2f}"
        + (f", and order the networks with {ranks}." if ranks else ".")
    )


def _hover(row: Mapping[str, Any], metric: str, unit: str) -> str:
    lines = [str(row["label"]), str(row["arch_id"])]
    lines += [f"{name}: {_with_unit(row[name], unit)}" for name in ("predicted", "measured")]
    return "<br>".join(html.escape(line, quote=False) for line in lines)


def _with_unit(value: float, unit: str) -> str:
    return f"{format_metric('', value)} {unit}"
