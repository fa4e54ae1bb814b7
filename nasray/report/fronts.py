"""The report's sections on the candidates: fronts of any two figures, parallel coordinates, the order of evaluation."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nasray.report.candidates import Candidates
from nasray.report.markup import Html, element
from nasray.report.parallel import parallel_data, parallel_sentence, spread
from nasray.report.quantities import format_metric, in_sentence, quantity
from nasray.report.sections import Figures
from nasray.report.tables import table

_MOST_ROWS = 300
_LEAST_BLOCK = 5
_MOST_OBJECTIVES = 4
"""Of more objectives only the fronts with the first are tabulated; the page shows the others."""


def fronts(candidates: Candidates, figures: Figures) -> Html:
    """Show the candidates in two figures of the reader's choice, with their front and the best trade-off."""
    heading = "Fronts"
    names = list(candidates.metrics)
    if len(names) < 2 or not any(len(candidates.complete(pair)) for pair in itertools.combinations(names, 2)):
        sentence = "No candidate that meets the constraints has two figures, so there is no front to draw."
        if not candidates.rows:
            sentence = "No evaluations were recorded before the run stopped."
        return element("section", element("h2", heading), element("p", sentence, class_="empty"))
    y, x = default_pair(candidates)
    controls = [
        _select("x", "Across", [(name, quantity(name).label) for name in names], x),
        _select("y", "Up", [(name, quantity(name).label) for name in names], y),
        _select("scale", "Scales", [("auto", "by range"), ("linear", "linear"), ("log", "logarithmic")], "auto"),
        _select("view", "View", [("all", "all candidates"), ("front", "around the front")], "all"),
        element("label", "Trial", " ", element("select", id="choose-trial"), hidden=True, id="trial-label"),
    ]
    tables = [front_table(candidates, pair) for pair in objective_pairs(candidates)]
    return element(
        "section",
        element("h2", heading),
        element("p", _counts(candidates), class_="note"),
        element("div", *controls, class_="controls", role="group", aria_label="What the plot of fronts shows"),
        figures.built("pair", "Candidates and their front in the two chosen figures; tabulated below."),
        element("p", id="pair-caption", class_="note", aria_live="polite"),
        element(
            "details",
            element("summary", "The front that is shown, as a table"),
            element("div", id="pair-table"),
        ),
        _picked(),
        element("details", element("summary", "Fronts of every two objectives"), *tables) if tables else None,
    )


def parallel(candidates: Candidates, figures: Figures) -> Html | None:
    """Show objectives and main choices of the candidates as parallel coordinates; None with fewer than two axes."""
    data = parallel_data(candidates)
    if data is None:
        return None
    names = data["metrics"]
    figures.candidates["parallel"] = data
    label = "Parallel coordinates of objectives and choices; their front is tabulated below."
    rows = front_table(candidates, names)
    return element(
        "section",
        element("h2", "Objectives and choices together"),
        element("p", parallel_sentence(data, names[0]), class_="note"),
        figures.built("parallel", label),
        element("details", element("summary", "The front of these objectives, as a table"), rows),
    )


def order(candidates: Candidates, run: Mapping[str, Any], figures: Figures) -> Html | None:
    """Show a figure of the reader's choice over the order of evaluation; None without candidates."""
    if not candidates.metrics:
        return None
    names = list(candidates.metrics)
    size, meaning = block_size(run, len(candidates.rows))
    figures.candidates["block"] = size
    return element(
        "section",
        element("h2", "Candidate by candidate"),
        element(
            "p",
            f"In the order in which evaluations ended. The line is the best so far, squares are medians of {meaning}; "
            "the ticks at the foot are candidates that failed or that no one may have (infeasible).",
            class_="note",
        ),
        element(
            "div",
            _select("order", "Figure", [(name, quantity(name).label) for name in names], names[0]),
            class_="controls",
        ),
        figures.built("order", "The chosen figure of every candidate in the order of evaluation; tabulated below."),
        element("details", element("summary", "Medians and best, as a table"), element("div", id="order-table")),
    )


def default_pair(candidates: Candidates) -> tuple[str, str]:
    """Return the quality (up) and the first cost (across)."""
    names = [objective.name for objective in candidates.measured]
    names += [name for name in candidates.metrics if name not in names]
    return names[0], names[1]


def objective_pairs(candidates: Candidates) -> list[tuple[str, str]]:
    """Return each two objectives that some candidate has, the second of them first, as across and up."""
    names = [objective.name for objective in candidates.measured]
    pairs = itertools.combinations(names, 2) if len(names) <= _MOST_OBJECTIVES else ((names[0], n) for n in names[1:])
    return [(across, up) for up, across in pairs if len(candidates.complete((across, up)))]


def front_table(candidates: Candidates, names: Sequence[str]) -> Html:
    """Tabulate the front of some metrics, ordered by the first; of a long one evenly spread networks."""
    front = candidates.front(names)
    shown = spread(front, _MOST_ROWS)
    others = [objective.name for objective in candidates.measured if objective.name not in names]
    columns = [*names, *others]
    rows = []
    for index in shown:
        row = candidates.rows[index]
        figures = (candidates.metrics[name][index] for name in columns)
        cells = [format_metric(n, None if v != v else float(v)) for n, v in zip(columns, figures, strict=True)]
        rows.append([element("code", row.get("arch_id")), *cells])
    some = "" if len(shown) == len(front) else f", {len(shown)} of them, evenly spread"
    against = " against ".join(quantity(name).label for name in reversed(names))
    heads = ["Network", *(quantity(name).label for name in columns)]
    return table(heads, rows, caption=f"The front of {against}: {len(front):,} networks{some}", class_="cards dense")


def block_size(run: Mapping[str, Any], num_rows: int) -> tuple[int, str]:
    """Return over how many evaluations medians are taken, and what to call them."""
    population = (run.get("configuration") or {}).get("population_size")
    is_generational = str(run.get("method")).startswith("optuna-nsga")
    if is_generational and isinstance(population or 50, int):
        size: int = population or 50
        if num_rows / size <= 200:
            return size, f"every {size} evaluations, the size of a generation"
    size = max(_LEAST_BLOCK, round(num_rows / 20))
    return size, f"every {size} evaluations"


def _counts(candidates: Candidates) -> str:
    counts = {kind: candidates.kinds.count(kind) for kind in ("ok", "infeasible", "failed")}
    text = f"{len(candidates.rows):,} candidates: {counts['ok']:,} count"
    if candidates.constraints:
        text += f" (they meet {', '.join(map(str, candidates.constraints))})"
    parts = [f"{counts['infeasible']:,} are infeasible", f"{counts['failed']:,} failed"]
    return (
        f"{text}, {', '.join(parts)}. Only those that count can be on a front; infeasible and failed ones are drawn "
        "as crosses if they have both figures. A network that is clicked, or chosen below, is shown with all it has."
    )


def _picked() -> Html:
    label = element("label", "Network on this front", " ", element("select", id="choose-network"))
    return element(
        "div",
        element("div", label, class_="controls"),
        element("div", id="picked", role="region", aria_live="polite", aria_label="The chosen network"),
        class_="picked",
    )


def _select(name: str, label: str, options: Sequence[tuple[str, str]], chosen: str) -> Html:
    choices = [element("option", text, value=value, selected=value == chosen) for value, text in options]
    return element("label", label, " ", element("select", *choices, id=f"choose-{name}"))


def marks(
    run: Mapping[str, Any], candidates: Candidates, trade_offs: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return the networks to mark in plots: the initial and the found ones, and the best trade-offs."""
    return [*_results(run.get("results") or []), *_trade_offs(candidates, trade_offs)]


def _results(rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    names = ("macs", "parameters", "memory_bytes", "latency_ms", "energy_mj", "test_accuracy")
    for row in rows:
        figures = {name: row[name] for name in names if row.get(name) is not None}
        if row.get("accuracy_supernet") is not None:
            figures["accuracy"] = row["accuracy_supernet"]
        kind = "initial" if row.get("label") == "initial" else "found"
        yield {"label": str(row.get("label")), "kind": kind, "arch_id": str(row.get("arch_id")), "metrics": figures}


def _trade_offs(candidates: Candidates, rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    quality, *costs = [objective.name for objective in candidates.measured] or [""]
    pairs = {f"trade-off, {in_sentence(cost)}".lower(): [quality, cost] for cost in costs}
    for row in rows:
        if (name := str(row["network"]).lower()) in pairs:
            yield {
                "label": str(row["network"]),
                "kind": "trade-off",
                "arch_id": str(row["arch_id"]),
                "pair": pairs[name],
                "metrics": dict(row["metrics"]),
            }
