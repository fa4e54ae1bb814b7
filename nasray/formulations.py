"""How several objectives and constraints become an order of candidates.

Array letters: N candidates, M objectives (minimised), W weightings.

Source: the survey of hardware-aware NAS by Benmeziane et al. 2021, problem formulation (single-objective: two-stage,
constrained; multi-objective: scalarisation, heuristics). Deviation: none, but where a class says so.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from nasray.objectives import Constraint, Objective
from nasray.pareto import crowding_distances, front_ranks

Values = npt.NDArray[np.float64]
Order = npt.NDArray[np.intp]


class Formulation(abc.ABC):
    """Objectives, constraints, and which candidate is better.

    Candidates that break a constraint come after all that break none, the least violation first.

    Args:
        objectives: What to optimise.
        constraints: What a solution must meet. Violations of several add up.

    Raises:
        ValueError: If there is no objective or one is named twice.
    """

    def __init__(self, objectives: Sequence[Objective], constraints: Sequence[Constraint] = ()) -> None:
        names = [objective.name for objective in objectives]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"`objectives` must be different metrics, at least one, got {names}.")
        self.objectives, self.constraints = tuple(objectives), tuple(constraints)
        self._signs_M = np.array([objective.sign for objective in objectives])

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics that an evaluation must have."""
        names = [*(o.name for o in self.objectives), *(c.metric for c in self.constraints)]
        return tuple(dict.fromkeys(names))

    def describe(self) -> str:
        """Return objectives and constraints as text, such as "maximize accuracy, minimize macs, macs <= 1e6"."""
        goals = [f"{objective.direction} {objective.name}" for objective in self.objectives]
        return ", ".join([*goals, *map(str, self.constraints)])

    def values(self, metrics: Mapping[str, float]) -> Values:
        """Return the objectives as (M,) values to minimise."""
        values_M: Values = np.array([metrics[objective.name] for objective in self.objectives]) * self._signs_M
        return values_M

    def violation(self, metrics: Mapping[str, float]) -> float:
        """Return how far the constraints are broken; 0 for a feasible candidate."""
        return sum(constraint.violation(metrics) for constraint in self.constraints)

    def order(self, values_NM: Values, violations_N: Values, generator: np.random.Generator) -> Order:
        """Return the indices of the candidates, best first.

        Args:
            values_NM: (N, M) objectives to minimise.
            violations_N: (N,) how far constraints are broken.
            generator: Draws the weighting where there are several.
        """
        feasible, broken = np.flatnonzero(violations_N <= 0), np.flatnonzero(violations_N > 0)
        broken = broken[np.argsort(violations_N[broken], kind="stable")]
        if len(feasible) == 0:
            return broken
        return np.concatenate([feasible[self._order(values_NM[feasible], generator)], broken])

    @abc.abstractmethod
    def _order(self, values_NM: Values, generator: np.random.Generator) -> Order:
        """Return the order of feasible candidates, best first."""


class Pareto(Formulation):
    """Look for the whole front: by non-domination, then by distance to neighbours on the same front.

    With one objective and constraints this is the survey's constrained optimisation, and without constraints
    MENNDL's search for accuracy alone.

    Source: Deb et al. 2002 (NSGA-II), Sec. III. Deviation: none.
    """

    def _order(self, values_NM: Values, generator: np.random.Generator) -> Order:
        if values_NM.shape[1] == 1:
            return np.argsort(values_NM[:, 0], kind="stable")
        ranks_N = front_ranks(values_NM)
        return np.lexsort((-crowding_distances(values_NM, ranks_N), ranks_N))


class Scalarised(Formulation):
    """Combine the objectives into one number by weights; several weightings take turns at random in one run.

    - `weighted_sum`: sum of w x normalised value.
    - `chebyshev`: largest w x normalised value, which also reaches the concave parts of a front.
    - `weighted_product`: product of metric^w over maximised, metric^-w over minimised metrics, as MnasNet's
      accuracy x (latency / target)^w; metrics must be positive. The target is but a factor.

    Values are normalised to [0, 1] between the best and worst of the candidates in hand.

    Source: Benmeziane et al. 2021 (scalarisation); Tan et al. 2019 (MnasNet), eq. 2. Deviation: MnasNet's two
    exponents below and above the target are one; a constraint does the work of the second.

    Args:
        objectives: What to optimise.
        weightings: (W, M) weights, not negative, each row with a positive one.
        how: The combination.
        constraints: What a solution must meet.

    Raises:
        ValueError: If the weights do not fit the objectives or the combination is unknown.
    """

    HOW = ("weighted_sum", "weighted_product", "chebyshev")

    def __init__(
        self,
        objectives: Sequence[Objective],
        weightings: Sequence[Sequence[float]],
        *,
        how: Literal["weighted_sum", "weighted_product", "chebyshev"] = "chebyshev",
        constraints: Sequence[Constraint] = (),
    ) -> None:
        super().__init__(objectives, constraints)
        if how not in self.HOW:
            raise ValueError(f"`how` must be one of {', '.join(self.HOW)}, got {how!r}.")
        rows_are_right = all(len(row) == len(objectives) for row in weightings)
        weights_WM = np.array([list(row) for row in weightings], dtype=float) if rows_are_right else np.empty((0, 0))
        if not weights_WM.size or not np.isfinite(weights_WM).all() or (weights_WM < 0).any():
            raise ValueError(
                f"`weightings` must be rows of {len(objectives)} finite weights >= 0, got {list(weightings)}."
            )
        if not (weights_WM.max(axis=1) > 0).all():
            raise ValueError("`weightings` must have a positive weight in each row. Give one objective a weight.")
        self.how, self._weights_WM = how, weights_WM

    def scalars(self, values_NM: Values) -> Values:
        """Return (N, W) numbers to minimise, one column per weighting.

        Raises:
            ValueError: If a weighted product meets a metric that is not positive.
        """
        if self.how == "weighted_product":
            metrics_NM = values_NM * self._signs_M
            if (metrics_NM <= 0).any():
                raise ValueError("A weighted product needs positive metrics. Use chebyshev or weighted_sum.")
            product_NW: Values = (np.log(metrics_NM) * self._signs_M) @ self._weights_WM.T
            return product_NW
        low_M, high_M = values_NM.min(axis=0), values_NM.max(axis=0)
        scaled_NM = (values_NM - low_M) / np.where(high_M > low_M, high_M - low_M, 1.0)
        sums_NW: Values = scaled_NM @ self._weights_WM.T
        if self.how == "weighted_sum":
            return sums_NW
        largest_NW: Values = (scaled_NM[:, None] * self._weights_WM).max(axis=2)
        return largest_NW + 1e-3 * sums_NW  # breaks ties among weakly efficient candidates

    def _order(self, values_NM: Values, generator: np.random.Generator) -> Order:
        weighting = generator.integers(len(self._weights_WM))
        return np.argsort(self.scalars(values_NM)[:, weighting], kind="stable")


class TwoStage(Formulation):
    """First the best value of the first objective, then the others among those close to it.

    Candidates within `tolerance` of the best first objective in hand come first, ordered as `Pareto` orders them by
    the other objectives; the rest follows by its first objective. Early in a search hardly anything is close to the
    best, so accuracy alone drives it; later the second stage takes over by itself.

    Source: Benmeziane et al. 2021 (two-stage optimisation). Deviation: the second stage begins where the first has
    found alternatives, instead of at a fixed time.

    Args:
        objectives: The one of the first stage, then at least one more.
        tolerance: How much of the first objective, in its unit, the second stage may give away.
        constraints: What a solution must meet.

    Raises:
        ValueError: If there is one objective only or the tolerance is negative.
    """

    def __init__(
        self, objectives: Sequence[Objective], *, tolerance: float, constraints: Sequence[Constraint] = ()
    ) -> None:
        super().__init__(objectives, constraints)
        if len(self.objectives) < 2:
            raise ValueError("`objectives` of two stages must be at least two, got one. Add what to optimise second.")
        if not tolerance >= 0:
            raise ValueError(f"`tolerance` must be at least 0, got {tolerance}.")
        self.tolerance = tolerance
        self._second = Pareto(self.objectives[1:])

    def _order(self, values_NM: Values, generator: np.random.Generator) -> Order:
        first_N = values_NM[:, 0]
        limit = first_N.min() + self.tolerance
        close, rest = np.flatnonzero(first_N <= limit), np.flatnonzero(first_N > limit)
        rest = rest[np.argsort(first_N[rest], kind="stable")]
        return np.concatenate([close[self._second._order(values_NM[close, 1:], generator)], rest])
