"""The costs of a NetAdaptV2 run, and the targets under them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nasray.hardware.cost import Cost
from nasray.hardware.lookup_table import LatencyTable
from nasray.hardware.registry import make_cost
from nasray.hardware.table_builder import build_latency_table
from nasray.hardware.table_check import check_latency_table
from nasray.spaces.mobile import MobileSpace
from nasray.strategies.coordinate_descent import CoordinateDescent
from nasray.tune.netadapt_settings import NetAdaptSettings, Target
from nasray.tune.stages import Stages

_MEASURED = ("latency", "measured-latency")


@dataclass(frozen=True, kw_only=True)
class Search:
    """One search of a run: under which cost, to which target, with which seed."""

    cost: str
    target: Target
    seed: int

    @property
    def name(self) -> str:
        """Name of its trial: letters, digits, dots and dashes."""
        return f"{self.cost}-{str(self.target).replace('%', 'pct').replace('+', '')}-seed{self.seed}"


class RunCosts:
    """Makes the costs of a run, and checks that its targets can be reached under them.

    Args:
        settings: What the run computes.
        space: Its networks.
        latency_table: Lookup table of the run's device for the cost `latency`; None builds one in the run.

    Raises:
        InfeasibleTargetError: If a target cannot be reached; of measured costs `made` tells that.
        ValueError: If the table is damaged, or does not cover the space.
    """

    def __init__(self, settings: NetAdaptSettings, space: MobileSpace, latency_table: Path | None) -> None:
        self._settings, self._space = settings, space
        self.given_table = None if latency_table is None else LatencyTable.load(latency_table)
        if self.given_table is not None:
            self.given_table.check_covers(space)
        for name in settings.costs:
            if name not in _MEASURED:
                self._check_targets(make_cost(name, space))

    def made(self, stages: Stages) -> dict[str, Cost]:
        """Return each cost of the run; builds the lookup table first where one is needed.

        Raises:
            InfeasibleTargetError: If a target cannot be reached.
        """
        table = self._table(stages) if "latency" in self._settings.costs else None
        device = self._settings.latency_device
        costs = {name: make_cost(name, self._space, device=device, table=table) for name in self._settings.costs}
        for cost in costs.values():
            self._check_targets(cost)
        return costs

    def limits(self, stages: Stages, costs: Mapping[str, Cost], searches: Sequence[Search]) -> dict[str, float]:
        """Return each search's target in its cost's unit; fixed once, since a measured initial cost varies."""
        limits: dict[str, float] = dict(stages.run.run.get("limits", {}))
        for search in searches:
            if search.name not in limits:
                limits[search.name] = search.target.of(self._initial(costs[search.cost]))
        stages.run.update(limits=limits)
        return limits

    def _table(self, stages: Stages) -> LatencyTable:
        if self.given_table is not None:
            return self.given_table
        path = stages.run.path / "latency_table.jsonl"
        with stages.timed("latency table", "cpu"), stages.progress.shown():
            bar = stages.progress.bar("latency table", 1.0)

            def show(done: int, total: int) -> None:
                bar.move(done / total, f"{done} of {total} timings")

            build_latency_table(path, self._space, device=self._settings.latency_device, progress=show)
            table = check_latency_table(path, self._space, generator=np.random.default_rng(0))
        stages.progress.say(f"Latency table: {table.describe()}")
        return table

    def _initial(self, cost: Cost) -> float:
        return cost(self._space.largest()).value

    def _check_targets(self, cost: Cost) -> None:
        """Raise InfeasibleTargetError for a target that cannot be reached."""
        initial = self._initial(cost)
        for target in self._settings.targets:
            descent = self._settings.descent(target.of(initial))
            CoordinateDescent(self._space, lambda a: cost(a).value, descent, np.random.default_rng(0))
