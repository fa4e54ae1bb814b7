"""What the searches of a run are charged for: tables in closed form, or measured once and kept with the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from nasray.differentiable.expected_cost import CostTable, CostTerm, macs_table
from nasray.differentiable.measured_cost import energy_table, latency_table
from nasray.spaces.multi_scale_layout import MultiScaleSettings
from nasray.tune.ms_ranas_settings import MSRanasSettings, Variant
from nasray.tune.stages import Stages

FILE = "search_costs.json"
"""Name of the file with measured tables in a run's directory."""


def cost_terms(
    settings: MSRanasSettings, layouts: Mapping[Variant, MultiScaleSettings], stages: Stages
) -> dict[Variant, CostTerm]:
    """Return what each variant with a cost weight is charged.

    Args:
        settings: Of the run.
        layouts: Of each variant's relaxed network.
        stages: Of the run, in whose directory measured tables are kept for when it is resumed.

    Raises:
        ValueError: If the device's energy is unknown, or the target is below what every network takes.
    """
    tables: dict[MultiScaleSettings, CostTable] = {}
    terms = {}
    for variant, layout in layouts.items():
        if variant.cost_weight:
            if layout not in tables:
                tables[layout] = macs_table(layout) if settings.cost == "macs" else _kept(settings, layout, stages)
            terms[variant] = CostTerm(table=tables[layout], weight=variant.cost_weight, target=settings.cost_target)
    return terms


def _kept(settings: MSRanasSettings, layout: MultiScaleSettings, stages: Stages) -> CostTable:
    """Return the measured table of a layout, from the run's directory if it is there."""
    key, known = f"{settings.cost}-s{layout.scales}-e{layout.exits}", stages.run.read_json(FILE) or {}
    if key not in known:
        with stages.timed(f"{settings.cost} table", settings.latency_device):
            known = {**known, key: _measured(settings, layout, stages)}
        stages.run.write_json(FILE, known)
    table = known[key]
    normal, reduce = (torch.tensor(table[kind], dtype=torch.float64) for kind in ("normal", "reduce"))
    return CostTable(unit=table["unit"], normal=normal, reduce=reduce, fixed=table["fixed"])


def _measured(settings: MSRanasSettings, layout: MultiScaleSettings, stages: Stages) -> dict[str, Any]:
    if settings.cost == "latency":
        table = latency_table(layout, device=settings.latency_device)
    else:
        table, quality = energy_table(layout, device=settings.latency_device)
        stages.run.add_notice(quality)
    costs = {"normal": table.normal.tolist(), "reduce": table.reduce.tolist(), "fixed": table.fixed}
    return {"unit": table.unit, **costs}
