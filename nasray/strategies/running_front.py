"""The front of what was told so far, kept as results come in.

Array letters: F points of the front, M objectives.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


class RunningFront:
    """Trials that no other trial dominates."""

    def __init__(self) -> None:
        self.trial_ids: list[str] = []
        self._values_FM: npt.NDArray[np.float64] = np.empty((0, 0))

    def add(self, trial_id: str, values_M: npt.NDArray[np.float64]) -> None:
        """Take a trial, and drop those that it dominates; of equal ones the first stays."""
        if not self.trial_ids:
            self.trial_ids, self._values_FM = [trial_id], values_M[None]
            return
        if (self._values_FM <= values_M).all(axis=1).any():
            return
        kept = np.flatnonzero(~(values_M <= self._values_FM).all(axis=1)).tolist()
        self.trial_ids = [*(self.trial_ids[place] for place in kept), trial_id]
        self._values_FM = np.vstack([self._values_FM[kept], values_M])
