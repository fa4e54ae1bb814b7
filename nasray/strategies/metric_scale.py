"""The scale on which a metric is learned.

Array letters: N candidates, C levels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from nasray.strategies.encoding import Array

_MARGIN, _KNEE, _SLOPE, _QUANTILE = 0.64, 2.0, 0.2, 0.4
_LEARNS = 0.5  # how far below the knee a network counts as one that learns


@dataclass(frozen=True)
class MetricScale:
    """The logarithm above a level below the best value, flatter for the bad.

    There, differences among the good count as much as those among the mediocre, and networks that hardly learn do not
    dominate a fit.

    Args:
        shift: The level, below all values that are to be met.
        knee: Logarithm from which the scale is flatter.
        slope: Slope above the knee, between 0 and 1.
    """

    shift: float
    knee: float
    slope: float = _SLOPE

    @classmethod
    def of(cls, values_N: Array) -> MetricScale:
        """Return the scale for values to be minimised."""
        best, middle = float(values_N.min()), float(np.quantile(values_N, _QUANTILE))
        margin = _MARGIN * (middle - best) or 0.1 * float(values_N.std()) or 1e-6
        high, low = float(np.log(middle - best + margin)), float(np.log(margin))
        return cls(best - margin, high + _KNEE * (high - low))

    def forward(self, values: Array) -> Array:
        """Return values on the scale."""
        logs = np.log(np.maximum(values - self.shift, 1e-12))
        scaled: Array = np.where(logs > self.knee, self.knee + self.slope * (logs - self.knee), logs)
        return scaled

    def inverse(self, scaled: Array) -> Array:
        """Return the values that lie at places of the scale."""
        above = self.knee + (scaled - self.knee) / self.slope
        values: Array = self.shift + np.exp(np.minimum(np.where(scaled > self.knee, above, scaled), 700.0))
        return values


@dataclass(frozen=True)
class Prediction:
    """What is expected of a metric: normal on its scale.

    Args:
        mean_N: Means on the scale.
        deviation_N: Standard deviations on the scale.
        scale: The scale.
    """

    mean_N: Array
    deviation_N: Array
    scale: MetricScale

    def probability_below(self, levels_C: Array) -> Array:
        """Return (N, C): how probably each value is at most each level."""
        places_C = self.scale.forward(levels_C)
        probability_NC: Array = ndtr((places_C[None] - self.mean_N[:, None]) / self.deviation_N[:, None])
        return probability_NC

    def probability_of_learning(self) -> Array:
        """Return (N,): how probably each value is not among the bad.

        There the scale is so flat that a small error of a prediction looks like a large gain.
        """
        probability_N: Array = ndtr((self.scale.knee - _LEARNS - self.mean_N) / self.deviation_N)
        return probability_N

    def mean_below(self, levels_C: Array) -> Array:
        """Return (N, C): the mean of max(level - value, 0), from the moments of log-normal parts on both slopes."""
        scale, top_C = self.scale, self.scale.forward(levels_C)[None]
        mean_N, deviation_N = self.mean_N[:, None], self.deviation_N[:, None]

        def below(place: Array | float, power: float) -> Array:
            result: Array = ndtr((place - mean_N) / deviation_N - power * deviation_N)
            return result

        steep = np.exp(mean_N + deviation_N**2 / 2) * below(np.minimum(top_C, scale.knee), 1.0)
        power = 1 / scale.slope
        exponent = scale.knee * (1 - power) + power * mean_N + (power * deviation_N) ** 2 / 2
        flat = np.exp(np.minimum(exponent, 700.0))
        flat = flat * (below(np.maximum(top_C, scale.knee), power) - below(scale.knee, power))
        reached = np.maximum(levels_C - scale.shift, 0.0)[None] * below(top_C, 0.0)
        mean_NC: Array = np.maximum(reached - steep - flat, 0.0)
        return mean_NC
