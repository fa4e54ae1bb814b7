"""What a snapshot of a meter looks like on disk, checked before a ledger goes on with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from nasray.carbon.lease import LeaseEnergy, Quality
from nasray.reading import build


@dataclass(frozen=True, kw_only=True)
class _Domain:
    node_j: float | None
    trials_j: float | None
    other_j: float | None
    idle_j: float | None
    quality: Quality
    source: str
    idle_power_w: float | None
    missing_s: float

    def __post_init__(self) -> None:
        energies = (self.node_j, self.trials_j, self.other_j, self.idle_j)
        if any(value is not None and value < 0 for value in (*energies, self.idle_power_w, self.missing_s)):
            raise ValueError("Energies, power and time of a domain must be 0 or more")
        if len({value is None for value in energies}) > 1:
            raise ValueError("Energies of a domain must be known all together, or not at all")


@dataclass(frozen=True, kw_only=True)
class _Difference:
    codecarbon_kwh: float | None
    nasray_kwh: float | None
    relative_difference: float | None


@dataclass(frozen=True, kw_only=True)
class _CrossCheck:
    source: str
    reason: str | None
    seconds: float
    domains: dict[str, _Difference]


@dataclass(frozen=True, kw_only=True)
class _Lease:
    lease: dict[str, Any]
    energy: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class _Snapshot:
    node: str
    meter_id: str
    sequence: int
    duration_s: float
    clock_steps_back: int
    domains: dict[str, _Domain]
    leases: dict[str, _Lease]
    cross_check: _CrossCheck | None = None
    host: str | None = None
    machine: str | None = None
    session: str | None = None
    ended: str | None = None


def read_snapshot(value: object) -> Mapping[str, Any]:
    """Return a snapshot of `NodeMeter` as a file held it; totals of leases are added up anew.

    Raises:
        ValueError: If it is anything else.
    """
    snapshot = {name: held for name, held in asdict(build(_Snapshot, value)).items() if held is not None}
    leases = {
        key: {**lease, "energy": LeaseEnergy.from_json(lease["energy"]).to_json()}
        for key, lease in snapshot["leases"].items()
    }
    return {**snapshot, "leases": leases}
