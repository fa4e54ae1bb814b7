"""Architectures as arrays, for models that learn from them.

Array letters: N architectures, P choices, O options that several choices share, K known metrics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nasray.architecture import Architecture
from nasray.spaces.space import SearchSpace

Codes = npt.NDArray[np.intp]
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Slot:
    """One choice of a space.

    Args:
        num_options: How many options it has.
        group: Slots with the same options have the same group, so that what is learned of an option counts for all.
        is_ordinal: Whether its options are numbers.
    """

    num_options: int
    group: int
    is_ordinal: bool


class ChoiceEncoder:
    """Numbers the options of a space's choices.

    Args:
        space: Of the architectures.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._codes = {name: {value: code for code, value in enumerate(row)} for name, row in space.choices.items()}
        groups: dict[object, int] = {}
        self.slots = [
            Slot(
                num_options=len(options),
                group=groups.setdefault(options, len(groups)),
                is_ordinal=all(isinstance(value, (int, float)) for value in options),
            )
            for options in space.choices.values()
        ]
        columns = [[p for p, slot in enumerate(self.slots) if slot.group == group] for group in groups.values()]
        self._shared = [(self.slots[row[0]].num_options, row) for row in columns if len(row) > 1]

    def codes(self, architectures: Sequence[Architecture]) -> Codes:
        """Return (N, P) numbers of options."""
        rows = [[code[a.choices[name]] for name, code in self._codes.items()] for a in architectures]
        return np.array(rows, dtype=np.intp).reshape(len(architectures), len(self._codes))

    def counts(self, codes_NP: Codes) -> Array:
        """Return (N, O): how many of the choices that have the same options take each of these."""
        columns = [
            (codes_NP[:, row] == option).sum(axis=1)
            for num_options, row in self._shared
            for option in range(num_options)
        ]
        counts_NO: Array = np.array(columns, dtype=float).reshape(len(columns), len(codes_NP)).T
        return counts_NO


class KnownScale:
    """Brings known metrics to a common scale: their logarithm, centred, of unit deviation in a sample.

    The least hundredth of a sample counts alike, as costs near 0 would stretch the scale; a metric that is not positive
    is taken as it is.

    Args:
        sample_NK: Metrics of a sample of the space.
    """

    def __init__(self, sample_NK: Array) -> None:
        floor_K = np.quantile(sample_NK, 0.01, axis=0)
        self._is_log_K = floor_K > 0
        self._floor_K = np.where(self._is_log_K, floor_K, -np.inf)
        values_NK = self._values(sample_NK)
        self._mean_K, deviation_K = values_NK.mean(axis=0), values_NK.std(axis=0)
        self._deviation_K = np.where(deviation_K > 1e-9, deviation_K, 1.0)

    def __call__(self, metrics_NK: Array) -> Array:
        """Return (N, K) features."""
        scaled_NK: Array = (self._values(metrics_NK) - self._mean_K) / self._deviation_K
        return scaled_NK

    def _values(self, metrics_NK: Array) -> Array:
        raised_NK = np.maximum(metrics_NK, self._floor_K)
        logs_NK = np.log(np.where(self._is_log_K, raised_NK, 1.0))
        values_NK: Array = np.where(self._is_log_K, logs_NK, raised_NK)
        return values_NK


class CountScale:
    """Centres counts of options, and divides them by their deviation in a sample, or by a half if that is more.

    Options that a sample hardly has would otherwise lie far from all others.

    Args:
        sample_NO: Counts in a sample of the space.
    """

    def __init__(self, sample_NO: Array) -> None:
        self._mean_O, self._deviation_O = sample_NO.mean(axis=0), np.maximum(sample_NO.std(axis=0), 0.5)

    def __call__(self, counts_NO: Array) -> Array:
        """Return (N, O) features."""
        scaled_NO: Array = (counts_NO - self._mean_O) / self._deviation_O
        return scaled_NO
