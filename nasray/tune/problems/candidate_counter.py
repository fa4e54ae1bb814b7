"""The progress of a search with a trial for each candidate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nasray.evaluation import Evaluation
from nasray.formulations import Formulation
from nasray.strategies.strategy import Trial
from nasray.tune.progress import Bar


class CandidateCounter:
    """Moves a progress bar with every evaluation, and shows the best accuracy that keeps to the constraints.

    Args:
        bar: Which.
        rows: What was recorded before.
        formulation: Whose constraints.
    """

    def __init__(self, bar: Bar, rows: Sequence[Mapping[str, Any]], formulation: Formulation) -> None:
        self._bar, self._formulation = bar, formulation
        self._done, self._new, self._best = len(rows), 0, 0.0
        for row in rows:
            self._note(str(row.get("status")), row.get("metrics") or {})

    def __call__(self, trial: Trial, evaluation: Evaluation) -> None:
        """Count a candidate."""
        self._done, self._new = self._done + 1, self._new + 1
        self._note(evaluation.status, evaluation.metrics)
        best = [f"best {self._best:.1%}"] if self._best else []
        self._bar.move(self._done, f"{self._new / self._bar.seconds:.2f} candidates/s", *best)

    def _note(self, status: str, metrics: Mapping[str, float]) -> None:
        needed = {"accuracy", *(limit.metric for limit in self._formulation.constraints)}
        if status == "ok" and needed <= metrics.keys() and self._formulation.violation(metrics) == 0:
            self._best = max(self._best, metrics["accuracy"])
