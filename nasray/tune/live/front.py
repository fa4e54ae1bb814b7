"""The front of a search that goes on, and its hypervolume at a bounded price.

Array letters: M objectives (minimised), F points on the front.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from nasray.formulations import Formulation
from nasray.pareto import hypervolume

_SHARE = 0.005
"""Most of the process's time that goes into hypervolumes."""


class LiveFront:
    """Keeps the objectives of what no other evaluation dominates, and forgets the rest.

    Args:
        formulation: Objectives and constraints.
        clock: Seconds, only forward.
    """

    def __init__(self, formulation: Formulation, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self._formulation, self._clock = formulation, clock
        self._front_FM: npt.NDArray[np.float64] = np.empty((0, len(formulation.objectives)))
        self._worst_M: npt.NDArray[np.float64] | None = None
        self._volume: float | None = None
        self._is_stale, self._next_s = False, clock()

    @property
    def size(self) -> int:
        """How many points are on the front."""
        return len(self._front_FM)

    def add(self, metrics: Mapping[str, float]) -> None:
        """Take an ok evaluation; one that lacks an objective or breaks a constraint is left out."""
        formulation = self._formulation
        if any(name not in metrics for name in formulation.metrics) or formulation.violation(metrics) > 0:
            return
        new_M = formulation.values(metrics)
        worst_M = new_M if self._worst_M is None else np.maximum(self._worst_M, new_M)
        if self._worst_M is None or (worst_M > self._worst_M).any():
            self._worst_M, self._is_stale = worst_M, True
        if (self._front_FM <= new_M).all(axis=1).any():
            return
        is_kept_F = ~(new_M <= self._front_FM).all(axis=1)
        self._front_FM, self._is_stale = np.vstack([self._front_FM[is_kept_F], new_M]), True

    def hypervolume(self, *, now: bool = False) -> float | None:
        """Return what the front dominates, in the product of the objectives' units; None before the first point.

        The reference point is the worst value of each objective so far, as in `ParetoArchive.hypervolume`. The figure
        may be some moments old: it is computed anew when the last computation's time is well spread.

        Args:
            now: Whether it must be of this moment.
        """
        start_s = self._clock()
        if self._worst_M is not None and self._is_stale and (now or start_s >= self._next_s):
            self._volume, self._is_stale = hypervolume(self._front_FM, self._worst_M), False
            end_s = self._clock()
            self._next_s = end_s + (end_s - start_s) / _SHARE
        return self._volume
