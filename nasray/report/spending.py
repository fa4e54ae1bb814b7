"""The report's section on what the search was announced to cost, what it cost, and when that pays."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nasray.carbon.bill import duration
from nasray.carbon.lifetime import BreakEven, CostPerUse, break_even, lifetime_cost
from nasray.report.energy import total_energy_j
from nasray.report.energy_figures import stage_name
from nasray.report.figures import Trace, styled_figure
from nasray.report.markup import Html, element, join
from nasray.report.quantities import MISSING, format_carbon, format_energy, format_metric, format_share
from nasray.report.sections import Figures
from nasray.report.tables import initial_result, table

if TYPE_CHECKING:
    import plotly.graph_objects as go

_DASHES = ("solid", "dashdot", "longdash", "dot")
_POINTS = 49


def spending(account: Mapping[str, Any] | None, run: Mapping[str, Any], figures: Figures) -> Html | None:
    """Show the bill against what was spent, and lifetimes; None where the run recorded nothing of it.

    Args:
        account: Content of the run's `energy.json`.
        run: Content of its `run.json`.
        figures: Takes the plot of lifetimes.
    """
    bill = run.get("bill")
    content: list[Html | None] = []
    if bill:
        content += [element("p", sentence) for sentence in run.get("spent") or ()]
        content += [bill_table(bill, account, run), element("p", f"Announced {bill['calibration']}.", class_="note")]
    content += _lifetimes(account, run, figures)
    return element("section", element("h2", "Bill, lifetime and break-even"), *content) if content else None


def bill_table(bill: Mapping[str, Any], account: Mapping[str, Any] | None, run: Mapping[str, Any]) -> Html:
    """Tabulate time, energy and CO2 of each stage: announced before the search, and spent."""
    charged = {stage_name(name): stage for name, stage in ((account or {}).get("stages") or {}).items()}
    seconds = {stage["name"]: stage["seconds"] for stage in run.get("stages") or ()}
    announced = {stage["name"]: stage for stage in bill["stages"]}
    rows = [
        _bill_row(name, announced.get(name, {}), charged.get(name, {}), seconds.get(name))
        for name in dict.fromkeys([*announced, *seconds, *charged])
    ]
    carbon_g = [stage["carbon_g"] for stage in charged.values() if stage.get("carbon_g") is not None]
    is_known = bool(charged) and len(carbon_g) == len(charged)
    total = {"energy_j": total_energy_j(account), "carbon_g": math.fsum(carbon_g) if is_known else None}
    rows.append(_bill_row("all stages", bill["total"], total, (account or {}).get("hours", 0) * 3600 or None))
    heads = [
        "Stage",
        "Time announced",
        "Time spent",
        "Energy announced",
        "Energy spent",
        "CO2e announced",
        "CO2e spent",
    ]
    return table(heads, rows, caption="The bill before the search, and what was spent")


def lifetimes(search_j: float, rows: Sequence[Mapping[str, Any]]) -> list[BreakEven]:
    """Return when the search of each found network has paid for itself against the initial one.

    Args:
        search_j: What the run used, in J.
        rows: Of the run's results, with `energy_mj` of an inference where it is known.
    """
    initial = initial_result(rows)
    if not initial.get("energy_mj"):
        return []
    found = [row for row in rows if row is not initial and row.get("energy_mj")]
    return [break_even(search_j, _use(row), _use(initial)) for row in found]


def lifetime_figure(points: Sequence[BreakEven]) -> go.Figure:
    """Draw the energy of search and inferences over the number of inferences; lines cross where a search has paid."""
    last = max((point.uses or 0 for point in points), default=0) or 10**9
    first = max(1.0, last / 1e3)
    uses = [first * (1e6 ** (step / (_POINTS - 1))) for step in range(_POINTS)]
    baseline = points[0].baseline
    traces = [_line(baseline.network, baseline, 0.0, uses, 0, "dash")]
    for series, point in enumerate(points, start=1):
        traces.append(_line(point.found.network, point.found, point.search_cost, uses, series, _DASHES[series % 4]))
        if point.outcome == "after" and point.uses:
            traces.append(_crossing(point, series))
    return styled_figure(
        traces,
        height=420,
        meta={"trials": []},
        xaxis={"title": {"text": "Inferences"}, "type": "log", "tickformat": "~s"},
        yaxis={"title": {"text": "Energy of search and use (kWh)"}, "type": "log", "tickformat": "~g"},
    )


def _lifetimes(account: Mapping[str, Any] | None, run: Mapping[str, Any], figures: Figures) -> list[Html | None]:
    """Return what is known of lifetimes: recorded sentences, and the plot where energies per inference are known."""
    told = [element("li", sentence) for sentence in run.get("break_even") or ()]
    content: list[Html | None] = [element("h3", "Break-even"), element("ul", *told)] if told else []
    inferences = (run.get("configuration") or {}).get("inferences")
    if inferences:
        text = f"Lifetime CO2e of a candidate is that of its training and of {inferences:,.0f} inferences."
        content.append(element("p", text))
    energy_j = total_energy_j(account)
    points = [] if energy_j is None else lifetimes(energy_j, run.get("results") or [])
    if points:
        label = "Energy of search and use over the number of inferences; tabulated below."
        content += [figures.place(lifetime_figure(points), label), _lifetime_table(points)]
    return content


def _lifetime_table(points: Sequence[BreakEven]) -> Html:
    rows = [
        [
            point.found.network,
            format_metric("energy_mj", 1e3 * point.found.cost),
            point.found.quality,
            format_metric("energy_mj", 1e3 * point.baseline.cost),
            {"never": "never", "at once": "at once"}.get(point.outcome, f"after {point.uses or 0:,} inferences"),
        ]
        for point in points
    ]
    heads = ["Network", "Per inference", "Quality", "Initial network, per inference", "The search has paid for itself"]
    return table(heads, rows, caption="Break-even against the initial network")


def _bill_row(
    name: str, announced: Mapping[str, Any], charged: Mapping[str, Any], seconds: float | None
) -> list[object]:
    energies = announced.get("energy_j"), charged.get("energy_j")
    carbons = announced.get("carbon_g"), charged.get("carbon_g")
    evaluations = f"{announced['evaluations']:,} evaluations" if announced.get("evaluations") else ""
    share = "" if None in energies else f"{format_share(energies[1], energies[0])} of announced"
    told = [MISSING if value is None else format_energy(value) for value in energies]
    return [
        join(name, element("small", evaluations) if evaluations else None),
        duration(announced["hours"]) if "hours" in announced else MISSING,
        MISSING if seconds is None else duration(seconds / 3600),
        told[0],
        join(told[1], element("small", share) if share else None),
        *(MISSING if value is None else format_carbon(value) for value in carbons),
    ]


def _use(row: Mapping[str, Any]) -> CostPerUse:
    return CostPerUse(
        network=str(row.get("label")),
        cost=row["energy_mj"] / 1e3,
        quality="measured" if row.get("energy_quality") == "measured" else "estimated",
    )


def _line(name: str, use: CostPerUse, search_j: float, uses: Sequence[float], series: int, dash: str) -> Trace:
    totals = [lifetime_cost(search_j, per_inference=use.cost, num_inferences=count) for count in uses]
    label = html.escape(name if search_j == 0 else f"{name}, with its search", quote=False)
    return {
        "x": list(uses),
        "y": [total / 3.6e6 for total in totals],
        "mode": "lines",
        "name": label,
        "line": {"width": 2.5, "dash": dash},
        "hovertext": [f"{label}<br>{c:,.0f} inferences: {format_energy(t)}" for c, t in zip(uses, totals, strict=True)],
        "hoverinfo": "text",
        "meta": {"role": "initial" if search_j == 0 else "path", "trial": "", "series": series},
    }


def _crossing(point: BreakEven, series: int) -> Trace:
    uses = point.uses or 0
    return {
        "x": [uses],
        "y": [uses * point.baseline.cost / 3.6e6],
        "mode": "markers",
        "name": html.escape(f"{point.found.network}: break-even", quote=False),
        "showlegend": False,
        "marker": {"symbol": "diamond", "size": 12, "line": {"width": 1.5}},
        "hovertext": [html.escape(point.describe(), quote=False)],
        "hoverinfo": "text",
        "meta": {"role": "path", "trial": "", "series": series},
    }
