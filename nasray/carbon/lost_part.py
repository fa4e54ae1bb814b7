"""A part of an account that nobody knows any more: it is in the account as unavailable, never as 0."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from nasray.carbon.lease import DomainEnergy, Lease, LeaseEnergy

LOST = "earlier part"
"""Owner, stage and node of what is lost."""


def lost_snapshot(reason: str) -> dict[str, Any]:
    """Return a snapshot of a meter, for `EnergyLedger`, that was charged an energy which is not known.

    Args:
        reason: Why, for the figure's source.
    """
    unknown = {"node_j": None, "trials_j": None, "other_j": None, "idle_j": None, "quality": "unavailable"}
    energy = LeaseEnergy(
        owner=LOST,
        stage=LOST,
        domains={"all": DomainEnergy(energy_j=None, quality="unavailable", source=reason)},
        duration_s=0.0,
        closed_by="process gone",
    )
    lease = Lease(owner=LOST, stage=LOST, pid=1, process_created_s=0.0)
    return {
        "node": LOST,
        "meter_id": f"lost-{uuid.uuid4().hex}",
        "sequence": 1,
        "duration_s": 0.0,
        "clock_steps_back": 0,
        "domains": {"all": {**unknown, "source": reason, "idle_power_w": None, "missing_s": 0.0}},
        "leases": {LOST: {"lease": lease.to_json(), "energy": energy.to_json()}},
    }


def was_metered(folder: Path) -> bool:
    """Return whether a run's folder had an account: it is written before the first evaluation is recorded."""
    record = folder / "evaluations.jsonl"
    return (folder / "emissions.csv").exists() or (record.exists() and record.stat().st_size > 0)


def set_aside(path: Path) -> Path:
    """Rename a damaged file, so that a person can look at it, and return its new path."""
    kept = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
    path.replace(kept)
    return kept


def closed(snapshot: Mapping[str, Any]) -> dict[str, Any]:
    """Return a snapshot of a process that has ended: its leases are closed, their energies stay."""
    leases = {key: {**lease, "energy": _closed(lease["energy"])} for key, lease in snapshot["leases"].items()}
    return {**snapshot, "leases": leases}


def _closed(energy: Mapping[str, Any]) -> dict[str, Any]:
    if energy["closed_by"] is not None:
        return dict(energy)
    return replace(LeaseEnergy.from_json(energy), closed_by="process gone").to_json()
