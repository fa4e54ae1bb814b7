"""Architectures whose figures stand in a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from nasray.architecture import Architecture
from nasray.archive import ParetoArchive
from nasray.evaluation import Evaluation
from nasray.formulations import Formulation
from nasray.hardware.several_devices import TableCost, Weighted, WorstCase
from nasray.objectives import Objective
from nasray.records.files import digest
from nasray.spaces.tabular import Duplicates, TabularSpace
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
        metrics: Columns of figures to use, and what the devices' combined cost is called if it has a limit.
        devices: Columns with the costs on several devices.
        combine: How the devices become objectives; one of `COMBINE`.
        duplicates: What to do with an architecture listed again with other figures; see `TabularSpace`.

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
        duplicates: str = "error",
    ) -> None:
        if combine not in COMBINE:
            raise ValueError(f"`combine` must be one of {', '.join(COMBINE)}, got {combine!r}.")
        derived = [COMBINE[combine]] if devices and combine != "each" else []
        columns = [name for name in dict.fromkeys([*metrics, *devices]) if name not in derived]
        self.space = self._table = TabularSpace.from_file(
            path, architecture=architecture, metrics=columns, duplicates=cast(Duplicates, duplicates)
        )
        self._combined = self._cost(devices, combine) if derived else None
        self.metrics, self.num_evaluations = (*self._table.metric_names, *derived), 1000
        self.objectives = tuple(Objective(name=name) for name in derived or devices)

    def describe(self) -> list[str]:
        """Return the table's size, what of it is left out, and what the devices' combined cost means."""
        table = self._table
        lines = [f"Table: {self.space.name}, {len(table):,} architectures, figures: {', '.join(self.metrics)}."]
        if table.num_dropped:
            gaps = ", ".join(f"{metric} in {count:,}" for metric, count in table.gaps.items())
            lines.append(f"{table.num_dropped:,} of {table.num_rows:,} rows left out, as figures are missing: {gaps}.")
        if table.num_merged:
            lines.append(f"Rows that list an architecture again, which counts once: {table.num_merged:,}.")
        return lines if self._combined is None else [*lines, self._meaning(self._combined)]

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

    def _meaning(self, combined: WorstCase | Weighted) -> str:
        shares = ", ".join(f"{device} / {median:.4g}" for device, median in combined.references.items())
        how = "the largest" if isinstance(combined, WorstCase) else "the mean"
        return f"{self.objectives[0].name} is {how} of {shares}: of each device, its cost by its median in the table."

    def _cost(self, devices: Sequence[str], combine: str) -> WorstCase | Weighted:
        """Return the devices' costs as one, relative to each device's median over the table."""
        costs = {device: TableCost(self._table, device, unit="") for device in devices}
        references = {device: float(np.median(self._table.column(device))) for device in devices}
        return (WorstCase if combine == "worst-case" else Weighted)(costs, references)

    def _look_up(self, architectures: Sequence[Architecture]) -> list[Evaluation]:
        return [Evaluation(metrics=self._figures(architecture)) for architecture in architectures]

    def _figures(self, architecture: Architecture) -> dict[str, float]:
        figures = self._table.metrics(architecture)
        if self._combined is not None:
            figures[self.objectives[0].name] = self._combined(architecture).value
        return figures
