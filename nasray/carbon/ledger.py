"""The energy account of an experiment: the snapshots of all meters, added up by node, owner and stage."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

from nasray.carbon.emissions_csv import emissions_row, write_rows
from nasray.carbon.intensity import CarbonIntensity, check_pue
from nasray.carbon.lease import LeaseEnergy, Quality, worst_quality
from nasray.carbon.lost_part import closed, lost_snapshot, set_aside, was_metered
from nasray.carbon.stored_snapshot import read_snapshot
from nasray.reading import build, read_json
from nasray.records.files import write_whole

J_PER_KWH = 3.6e6

NOT_COVERED = ("power-supply loss", "fans", "network", "disks", "embodied carbon")
"""What no sensor here sees."""

TOLERANCE = 1e-9
"""How far, relatively, trials + other + idle may be from the node's energy."""

ENERGY_FILE = "energy.json"
"""What the ledger is called in a run's folder."""

_PARTS = ("node_j", "trials_j", "other_j", "idle_j")


@dataclass(frozen=True, kw_only=True)
class _Stored:
    """Of what `EnergyLedger.to_json` writes, what is not added up from the rest."""

    factors: dict[str, float | str]
    hours: float
    meters: list[dict[str, Any]]

    def __post_init__(self) -> None:
        if self.hours < 0:
            raise ValueError(f"`hours` must be 0 or more, got {self.hours}")


class EnergyLedger:
    """Adds up what the meters of an experiment counted. Energies and the factors to CO2 are kept apart.

    Args:
        intensity: Carbon per energy at the place.
        pue: Power usage effectiveness of the place, at least 1.

    Attributes:
        hours: Wall-clock hours of the experiment, which whoever keeps the ledger sets.

    Raises:
        ValueError: If the PUE is below 1.
    """

    def __init__(self, *, intensity: CarbonIntensity, pue: float = 1.0) -> None:
        self.intensity = intensity
        self.pue = check_pue(pue)
        self.hours = 0.0
        self._snapshots: dict[str, Mapping[str, Any]] = {}

    def add(self, snapshot: Mapping[str, Any]) -> None:
        """Take a snapshot of `NodeMeter`: it replaces an earlier one of the same meter, and a later one stays.

        Leases that a snapshot leaves out stay as the one before had them. A meter that was started again on the same
        node is another one, and adds.
        """
        known = self._snapshots.get(snapshot["meter_id"])
        if known is None or known["sequence"] <= snapshot["sequence"]:
            leases = {} if known is None else known["leases"]
            self._snapshots[snapshot["meter_id"]] = {**snapshot, "leases": {**leases, **snapshot["leases"]}}

    @property
    def energy_j(self) -> float | None:
        """Joules that the experiment is charged, trials and overhead together; None if a part is unknown."""
        energies = [lease["energy"]["energy_j"] for lease in self._stored_leases()]
        known = [energy_j for energy_j in energies if energy_j is not None]
        return math.fsum(known) if len(known) == len(energies) else None

    @property
    def known_j(self) -> float:
        """Joules that the experiment is charged as far as they are known."""
        domains = (domain for lease in self._stored_leases() for domain in lease["energy"]["domains"].values())
        return math.fsum(domain["energy_j"] or 0.0 for domain in domains)

    def add_all(self, other: EnergyLedger) -> None:
        """Take all snapshots of another ledger."""
        for snapshot in other._snapshots.values():
            self.add(snapshot)

    @property
    def quality(self) -> Quality:
        """The worst quality of what the experiment is charged."""
        return worst_quality({lease["energy"]["quality"] for lease in self._stored_leases()})

    def carbon_g(self, energy_j: float) -> float:
        """Return grams of CO2 equivalent: energy in kWh x PUE x intensity."""
        return energy_j / J_PER_KWH * self.pue * self.intensity.g_per_kwh

    def nodes(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Return the totals by node and domain; unknown where one of a node's meters does not know."""
        nodes: dict[str, dict[str, dict[str, Any]]] = {}
        for snapshot in self._snapshots.values():
            domains = nodes.setdefault(snapshot["node"], {})
            for name, domain in snapshot["domains"].items():
                domains[name] = _merged(domains[name], domain) if name in domains else dict(domain)
        return nodes

    def total(self) -> dict[str, Any]:
        """Return the energy of all nodes together, in joules as far as they are known.

        Returns:
            "node_j", "trials_j", "other_j" and "idle_j", each the sum of `nodes`; "unknown": the domains that no node's
            sum holds, as "<domain> of <node>"; "shared_machines": nodes that are containers of one machine, each of
            which shows all of the machine's processor and memory, so that all but "trials_j" holds them several times.
        """
        nodes = self.nodes()
        domains = [(f"{name} of {node}", domain) for node, own in nodes.items() for name, domain in own.items()]
        known = [domain for _, domain in domains if domain["node_j"] is not None]
        return {
            **{part: math.fsum(domain[part] for domain in known) for part in _PARTS},
            "unknown": [name for name, domain in domains if domain["node_j"] is None],
            "shared_machines": self._shared_machines(),
        }

    def _shared_machines(self) -> list[list[str]]:
        """Return the nodes of each machine that several meters read at the same time, a container each."""
        readers: dict[tuple[str, str], dict[str, str]] = {}
        for snapshot in self._snapshots.values():
            if {"machine", "session", "host"} <= snapshot.keys():
                key = (snapshot["machine"], snapshot["session"])
                readers.setdefault(key, {})[snapshot["node"]] = snapshot["host"]
        return [sorted(nodes) for nodes in readers.values() if len(set(nodes.values())) > 1]

    def owners(self) -> dict[str, LeaseEnergy]:
        """Return the energy of every owner, all attempts together."""
        return _sums((energy.owner, energy) for energy in self._leases())

    def stages(self) -> dict[str, LeaseEnergy]:
        """Return the energy of every stage, all owners together; `owner` is "all"."""
        return _sums((energy.stage, replace(energy, owner="all")) for energy in self._leases())

    def check(self) -> None:
        """Verify that nothing is lost, counted twice, or negative.

        Raises:
            ValueError: If trials + other + idle is not the node's energy, or the leases do not add up to the trials.
        """
        for snapshot in self._snapshots.values():
            for name, domain in snapshot["domains"].items():
                if domain["node_j"] is not None:
                    self._check_domain(snapshot, name, domain)

    def to_json(self) -> dict[str, Any]:
        """Return everything as a dict that JSON can hold; `from_json` reads it."""
        return {
            "nodes": {node: {"domains": domains, **self._about(node)} for node, domains in self.nodes().items()},
            "total": self.total(),
            "owners": {owner: self._with_carbon(energy) for owner, energy in self.owners().items()},
            "stages": {stage: self._with_carbon(energy) for stage, energy in self.stages().items()},
            "factors": {"pue": self.pue, "intensity_g_per_kwh": self.intensity.g_per_kwh}
            | {"intensity_source": self.intensity.source, "rule": "kg = J / 3.6e6 x PUE x g/kWh / 1000"},
            "hours": self.hours,
            "not_covered": list(NOT_COVERED),
            "meters": [dict(snapshot) for snapshot in self._snapshots.values()],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> EnergyLedger:
        """Return the ledger that `to_json` wrote, to go on with.

        Raises:
            ValueError: If a key is missing, or a value of another type or out of range.
        """
        try:
            stored = build(_Stored, {name: value[name] for name in _Stored.__dataclass_fields__ if name in value})
            factors = {name: stored.factors.get(name) for name in ("intensity_g_per_kwh", "intensity_source", "pue")}
            g_per_kwh, pue = build(float, factors["intensity_g_per_kwh"]), build(float, factors["pue"])
            source = build(str, factors["intensity_source"])
            ledger = cls(intensity=CarbonIntensity(g_per_kwh=g_per_kwh, source=source), pue=pue)
            ledger.hours = stored.hours
            for snapshot in map(read_snapshot, stored.meters):
                if snapshot["meter_id"] in ledger._snapshots:
                    raise ValueError(f"the meter {snapshot['meter_id']!r} stands there twice")
                ledger.add(snapshot)
        except (TypeError, ValueError) as error:
            raise ValueError(f"A ledger must hold what `EnergyLedger.to_json` writes ({error}).") from error
        return ledger

    @classmethod
    def of_folder(
        cls, folder: Path | None, *, intensity: CarbonIntensity | None = None, pue: float | None = None
    ) -> EnergyLedger:
        """Return the ledger that stands in a folder, to read it.

        With an intensity it is to be gone on with, and has these factors; where there is none it is empty. The process
        that kept it has ended, and so have its leases. What was lost with a damaged or missing file is unavailable.

        Raises:
            ValueError: If the file is damaged, or there is none, and no intensity is given.
        """
        path = None if folder is None else folder / ENERGY_FILE
        if intensity is not None:
            return cls._to_go_on(path, intensity, 1.0 if pue is None else pue)
        if path is None or not path.exists():
            raise ValueError(f"`folder` must hold {ENERGY_FILE}, got {folder}. Name a run with an energy account.")
        try:
            ledger = cls.from_json(read_json(path))
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{path} is damaged ({error}). Go on with the run, whose account then says that a part is unavailable."
            ) from error
        ledger.pue = ledger.pue if pue is None else check_pue(pue)
        return ledger

    @classmethod
    def _to_go_on(cls, path: Path | None, intensity: CarbonIntensity, pue: float) -> EnergyLedger:
        ledger = cls(intensity=intensity, pue=pue)
        if path is None or not path.exists():
            if path is not None and was_metered(path.parent):
                ledger.add(lost_snapshot(f"{ENERGY_FILE} was missing when the run went on"))
            return ledger
        try:
            earlier = cls.from_json(read_json(path))
        except (OSError, ValueError):
            kept = set_aside(path)
            ledger.add(lost_snapshot(f"{ENERGY_FILE} was damaged when the run went on; it is kept as {kept.name}"))
            return ledger
        ledger.hours = earlier.hours
        for snapshot in earlier._snapshots.values():
            ledger.add(closed(snapshot))
        return ledger

    def emissions_rows(self) -> list[dict[str, Any]]:
        """Return a row for every owner in the columns of codecarbon's emissions.csv; unknown is empty."""
        return [
            emissions_row(
                energy,
                emissions_kg=None if energy.energy_j is None else self.carbon_g(energy.energy_j) / 1000,
                pue=self.pue,
            )
            for energy in self.owners().values()
        ]

    def write_emissions_csv(self, path: Path) -> None:
        """Write the rows of `emissions_rows` as a file that codecarbon's tools read."""
        write_rows(path, self.emissions_rows())

    def write(self, folder: Path) -> None:
        """Write `energy.json` and `emissions.csv` into a folder, which is made if it is missing.

        Raises:
            nasray.records.RunError: If a file cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / ENERGY_FILE, json.dumps(self.to_json(), indent=1, allow_nan=False))
        self.write_emissions_csv(folder / "emissions.csv")

    def _stored_leases(self) -> Iterable[Mapping[str, Any]]:
        return (lease for snapshot in self._snapshots.values() for lease in snapshot["leases"].values())

    def _leases(self) -> Iterable[LeaseEnergy]:
        return (LeaseEnergy.from_json(lease["energy"]) for lease in self._stored_leases())

    def _with_carbon(self, energy: LeaseEnergy) -> dict[str, Any]:
        energy_j = energy.energy_j
        return energy.to_json() | {"carbon_g": None if energy_j is None else self.carbon_g(energy_j)}

    def _about(self, node: str) -> dict[str, Any]:
        """Return a node's machine, when it left if it did, and what codecarbon said about it last if it was asked."""
        said = [snapshot for snapshot in self._snapshots.values() if snapshot["node"] == node]
        return {key: said[-1][key] for key in ("machine", "ended", "cross_check") if key in said[-1]}

    def _check_domain(self, snapshot: Mapping[str, Any], name: str, domain: Mapping[str, Any]) -> None:
        where = f"{name} of node {snapshot['node']}"
        negative = [part for part in _PARTS if domain[part] < 0]
        if negative:
            raise ValueError(f"Energy must be 0 or more, got {domain[negative[0]]} J as {negative[0]} for {where}.")
        parts_j = math.fsum((domain["trials_j"], domain["other_j"], domain["idle_j"]))
        if not math.isclose(parts_j, domain["node_j"], rel_tol=TOLERANCE, abs_tol=0.0):
            raise ValueError(f"Trials + other + idle must be {domain['node_j']} J, got {parts_j} J for {where}.")
        leases = (lease["energy"]["domains"].get(name) or {} for lease in snapshot["leases"].values())
        leases_j = math.fsum(lease.get("energy_j") or 0.0 for lease in leases)
        if not math.isclose(leases_j, domain["trials_j"], rel_tol=TOLERANCE, abs_tol=0.0):
            raise ValueError(f"The leases must add up to {domain['trials_j']} J, got {leases_j} J for {where}.")


def _merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return one domain of two meters of the same node together."""
    sums = {key: None if one[key] is None or other[key] is None else one[key] + other[key] for key in _PARTS}
    return {
        **sums,
        "quality": worst_quality((one["quality"], other["quality"])),
        "source": " | ".join(dict.fromkeys((*one["source"].split(" | "), *other["source"].split(" | ")))),
        "idle_power_w": other["idle_power_w"],
        "missing_s": one["missing_s"] + other["missing_s"],
    }


def _sums(energies: Iterable[tuple[str, LeaseEnergy]]) -> dict[str, LeaseEnergy]:
    by_name: dict[str, list[LeaseEnergy]] = {}
    for name, energy in energies:
        by_name.setdefault(name, []).append(energy)
    return {name: reduce(add, parts) for name, parts in by_name.items()}
