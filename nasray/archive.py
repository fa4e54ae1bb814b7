"""What a multi-objective search has found: the front, its growth, and the best trade-off.

Array letters: N evaluations, M objectives, F points on the front.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nasray.architecture import Architecture
from nasray.evaluation import Evaluation
from nasray.formulations import Formulation
from nasray.objectives import Objective
from nasray.pareto import hypervolume

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Solution:
    """An evaluated architecture that meets all constraints.

    Args:
        number: Evaluations told before it, failed ones too.
        trial_id: Which trial.
        architecture: The network.
        evaluation: Its figures.
    """

    number: int
    trial_id: str
    architecture: Architecture
    evaluation: Evaluation


class ParetoArchive:
    """Keeps every feasible evaluation and knows which of them no other dominates.

    Failed and infeasible evaluations only count. Of solutions with equal objectives the first is on the front.

    Args:
        formulation: Names the objectives and constraints; its way of ordering does not matter here.
    """

    def __init__(self, formulation: Formulation) -> None:
        self.formulation = formulation
        self.num_evaluations = 0
        self.solutions: list[Solution] = []
        self._values: list[Values] = []
        self._front: list[int] = []

    def add(self, trial_id: str, architecture: Architecture, evaluation: Evaluation) -> bool:
        """Take an evaluation.

        Returns:
            Whether it is on the front now.

        Raises:
            ValueError: If an ok evaluation lacks a metric.
        """
        number, self.num_evaluations = self.num_evaluations, self.num_evaluations + 1
        if evaluation.status != "ok":
            return False
        if missing := [name for name in self.formulation.metrics if name not in evaluation.metrics]:
            raise ValueError(f"`evaluation` of {trial_id!r} must have the metrics {missing}, got none of them.")
        if self.formulation.violation(evaluation.metrics) > 0:
            return False
        solution = Solution(number=number, trial_id=trial_id, architecture=architecture, evaluation=evaluation)
        self.solutions.append(solution)
        self._values.append(self.formulation.values(evaluation.metrics))
        return self._join(len(self._values) - 1)

    def _join(self, index: int) -> bool:
        new_M = self._values[index]
        if self._front:
            front_FM = np.stack([self._values[other] for other in self._front])
            if (front_FM <= new_M).all(axis=1).any():
                return False
            is_kept_F = np.asarray(~(new_M <= front_FM).all(axis=1))
            self._front = [other for other, is_kept in zip(self._front, is_kept_F.tolist(), strict=True) if is_kept]
        self._front.append(index)
        return True

    @property
    def front(self) -> list[Solution]:
        """The solutions that no other dominates, in the order in which they came."""
        return [self.solutions[index] for index in self._front]

    @property
    def values_NM(self) -> Values:
        """Objectives of all solutions, to be minimised."""
        return np.stack(self._values) if self._values else np.empty((0, len(self.formulation.objectives)))

    def hypervolume(self, reference_point_M: Sequence[float] | None = None) -> float:
        """Return what the front dominates up to a reference point, in the product of the objectives' units.

        Args:
            reference_point_M: In the objectives' own direction; by default the worst value of each among all
                solutions, which makes fronts of different searches incomparable.
        """
        if not self._values:
            return 0.0
        return hypervolume([self._values[index] for index in self._front], self._reference(reference_point_M))

    def hypervolume_over_time(self, reference_point_M: Sequence[float] | None = None) -> list[tuple[int, float]]:
        """Return (evaluations told, hypervolume) whenever the front grew, with one reference point for all.

        Args:
            reference_point_M: As in `hypervolume`.
        """
        reference = self._reference(reference_point_M) if self._values else np.empty(0)
        replay, history = ParetoArchive(self.formulation), []
        for index, solution in enumerate(self.solutions):
            replay.solutions.append(solution)
            replay._values.append(self._values[index])
            if replay._join(index):
                front = [self._values[other] for other in replay._front]
                history.append((solution.number + 1, hypervolume(front, reference)))
        return history

    def _reference(self, reference_point_M: Sequence[float] | None) -> Values:
        if reference_point_M is None:
            worst_M: Values = self.values_NM.max(axis=0)
            return worst_M
        signs = [objective.sign for objective in self.formulation.objectives]
        return np.asarray(reference_point_M, dtype=float) * signs

    def best_trade_off(self, weights: Sequence[float] | None = None) -> Solution:
        """Return the solution on the front that is nearest to the ideal point.

        Each objective is measured from its ideal (0 for what is minimised, 1 for a share that is maximised), or from
        the best on the front where there is no ideal or something is better, in units of the front's largest distance
        from there.

        Args:
            weights: Of the squared distances, one per objective, not negative; 1 each by default.

        Raises:
            ValueError: If there is no solution or the weights do not fit.

        Source: Young et al. 2019 (MENNDL), Sec. IV ("lowest weighted-Euclidean distance to the theoretical (but
        unattainable) best performance"). Deviation: the paper does not tell its weights and scales.
        """
        if not self._front:
            raise ValueError("No evaluation met the constraints, so there is no trade-off. Search on or relax them.")
        objectives = self.formulation.objectives
        weights_M = np.ones(len(objectives)) if weights is None else np.asarray(weights, dtype=float)
        if weights_M.shape != (len(objectives),) or not (np.isfinite(weights_M) & (weights_M >= 0)).all():
            raise ValueError(f"`weights` must be {len(objectives)} finite numbers >= 0, got {weights}.")
        front_FM = np.stack([self._values[index] for index in self._front])
        distance_FM = front_FM - [_ideal(o, front_FM[:, m]) for m, o in enumerate(objectives)]
        scale_M = np.abs(distance_FM).max(axis=0)
        squares_F = ((distance_FM / np.where(scale_M > 0, scale_M, 1.0)) ** 2) @ weights_M
        return self.solutions[self._front[int(squares_F.argmin())]]


def _ideal(objective: Objective, values_F: Values) -> float:
    best = float(values_F.min())
    return best if objective.best_value is None else min(best, objective.best_value)
