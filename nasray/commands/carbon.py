"""`nasray carbon`: what a run took, or what a place's electricity emits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nasray.carbon.intensity import WORLD, CarbonIntensity, carbon_intensity
from nasray.carbon.lease import LeaseEnergy
from nasray.carbon.ledger import ENERGY_FILE, EnergyLedger
from nasray.records import RunDirectory

CHARGED, NODES = "all of the run", "its nodes meanwhile, with idle and other work"


def carbon_rows(run: Path | None, place: str | None) -> list[dict[str, Any]]:
    """Return energy and CO2 of each stage of a run, of all of it, and of its nodes; or of a place, its grams per kWh.

    Args:
        run: Folder of a run; None for the place alone.
        place: Where the electricity is from; None for the run's own place, or the world's average.

    Raises:
        ValueError: If there is no run, it has no energy account, or the place is unknown.
    """
    intensity = carbon_intensity(place or WORLD) if run is None or place else None
    if run is None:
        assert intensity is not None
        return [{"place": intensity.source, "g_per_kwh": intensity.g_per_kwh}]
    folder = RunDirectory.open(run).path
    if not (folder / ENERGY_FILE).exists():
        raise ValueError(f"{folder} must have an energy account ({ENERGY_FILE}), got none. Was its energy metered?")
    ledger = EnergyLedger.of_folder(folder)
    factor = intensity or ledger.intensity
    rows = [_row(ledger, stage, energy, factor) for stage, energy in ledger.stages().items()]
    total = ledger.total()
    # Containers of one machine show all of it each.
    nodes_j = None if total["unknown"] or total["shared_machines"] else total["node_j"]
    for stage, energy_j in ((CHARGED, ledger.energy_j), (NODES, nodes_j)):
        rows.append(
            {
                "stage": stage,
                "energy_j": energy_j,
                "carbon_g": None if energy_j is None else _carbon_g(ledger, energy_j, factor),
                "quality": ledger.quality if energy_j is not None else "unavailable",
                "pue": ledger.pue,
                "g_per_kwh": factor.g_per_kwh,
                "place": factor.source,
            }
        )
    return rows


def _row(ledger: EnergyLedger, stage: str, energy: LeaseEnergy, factor: CarbonIntensity) -> dict[str, Any]:
    return {
        "stage": stage,
        "energy_j": energy.energy_j,
        "carbon_g": None if energy.energy_j is None else _carbon_g(ledger, energy.energy_j, factor),
        "quality": energy.quality,
        "pue": ledger.pue,
        "g_per_kwh": factor.g_per_kwh,
        "place": factor.source,
    }


def _carbon_g(ledger: EnergyLedger, energy_j: float, factor: CarbonIntensity) -> float:
    return energy_j / 3.6e6 * ledger.pue * factor.g_per_kwh
