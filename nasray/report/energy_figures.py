"""The plots of the energy account: stacked bars for nodes, and stages beside what was announced."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nasray.report.figures import Trace, styled_figure
from nasray.report.quantities import format_energy

if TYPE_CHECKING:
    import plotly.graph_objects as go

_PATTERNS = {"measured": "", "attributed": "/", "estimated": "x", "unavailable": "."}
"""Hatching of each quality; hatched is what no counter read for it alone."""

_J_PER_WH = 3600.0
_BAR_PX = 34


@dataclass(frozen=True, kw_only=True)
class Part:
    """Where the energy of one domain of a node went; all energies in J, None if unknown.

    Args:
        node: Its name.
        domain: Such as "cpu".
        node_j: All of it, the sum of the others.
        trials_j: The run's candidates and trainings.
        overhead_j: The process that steers them.
        other_j: Work that is not the run's.
        idle_j: What nobody reserved.
        quality: How the figures were come by.
        source: From what.
    """

    node: str
    domain: str
    node_j: float | None
    trials_j: float | None
    overhead_j: float | None
    other_j: float | None
    idle_j: float | None
    quality: str
    source: str


def stage_name(name: str) -> str:
    """Return what bills and clocks call a stage that the account calls "final training" or the like."""
    return name.removesuffix(" training")


def nodes_figure(parts: Sequence[Part]) -> go.Figure:
    """Draw a stacked bar for each domain of each node."""
    names = [_text(f"{part.node[:8]} {part.domain} ({part.quality})") for part in parts]
    stacks = ("trials_j", "overhead_j", "other_j", "idle_j")
    traces = [_stack(key.removesuffix("_j"), series, parts, names) for series, key in enumerate(stacks)]
    return styled_figure(
        traces,
        height=150 + _BAR_PX * len(parts),
        meta={"trials": []},
        barmode="stack",
        hovermode="closest",
        xaxis={"title": {"text": "Energy (Wh)"}, "tickformat": "~g"},
        yaxis={"title": {"text": ""}, "autorange": "reversed", "type": "category"},
    )


def stages_figure(stages: Mapping[str, Any], announced: Sequence[Mapping[str, Any]]) -> go.Figure:
    """Draw a bar for the energy of each stage, and a mark at what the bill announced for it."""
    charged = {stage_name(name): stage for name, stage in stages.items()}
    names = list(dict.fromkeys([*(stage["name"] for stage in announced), *charged]))
    used = [(name, charged[name]) for name in names if name in charged and charged[name]["energy_j"] is not None]
    labels = {name: _text(name) for name in names} | {name: _text(f"{name} ({s['quality']})") for name, s in used}
    bars: Trace = {
        "type": "bar",
        "orientation": "h",
        "name": "used",
        "y": [labels[name] for name, _ in used],
        "x": [stage["energy_j"] / _J_PER_WH for _, stage in used],
        "text": [format_energy(stage["energy_j"]) for _, stage in used],
        "textposition": "auto",
        "insidetextanchor": "start",
        "textangle": 0,
        "hoverinfo": "text",
        "marker": _hatched([stage["quality"] for _, stage in used]),
        "meta": {"role": "bar", "trial": "", "series": 0},
    }
    known = [stage for stage in announced if stage["energy_j"] is not None]
    marks: Trace = {
        "mode": "markers",
        "name": "announced",
        "y": [labels[stage["name"]] for stage in known],
        "x": [stage["energy_j"] / _J_PER_WH for stage in known],
        "hovertext": [f"announced: {format_energy(stage['energy_j'])}" for stage in known],
        "hoverinfo": "text",
        "marker": {"symbol": "diamond-tall", "size": 16, "line": {"width": 1.5}},
        "meta": {"role": "front", "trial": ""},
    }
    return styled_figure(
        [bars, *([marks] if known else [])],
        height=150 + _BAR_PX * len(names),
        meta={"trials": []},
        hovermode="closest",
        bargap=0.4,
        xaxis={"title": {"text": "Energy (Wh)"}, "tickformat": "~g", "rangemode": "tozero"},
        yaxis={
            "title": {"text": ""},
            "type": "category",
            "autorange": "reversed",
            "categoryorder": "array",
            "categoryarray": [labels[name] for name in names],
        },
    )


def _stack(name: str, series: int, parts: Sequence[Part], names: Sequence[str]) -> Trace:
    energies = [getattr(part, f"{name}_j") or 0.0 for part in parts]  # parts of known bars are known
    return {
        "type": "bar",
        "orientation": "h",
        "name": name,
        "y": list(names),
        "x": [energy_j / _J_PER_WH for energy_j in energies],
        "text": [name if energy_j else "" for energy_j in energies],
        "textposition": "inside",
        "textangle": 0,
        "insidetextanchor": "middle",
        "constraintext": "both",
        "hovertext": [
            _text(f"{name}: {format_energy(energy_j)} of {format_energy(part.node_j or 0.0)}, {part.quality}")
            + f"<br>{_text(part.source)}"
            for energy_j, part in zip(energies, parts, strict=True)
        ],
        "hoverinfo": "text",
        "marker": _hatched([part.quality for part in parts]),
        "meta": {"role": "bar", "trial": "", "series": series},
    }


def _hatched(qualities: Sequence[str]) -> dict[str, Any]:
    return {"pattern": {"shape": [_PATTERNS.get(quality, ".") for quality in qualities]}, "line": {"width": 1}}


def _text(value: object) -> str:
    return html.escape(str(value), quote=False)
