"""How the front grew: its hypervolume over evaluations and over CO2.

Legend: N candidates, M objectives, F points on the front.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nasray.pareto import front_indices, hypervolume
from nasray.report.candidates import Candidates, Values

MOST_STEPS = 200
"""Points of a curve; the hypervolume of a large front takes milliseconds each time."""

_MANY_OBJECTIVES, _FEW_STEPS = 4, 60


@dataclass(frozen=True, kw_only=True)
class Growth:
    """The hypervolume after some numbers of evaluations.

    Args:
        evaluations: How many had ended, those that failed too.
        hypervolume: In the product of the objectives' units.
        front: Points on the front.
        reference_point: The worst value of each objective among candidates that count, by name.
        box: Volume between the best values seen and the reference point; the hypervolume is at most this.
    """

    evaluations: list[int]
    hypervolume: list[float]
    front: list[int]
    reference_point: dict[str, float]
    box: float

    @property
    def shares(self) -> list[float]:
        """The hypervolume as a share of the box."""
        return [value / self.box for value in self.hypervolume]


def growth(candidates: Candidates) -> Growth | None:
    """Return how the front of the shared objectives grew; None if fewer than two of them vary.

    The reference point is the one of `ParetoArchive.hypervolume` and of `front.json`: the worst values seen. So
    curves of different runs do not compare.
    """
    names = [objective.name for objective in candidates.shared]
    if len(names) < 2:
        return None
    indices = candidates.complete(names)
    if len(indices) < 2:
        return None
    values_NM = candidates.minimized(names, indices)
    varies_M = np.ptp(values_NM, axis=0) > 0  # what is the same for all has no volume
    names, values_NM = [name for name, varies in zip(names, varies_M, strict=True) if varies], values_NM[:, varies_M]
    if len(names) < 2:
        return None
    worst_M, best_M = values_NM.max(axis=0), values_NM.min(axis=0)
    box = float(np.prod(worst_M - best_M))
    ends = _steps(len(candidates.rows), _FEW_STEPS if len(names) >= _MANY_OBJECTIVES else MOST_STEPS)
    front_FM, volumes, sizes, start = values_NM[:0], [], [], 0
    for end in ends:
        stop = int(np.searchsorted(indices, end))
        if stop > start:  # else nothing new counts
            front_FM, start = _front(np.concatenate([front_FM, values_NM[start:stop]])), stop
            volume = hypervolume(front_FM, worst_M)
        volumes.append(volume if len(front_FM) else 0.0)
        sizes.append(len(front_FM))
    worst_rows = indices[values_NM.argmax(axis=0)]
    reference = {name: float(candidates.metrics[name][row]) for name, row in zip(names, worst_rows, strict=True)}
    return Growth(evaluations=ends, hypervolume=volumes, front=sizes, reference_point=reference, box=box)


@dataclass(frozen=True, kw_only=True)
class CarbonSpent:
    """CO2 up to each candidate.

    Args:
        total_g: (N,) grams up to and with each candidate; None if unknown.
        explanation: Where the figures come from, or why there are none.
    """

    total_g: Values | None
    explanation: str


def carbon_spent(candidates: Candidates, account: Mapping[str, Any] | None) -> CarbonSpent:
    """Return the CO2 up to each candidate: as metered for each, else the search's share by time.

    Args:
        candidates: Of the run.
        account: Content of its `energy.json`.
    """
    own_g = candidates.metrics.get("carbon_g")
    if own_g is not None:
        return _metered(own_g)
    stage = _search_stage(account)
    if stage is None or stage.get("carbon_g") is None:
        return CarbonSpent(total_g=None, explanation="The CO2 of the search is unknown: no energy was recorded.")
    seconds = np.array([row.get("seconds") or 0.0 for row in candidates.rows], dtype=float)
    has_seconds = bool((seconds > 0).all())
    shares = seconds / seconds.sum() if has_seconds else np.full(len(seconds), 1 / max(1, len(seconds)))
    how = "by the seconds that each took" if has_seconds else "evenly"
    return CarbonSpent(
        total_g=np.cumsum(shares) * stage["carbon_g"],
        explanation=f"The search's CO2 ({stage['quality']}) is shared out among its evaluations {how}.",
    )


def _metered(own_g: Values) -> CarbonSpent:
    unknown = int(np.isnan(own_g).sum())
    text = "The CO2 of every evaluation was recorded; overhead and other stages are not in it."
    if unknown:
        text += f" {unknown:,} of {len(own_g):,} have no figure and add nothing, so that the axis is a lower bound."
    return CarbonSpent(total_g=np.cumsum(np.nan_to_num(own_g)), explanation=text)


def _search_stage(account: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    stages = (account or {}).get("stages") or {}
    found: Mapping[str, Any] | None = stages.get("search")
    return found


def _steps(num_rows: int, most: int) -> list[int]:
    """Return up to `most` numbers of evaluations, from the first to all of them."""
    return sorted({max(1, round(num_rows * step / most)) for step in range(1, most + 1)} | {1})


def _front(values_NM: Values) -> Values:
    front: Values = values_NM[front_indices(values_NM)]
    return front
