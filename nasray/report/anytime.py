"""The report's sections on networks with early exits: curves, every exit, differences, the cells and the searches."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nasray.report.anytime_adaptive import adaptive_traces, differences, within_budgets
from nasray.report.anytime_searches import searches
from nasray.report.anytime_table import COST_NAMES, Kind, accuracy_text, kinds
from nasray.report.figures import Trace, styled_figure
from nasray.report.genotype_drawing import draw_genotype, draw_layout
from nasray.report.markup import Html, element, join
from nasray.report.quantities import MISSING, format_metric, quantity
from nasray.report.sections import Figures
from nasray.report.tables import table

if TYPE_CHECKING:
    import plotly.graph_objects as go

METHOD = "ms-ranas"
"""Method of the runs that end with networks with exits."""

FILE = "anytime.json"
"""Name of the file in a run's directory."""

_DASHES = {"found": "solid", "random": "dash", "msdnet": "dot"}
_SYMBOLS = {"found": "circle", "random": "square", "msdnet": "diamond"}


def anytime(results: Mapping[str, Any] | None, figures: Figures) -> list[Html]:
    """Return the sections of a run with early exits; what the run did not get to is said in a sentence.

    Args:
        results: Content of the run's `anytime.json`; None before its end.
        figures: Takes the plots.
    """
    if not results or not results.get("networks"):
        return [_section("Accuracy of each exit", _empty("No network was trained before the run stopped."))]
    groups = kinds(results["networks"])
    return [
        _section(
            "Accuracy of each exit",
            element(
                "p",
                "Lines join the exits, means over seeds with the standard deviation of the accuracy; small "
                "marks are single networks. Against MACs, thin dashed lines are those of the best network of a kind if "
                "images leave at the first exit that is sure of them, at their mean cost.",
                class_="note",
            ),
            figures.place(exits_figure(groups), "Test accuracy of each exit against its cost; tabulated below."),
            exits_table(groups),
            _details("Every network", networks_table(results["networks"])),
        ),
        *within_budgets(groups, results.get("budgets")),
        differences(results.get("comparisons", [])),
        *_ablation(groups, figures),
        _cells(results["networks"]),
        _section("Searches", *searches(results.get("searches", []), figures)),
    ]


def exits_figure(groups: Sequence[Kind]) -> go.Figure:
    """Draw test accuracy over the cost of each exit: a line for each kind, small marks for its networks."""
    names = [name for name in COST_NAMES if all(exit.costs[name] is not None for kind in groups for exit in kind.exits)]
    traces = [trace for series, kind in enumerate(groups) for trace in _curve(kind, series, names)]
    traces += adaptive_traces(groups)
    axes = {name: {"title": quantity(name).title, "tickformat": quantity(name).tick_format} for name in names}
    return styled_figure(
        traces,
        height=520,
        meta={"costs": axes, "trials": []},
        xaxis={"title": {"text": axes[names[0]]["title"]}, "tickformat": axes[names[0]]["tickformat"]},
        yaxis={"title": {"text": "Test accuracy"}, "tickformat": ".1~%"},
    )


def settings_figure(found: Sequence[Kind]) -> go.Figure:
    """Draw the accuracy of the last exit for each way to search."""
    exits = [kind.exits[-1] for kind in found]
    labels = [html.escape(str(kind.rows[0]["variant"]), quote=False) for kind in found]
    points = {
        "x": [exit.accuracy for exit in exits],
        "y": labels,
        "error_x": {"type": "data", "array": [exit.accuracy_std or 0.0 for exit in exits], "thickness": 1.5},
        "mode": "markers",
        "name": "Found, last exit",
        "marker": {"size": 10},
        "hovertext": [f"{label}<br>{accuracy_text(exit)} %" for label, exit in zip(labels, exits, strict=True)],
        "hoverinfo": "text",
        "meta": {"role": "samples", "trial": "", "series": 0},
    }
    return styled_figure(
        [points],
        height=140 + 36 * len(found),
        meta={"trials": []},
        xaxis={"title": {"text": "Test accuracy"}, "tickformat": ".1~%"},
        yaxis={"title": {"text": ""}, "autorange": "reversed"},
    )


def exits_table(groups: Sequence[Kind]) -> Html:
    """Tabulate every exit of every kind, means over its networks."""
    rows = [
        [
            join(
                kind.label,
                element(
                    "small",
                    f" exit {summary.exit}, mean of {len(kind.rows)}"
                    if len(kind.rows) > 1
                    else f" exit {summary.exit}",
                ),
            ),
            f"{accuracy_text(summary)} %",
            *(format_metric(name, summary.costs[name]) for name in _measured(groups)),
            _share(summary.costs["latency_ms"], kind.exits[-1].costs["latency_ms"]),
        ]
        for kind in groups
        for summary in kind.exits
    ]
    heads = ["Network", "Test accuracy", *(quantity(name).label for name in _measured(groups)), "Of last latency"]
    return table(heads, rows, caption="Every exit; costs to this exit and to no other, batch size 1")


def networks_table(networks: Sequence[Mapping[str, Any]]) -> Html:
    """Tabulate every exit of every network."""
    rows = [
        [
            row["name"],
            element("code", row["arch_id"]),
            exit["exit"],
            format_metric("accuracy", exit["test_accuracy"]),
            *(format_metric("macs", exit[name]) for name in ("macs", "cumulative_macs", "parameters")),
            format_metric("latency_ms", exit["latency_ms"]),
        ]
        for row in networks
        for exit in row["exits"]
    ]
    heads = ["Trial", "Network", "Exit", "Test accuracy", "MACs", "MACs of all exits so far", "Parameters", "Latency"]
    return table(heads, rows, caption="Every exit of every network", num_text=2)


def _curve(kind: Kind, series: int, names: Sequence[str]) -> list[Trace]:
    exits = kind.exits
    label = html.escape(kind.label, quote=False)
    mean = {
        "x": [exit.costs[names[0]] for exit in exits],
        "y": [exit.accuracy for exit in exits],
        "error_y": {"type": "data", "array": [exit.accuracy_std or 0.0 for exit in exits], "thickness": 1.5},
        "mode": "lines+markers",
        "name": label,
        "line": {"dash": _DASHES[kind.group], "width": 2},
        "marker": {"symbol": _SYMBOLS[kind.group], "size": 9},
        "hovertext": [f"{label}<br>exit {exit.exit}: {accuracy_text(exit)} %" for exit in exits],
        "hoverinfo": "text",
        "meta": _meta("path", series, {name: [exit.costs[name] for exit in exits] for name in names}),
    }
    single = [(row, exit) for row in kind.rows for exit in row["exits"]]
    marks = {
        "x": [exit[names[0]] for _, exit in single],
        "y": [exit["test_accuracy"] for _, exit in single],
        "mode": "markers",
        "name": label,
        "showlegend": False,
        "marker": {"symbol": _SYMBOLS[kind.group], "size": 5, "opacity": 0.4},
        "hovertext": [
            f"{html.escape(str(row['name']), quote=False)}<br>exit {exit['exit']}: "
            f"{format_metric('accuracy', exit['test_accuracy'])}"
            for row, exit in single
        ],
        "hoverinfo": "text",
        "meta": _meta("samples", series, {name: [exit[name] for _, exit in single] for name in names}),
    }
    return [mean, marks] if len(kind.rows) > 1 else [mean]


def _meta(role: str, series: int, columns: Mapping[str, Sequence[float | None]]) -> dict[str, Any]:
    return {"role": role, "trial": "", "series": series, "columns": {name: list(x) for name, x in columns.items()}}


def _measured(groups: Sequence[Kind]) -> list[str]:
    return [name for name in COST_NAMES if any(exit.costs[name] is not None for kind in groups for exit in kind.exits)]


def _share(value: float | None, whole: float | None) -> str:
    return MISSING if value is None or not whole else f"{100 * value / whole:.0f} %"


def _ablation(groups: Sequence[Kind], figures: Figures) -> list[Html]:
    """Return the section on ways to search, if there are several."""
    found = [kind for kind in groups if kind.group == "found"]
    if len(found) < 2:
        return []
    place = figures.place(settings_figure(found), "Accuracy of the last exit for each way to search; tabulated above.")
    return [_section("Ways to search", place)]


def _cells(networks: Sequence[Mapping[str, Any]]) -> Html:
    found = [row for row in networks if row["group"] == "found"]
    drawings = [
        _details(
            f"{row['variant']}, seed {row['seed']}",
            join(
                draw_genotype(row["genotype"], caption=f"Cells of {row['name']}"),
                draw_layout(row["layout"], caption="Where cells and exits stand"),
                element("p", f"Exported exit by exit in {row['model_dir']}.") if row["model_dir"] else None,
            ),
            is_open=index == 0,
        )
        for index, row in enumerate(found)
    ]
    return _section("Cells that were found", *drawings)


def _section(heading: str, *content: object) -> Html:
    return element("section", element("h2", heading), *content)


def _details(summary: str, content: Html, *, is_open: bool = False) -> Html:
    return element("details", element("summary", summary), content, open=is_open)


def _empty(sentence: str) -> Html:
    return element("p", sentence, class_="empty")
