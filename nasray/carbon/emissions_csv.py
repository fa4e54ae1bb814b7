"""Owners' energies in the columns of codecarbon's emissions.csv, for the tools that read it."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nasray.carbon.lease import LeaseEnergy
from nasray.carbon.sensors import CPU, GPU_PREFIX, RAM
from nasray.records.files import write_whole

_J_PER_KWH = 3.6e6


def emissions_columns() -> list[str]:
    """Return the columns of the installed codecarbon."""
    from codecarbon.output_methods.emissions_data import EmissionsData

    return [field.name for field in fields(EmissionsData)]


def emissions_row(energy: LeaseEnergy, *, emissions_kg: float | None, pue: float) -> dict[str, Any]:
    """Return one owner as a row of emissions.csv: energies in kWh before PUE, emissions with it; unknown is `None`.

    `run_id` is the owner, `experiment_id` its stages, and `tracking_mode` says how good the energy is. What this
    package does not know (water, position, hardware of the node) is left empty.

    Args:
        energy: What the owner was charged.
        emissions_kg: Its CO2 equivalent in kg, or `None` if unknown.
        pue: Power usage effectiveness behind `emissions_kg`.
    """
    by_kind = {kind: _sum_j(energy, prefix) for kind, prefix in (("cpu", CPU), ("gpu", GPU_PREFIX), ("ram", RAM))}
    seconds = energy.duration_s
    known = {
        "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
        "project_name": "nasray",
        "run_id": energy.owner,
        "experiment_id": energy.stage,
        "duration": seconds,
        "emissions": emissions_kg,
        "emissions_rate": _divided(emissions_kg, seconds),
        **{
            f"{kind}_power": None if value is None or not seconds else value / seconds
            for kind, value in by_kind.items()
        },
        **{f"{kind}_energy": None if value is None else value / _J_PER_KWH for kind, value in by_kind.items()},
        "energy_consumed": None if energy.energy_j is None else energy.energy_j / _J_PER_KWH,
        "codecarbon_version": version("codecarbon"),
        "tracking_mode": f"nasray lease ({energy.quality})",
        "pue": pue,
    }
    return {column: known.get(column) for column in emissions_columns()}


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows of `emissions_row` as a CSV file.

    Raises:
        nasray.records.RunError: If the file cannot be written.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=emissions_columns())
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, text.getvalue())


def _sum_j(energy: LeaseEnergy, kind: str) -> float | None:
    """Return joules in the domains of a kind: 0 if the owner used none, `None` if one of them is unknown."""
    values = [domain.energy_j for name, domain in energy.domains.items() if name.startswith(kind)]
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _divided(value: float | None, by: float) -> float | None:
    return None if value is None or not by else value / by
