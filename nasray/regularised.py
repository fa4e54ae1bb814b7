"""One objective with a price on other metrics: the regularised fitness of an evolution."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from nasray.formulations import Formulation, Order, Values
from nasray.objectives import Constraint, Objective


class Regularised(Formulation):
    """Optimise one objective less the price of what else it costs: value + sum of weight x metric / scale.

    Scales are fixed, unlike the weighted sum of `Scalarised`, which normalises over the candidates in hand: a
    candidate's fitness stays the same whoever it is compared with. The terms are objectives to minimise as well,
    so that an archive keeps the trade-off that the weights chose from.

    Args:
        objective: What to optimise.
        terms: (metric, weight, scale) of what has a price: `weight` is what `scale` of the metric must bring, in the
            unit of the objective.
        constraints: What a solution must meet.

    Raises:
        ValueError: If there is no term, a weight is negative, a scale is not positive, or a metric is named twice.

    Source: Fu et al. 2021, Sec. 3.1 (c), a CO2/FLOP regularisation parameter in the fitness of an evolution. Deviation:
    the form is ours; the paper gives none.
    """

    def __init__(
        self,
        objective: Objective,
        terms: Sequence[tuple[str, float, float]],
        constraints: Sequence[Constraint] = (),
    ) -> None:
        super().__init__([objective, *(Objective(name=metric) for metric, _, _ in terms)], constraints)
        if not terms:
            raise ValueError("`terms` must have a (metric, weight, scale) at least, got none. Or use Pareto.")
        for metric, weight, scale in terms:
            if not (math.isfinite(weight) and weight >= 0):
                raise ValueError(f"The weight of {metric!r} must be a finite number of at least 0, got {weight}.")
            if not (math.isfinite(scale) and scale > 0):
                raise ValueError(f"The scale of {metric!r} must be a positive number, got {scale}. Give a usual value.")
        self._terms = tuple(terms)
        self._prices_M = np.array([1.0, *(weight / scale for _, weight, scale in terms)])

    def describe(self) -> str:
        """Return the fitness and the constraints as text, such as "maximize accuracy, price 0.01 per 2 carbon_g"."""
        prices = [f"price {weight:g} per {scale:.3g} {metric}" for metric, weight, scale in self._terms]
        first = self.objectives[0]
        return ", ".join([f"{first.direction} {first.name}", *prices, *map(str, self.constraints)])

    def scalars(self, values_NM: Values) -> Values:
        """Return the (N,) fitness to minimise, in the unit of the objective."""
        fitness_N: Values = values_NM @ self._prices_M
        return fitness_N

    def _order(self, values_NM: Values, generator: np.random.Generator) -> Order:
        return np.argsort(self.scalars(values_NM), kind="stable")
