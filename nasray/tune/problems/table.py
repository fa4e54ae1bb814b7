"""Architectures whose figures stand in a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nasray.architecture import Architecture
from nasray.archive import ParetoArchive
from nasray.evaluation import Evaluation
from nasray.formulations import Formulation
from nasray.records.files import digest
from nasray.search.candidate_search import CandidateSearch
from nasray.spaces.tabular import TabularSpace
from nasray.tune.batch_search import search_in_batches
from nasray.tune.energy.calibration import Calibration
from nasray.tune.problems.problem import Place, Problem, Work


class TableProblem(Problem):
    """Architectures whose figures stand in a table: evaluation is a look-up, in this process.

    Args:
        path: Parquet or CSV file.
        architecture: Column of the architectures, or several joined by commas.
        metrics: Columns of figures to use.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, or the table is refused.
    """

    def __init__(self, path: Path, architecture: str, metrics: Sequence[str]) -> None:
        self.space = self._table = TabularSpace.from_file(path, architecture=architecture, metrics=metrics)
        self.metrics, self.objectives, self.num_evaluations = self._table.metric_names, (), 1000

    def describe(self) -> list[str]:
        """Return the table's size."""
        return [f"Table: {self.space.name}, {len(self._table):,} architectures, figures: {', '.join(self.metrics)}."]

    def configuration(self) -> dict[str, Any]:
        """Return the table's name; its content is the data."""
        return {"table": self.space.name}

    def data(self) -> dict[str, Any]:
        """Return the table's size and the digest of what is used of it."""
        table = self._table
        content = [table.codes_NP.tolist(), *(table.column(name).tolist() for name in self.metrics)]
        return {"name": self.space.name, "num_architectures": len(table), "fingerprint": digest(content)}

    def calibrate(self, calibration: Calibration) -> list[Work]:
        """Return what strategies take themselves, some milliseconds a candidate: a look-up takes nothing."""
        return [Work(stage="search", seconds_each=0.005, is_shared=False)]

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
            )

    def _look_up(self, architectures: Sequence[Architecture]) -> list[Evaluation]:
        return [Evaluation(metrics=self._table.metrics(architecture)) for architecture in architectures]
