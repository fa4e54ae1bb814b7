"""Architectures whose figures stand in a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nasray.architecture import Architecture
from nasray.archive import ParetoArchive
from nasray.evaluation import Evaluation
from nasray.formulations import Formulation
from nasray.hardware.cost import Cost
from nasray.hardware.several_devices import TableCost, Weighted, WorstCase
from nasray.objectives import Objective
from nasray.records.files import digest
from nasray.spaces.tabular import TabularSpace
from nasray.strategies.candidate_search import CandidateSearch
from nasray.tune.batch_search import search_in_batches
from nasray.tune.energy.calibration import Calibration
from nasray.tune.problems.problem import Place, Problem, Work

COMBINE = {"worst-case": "worst_device", "weighted": "weighted_devices", "each": ""}
"""How several devices become objectives, and what the metric is called; each device may be an objective of its own."""


class TableProblem(Problem):
    """Architectures whose figures stand in a table: evaluation is a look-up, in this process.

    Args:
        path: Parquet or CSV file.
        architecture: Column of the architectures, or several joined by commas.
        metrics: Columns of figures to use.
        devices: Columns with the costs on several devices.
        combine: How the devices become objectives; one of `COMBINE`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, the table is refused, or the combination is unknown.
    """

    is_on_ray = False

    def __init__(
        self,
        path: Path,
        architecture: str,
        metrics: Sequence[str],
        *,
        devices: Sequence[str] = (),
        combine: str = "worst-case",
    ) -> None:
        if combine not in COMBINE:
            raise ValueError(f"`combine` must be one of {', '.join(COMBINE)}, got {combine!r}.")
        columns = list(dict.fromkeys([*metrics, *devices]))
        self.space = self._table = TabularSpace.from_file(path, architecture=architecture, metrics=columns)
        self._combined = self._cost(devices, combine) if devices and combine != "each" else None
        derived = [] if self._combined is None else [COMBINE[combine]]
        self.metrics, self.num_evaluations = (*self._table.metric_names, *derived), 1000
        self.objectives = tuple(Objective(name=name) for name in derived or devices)

    def describe(self) -> list[str]:
        """Return the table's size."""
        return [f"Table: {self.space.name}, {len(self._table):,} architectures, figures: {', '.join(self.metrics)}."]

    def configuration(self) -> dict[str, Any]:
        """Return the table's name; its content is the data."""
        return {"table": self.space.name}

    def data(self) -> dict[str, Any]:
        """Return the table's size and the digest of what is used of it."""
        table = self._table
        content = [table.codes_NP.tolist(), *(table.column(name).tolist() for name in table.metric_names)]
        return {"name": self.space.name, "num_architectures": len(table), "fingerprint": digest(content)}

    def calibrate(self, calibration: Calibration) -> list[Work]:
        """Return what strategies take themselves, some milliseconds a candidate: a look-up takes nothing."""
        return [Work(stage="search", seconds_each=0.005, is_shared=False, bytes_each=2_300)]

    def search(self, strategy: CandidateSearch, place: Place, formulation: Formulation | None = None) -> ParetoArchive:
        """Look up one candidate after the other."""
        with place.energy.local_account(place.run.path) as account:
            return search_in_batches(
                strategy,
                self._look_up,
                run=place.run,
                progress=place.progress,
                batch_size=1,
                formulation=formulation,
                account=account,
                storage=place.cluster.storage,
            )

    def _cost(self, devices: Sequence[str], combine: str) -> Cost:
        """Return the devices' costs as one, relative to each device's median over the table."""
        costs = {device: TableCost(self._table, device, unit="") for device in devices}
        references = {device: float(np.median(self._table.column(device))) for device in devices}
        combined = WorstCase if combine == "worst-case" else Weighted
        return combined(costs, references)

    def _look_up(self, architectures: Sequence[Architecture]) -> list[Evaluation]:
        return [Evaluation(metrics=self._figures(architecture)) for architecture in architectures]

    def _figures(self, architecture: Architecture) -> dict[str, float]:
        figures = self._table.metrics(architecture)
        if self._combined is not None:
            figures[self.objectives[0].name] = self._combined(architecture).value
        return figures
