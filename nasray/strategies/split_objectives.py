"""A formulation's metrics, split into those that are known before training and those that are learned.

Array letters: N candidates, L learned metrics, K known metrics, M objectives.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nasray.formulations import Pareto
from nasray.objectives import Constraint
from nasray.strategies.encoding import Array
from nasray.strategies.metric_scale import Prediction


@dataclass(frozen=True)
class _Learned:
    """A metric that only an evaluation tells; minimised after multiplication by the sign."""

    name: str
    sign: float


class SplitObjectives:
    """What of a formulation is learned: objectives first, then metrics that only constraints name.

    Args:
        formulation: Objectives and constraints.
        known: Names of the known metrics, in the order of their columns.

    Raises:
        ValueError: If every objective is known.
    """

    def __init__(self, formulation: Pareto, known: Sequence[str]) -> None:
        learned = [_Learned(o.name, o.sign) for o in formulation.objectives if o.name not in known]
        if not learned:
            raise ValueError(f"`known` must leave an objective to learn, got all of {', '.join(known)}.")
        self.num_targets, self.num_objectives = len(learned), len(formulation.objectives)
        taken = {*known, *(metric.name for metric in learned)}
        signs = {c.metric: 1.0 if c.relation == "<=" else -1.0 for c in formulation.constraints}
        self.learned = [*learned, *(_Learned(name, sign) for name, sign in signs.items() if name not in taken)]
        self._costs = [(known.index(o.name), o.sign) for o in formulation.objectives if o.name in known]
        self._known_limits = [(known.index(c.metric), c) for c in formulation.constraints if c.metric in known]
        self._bounds = self._limits(formulation.constraints)

    def values(self, metrics: Mapping[str, float]) -> list[float]:
        """Return the learned metrics of an evaluation, to be minimised."""
        return [metric.sign * metrics[metric.name] for metric in self.learned]

    def is_complete(self, metrics: Mapping[str, float]) -> bool:
        """Whether an evaluation tells all that is learned."""
        return all(metric.name in metrics for metric in self.learned)

    def known_objectives(self, known_NK: Array) -> Array:
        """Return the objectives among the known metrics, to be minimised."""
        columns = [sign * known_NK[:, column] for column, sign in self._costs]
        return np.column_stack(columns) if columns else np.empty((len(known_NK), 0))

    def objectives(self, values_NL: Array, known_NK: Array) -> Array:
        """Return (N, M) objectives to minimise, the learned ones first."""
        return np.hstack([values_NL[:, : self.num_targets], self.known_objectives(known_NK)])

    def meets_known(self, known_NK: Array) -> np.ndarray:
        """Return (N,) whether no constraint on a known metric is broken."""
        is_allowed_N = np.ones(len(known_NK), dtype=bool)
        for column, constraint in self._known_limits:
            values_N, limit = known_NK[:, column], constraint.limit
            is_allowed_N &= values_N <= limit if constraint.relation == "<=" else values_N >= limit
        return is_allowed_N

    def is_feasible(self, values_NL: Array, known_NK: Array) -> np.ndarray:
        """Return (N,) whether no constraint is broken."""
        is_feasible_N = self.meets_known(known_NK)
        for column, (low, high) in self._bounds.items():
            is_feasible_N &= (low <= values_NL[:, column]) & (values_NL[:, column] <= high)
        return is_feasible_N

    def chance_of_feasibility(self, predictions: Sequence[Prediction]) -> Array:
        """Return (N,) how probably the constraints on learned metrics are met."""
        chance_N = np.ones(len(predictions[0].mean_N))
        for column, (low, high) in self._bounds.items():
            below_N = 1.0 if high == math.inf else predictions[column].probability_below(np.array([high]))[:, 0]
            under_N = 0.0 if low == -math.inf else predictions[column].probability_below(np.array([low]))[:, 0]
            chance_N *= np.maximum(below_N - under_N, 0.0)
        return chance_N

    def _limits(self, constraints: Sequence[Constraint]) -> dict[int, tuple[float, float]]:
        """Return between which values, after its sign, a learned metric meets all constraints, by its column."""
        names = [metric.name for metric in self.learned]
        bounds: dict[int, tuple[float, float]] = {}
        for constraint in constraints:
            if constraint.metric not in names:
                continue
            column = names.index(constraint.metric)
            sign, (low, high) = self.learned[column].sign, bounds.get(column, (-math.inf, math.inf))
            limit, is_upper = sign * constraint.limit, (constraint.relation == "<=") == (sign > 0)
            bounds[column] = (low, min(high, limit)) if is_upper else (max(low, limit), high)
        return bounds
