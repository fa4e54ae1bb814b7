"""Options of programs about energy: where the electricity is from, and how much may be used."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from nasray.carbon.account import LocalAccount
from nasray.carbon.budget import Budget
from nasray.carbon.intensity import WORLD, CarbonIntensity, carbon_intensity, check_pue
from nasray.tune.energy.account import ClusterAccount

CHARGED = ("energy_j", "carbon_g")
"""Metrics that a trial is charged by its node's meter unless it reports them itself."""

Place = Annotated[
    str,
    typer.Option(help="Where the electricity is from: a country (FRA), a region (USA/california), or g CO2e per kWh."),
]
Pue = Annotated[float, typer.Option(help="Power usage effectiveness of the data centre, at least 1.")]
BudgetCo2Kg = Annotated[float | None, typer.Option(help="End the search after this much CO2 equivalent, in kg.")]
BudgetKwh = Annotated[float | None, typer.Option(help="End the search after this much energy, in kWh.")]
BudgetHours = Annotated[float | None, typer.Option(help="End the search after this time, in hours.")]


@dataclass(frozen=True, kw_only=True)
class EnergySettings:
    """Where the electricity is from, and how much of it a search may use.

    Args:
        place: Country, region or g/kWh, as `carbon_intensity` reads it.
        pue: Power usage effectiveness, at least 1.
        budget: Limits.
        inferences: Expected of each network over its lifetime.
        worker_power_w: What one busy worker draws, as a calibration found it; None if unknown.

    Raises:
        ValueError: If the place is unknown or a number is out of range.
    """

    place: str = WORLD
    pue: float = 1.0
    budget: Budget = field(default_factory=Budget)
    inferences: float = 0.0
    worker_power_w: float | None = None

    def __post_init__(self) -> None:
        carbon_intensity(self.place)  # an unknown place shows before anything is measured
        check_pue(self.pue)
        if not 0 <= self.inferences < math.inf:
            raise ValueError(f"`inferences` must be a finite number of at least 0, got {self.inferences}.")

    @property
    def intensity(self) -> CarbonIntensity:
        """Carbon per energy at the place."""
        return carbon_intensity(self.place)

    def account(self, folder: Path) -> ClusterAccount:
        """Return the account of a run, which goes on with what stands in its folder."""
        return ClusterAccount(self.intensity, pue=self.pue, budget=self.budget, folder=folder)

    def local_account(self, folder: Path) -> LocalAccount:
        """Return the account of a run that is this process alone."""
        return LocalAccount(self.intensity, pue=self.pue, budget=self.budget, folder=folder)
