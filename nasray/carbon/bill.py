"""The bill before a search: what it will probably cost, from a short calibration."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from nasray.carbon.budget import Budget, Spending
from nasray.carbon.intensity import CarbonIntensity
from nasray.carbon.lease import Quality

_J_PER_KWH = 3.6e6


@dataclass(frozen=True, kw_only=True)
class StageEstimate:
    """What one stage of a search will probably take.

    Args:
        name: The stage.
        evaluations: Candidates that it evaluates; 0 for a stage that evaluates none.
        hours: Wall-clock hours.
        energy_j: Joules; None if unknown.
        disk_bytes: What it leaves on disk.
        checkpoint_bytes: What it takes of the disk besides, at most, until it is done.
    """

    name: str
    evaluations: int
    hours: float
    energy_j: float | None
    disk_bytes: int
    checkpoint_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class Bill:
    """What a search will probably cost.

    Args:
        stages: Stage by stage.
        intensity: Carbon per energy at the place.
        pue: Power usage effectiveness of the place.
        power_w: What one busy worker draws; None if unknown.
        quality: Of the energy that was calibrated with.
        calibration: How the figures were found, for people.
    """

    stages: tuple[StageEstimate, ...]
    intensity: CarbonIntensity
    pue: float
    power_w: float | None
    quality: Quality
    calibration: str

    @property
    def total(self) -> StageEstimate:
        """All stages together, one after the other."""
        energies = [stage.energy_j for stage in self.stages]
        known = [energy for energy in energies if energy is not None]
        return StageEstimate(
            name="total",
            evaluations=sum(stage.evaluations for stage in self.stages),
            hours=sum(stage.hours for stage in self.stages),
            energy_j=sum(known) if len(known) == len(energies) else None,
            disk_bytes=sum(stage.disk_bytes for stage in self.stages),
            checkpoint_bytes=max((stage.checkpoint_bytes for stage in self.stages), default=0),
        )

    def carbon_g(self, energy_j: float | None) -> float | None:
        """Return grams of CO2 equivalent for an energy, with PUE; None for an unknown one."""
        return None if energy_j is None else energy_j / _J_PER_KWH * self.pue * self.intensity.g_per_kwh

    def spending(self, stages: Collection[str] | None = None) -> Spending:
        """Return some stages, or all, as spending to compare with a budget."""
        chosen = replace(self, stages=tuple(s for s in self.stages if stages is None or s.name in stages)).total
        return Spending(hours=chosen.hours, energy_j=chosen.energy_j, carbon_g=self.carbon_g(chosen.energy_j))

    def lines(self, budget: Budget | None = None, *, is_resumed: bool = False) -> list[str]:
        """Return the bill for people, a line each: every stage, the total, where it comes from, and the budget.

        Args:
            budget: What may be spent.
            is_resumed: Whether a part of this was done before.
        """
        stages = list(self.stages) if len(self.stages) > 1 else []
        rows = [self._row(stage) for stage in [*stages, self.total]]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        texts = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
        pue = f", PUE {self.pue:g}" if self.pue != 1 else ""
        source = f"Energy {self.quality}; {self.intensity.g_per_kwh:g} g CO2e/kWh ({self.intensity.source}){pue}."
        what = "Bill of the whole run, what is done included" if is_resumed else "Bill before the search"
        lines = [f"{what} ({self.calibration}):", *(f"  {text.rstrip()}" for text in texts), source]
        if budget:
            lines.append(self._verdict(budget))
        return lines

    def short(self) -> str:
        """Return the total as text, such as "3 min 20 s, 0.004 kWh"."""
        total = self.total
        energy = "energy unknown" if total.energy_j is None else f"{total.energy_j / _J_PER_KWH:.3g} kWh"
        return f"{duration(total.hours)}, {energy}"

    def to_json(self) -> dict[str, Any]:
        """Return the bill as JSON."""
        stages = [asdict(stage) | {"carbon_g": self.carbon_g(stage.energy_j)} for stage in (*self.stages, self.total)]
        return {
            "stages": stages[:-1],
            "total": stages[-1],
            "intensity_g_per_kwh": self.intensity.g_per_kwh,
            "intensity_source": self.intensity.source,
            "pue": self.pue,
            "quality": self.quality,
            "calibration": self.calibration,
        }

    def _row(self, stage: StageEstimate) -> Sequence[str]:
        carbon_g = self.carbon_g(stage.energy_j)
        return (
            stage.name,
            f"{stage.evaluations:,} evaluations" if stage.evaluations else "",
            duration(stage.hours),
            "energy unknown" if stage.energy_j is None else f"{stage.energy_j / _J_PER_KWH:.3g} kWh",
            "" if carbon_g is None else f"{carbon_g / 1e3:.3g} kg CO2e",
            f"{stage.disk_bytes / 1e6:.3g} MB on disk"
            + (f", {stage.checkpoint_bytes / 1e6:.3g} MB more meanwhile" if stage.checkpoint_bytes else ""),
        )

    def _verdict(self, budget: Budget) -> str:
        try:
            used = budget.used(self.spending())
        except ValueError:
            return f"Budget: {budget.describe()}; whether the search fits is unknown."
        if used <= 1:
            return f"Budget: {budget.describe()}; the search takes {used:.0%} of it."
        return f"Budget: {budget.describe()}; the search would take {used:.0%} of it, so it will be ended early."


def duration(hours: float) -> str:
    """Return hours as text, such as "3 min 20 s" or "2 h 5 min"."""
    seconds = round(hours * 3600)
    if seconds < 60:
        return f"{hours * 3600:.2g} s" if seconds < 10 else f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"
