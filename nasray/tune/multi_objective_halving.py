"""Asynchronous successive halving for several objectives: what is dominated early is not trained to the end.

Array letters: N results, M objectives (minimised), F points on a front.
"""

from __future__ import annotations

import bisect
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from nasray.objectives import Objective
from nasray.pareto import crowding_distances, front_ranks
from nasray.reading import build, read_json, reason
from nasray.tune.newest_first import NewestTrialFirst

Values = npt.NDArray[np.float64]
Order = Literal["epsilon_net", "crowding"]


class MultiObjectiveHalving(NewestTrialFirst):
    """Stops a trial at a rung unless it is among the best of all that got there, for `TuneConfig(scheduler=...)`.

    A trial reaches a rung when its time is `grace_period`, then `reduction_factor` times as much, and so on below
    `max_t`. There its result is compared with all earlier ones at that rung, by fronts and then by the order on its
    own front (`halving_places`). It goes on if its place is among the first 1 / `reduction_factor`; the first one to
    arrive always does. Nobody waits, so early trials go on more easily than late ones. At `max_t` trials are stopped.

    A trial is stopped as soon as it reports an objective that is not finite, or reaches a rung without all of them. A
    result without a time is passed over. Trials that end by themselves count for the others.

    Give `TuneConfig` no metric and no mode: the objectives have their own.

    Args:
        objectives: Metrics in the results, with directions.
        time_attr: What counts as time in a result; it must grow.
        grace_period: Time before which nothing is stopped.
        reduction_factor: Of as many trials at a rung, one goes on.
        max_t: Time at which trials are stopped.
        order: How results on the same front are ordered.

    Raises:
        ValueError: If there are no objectives, a number is out of its range or the order is unknown.

    Source: Schmucker et al. 2021 (MO-ASHA, arXiv 2106.12639), on Li et al. 2020 (ASHA). Deviation: a trial is stopped
    or goes on at once, as in Ray's ASHA, instead of being paused and perhaps promoted later.
    """

    def __init__(
        self,
        objectives: Sequence[Objective],
        *,
        time_attr: str = "training_iteration",
        grace_period: float = 1,
        reduction_factor: float = 3,
        max_t: float = 100,
        order: Order = "epsilon_net",
    ) -> None:
        super().__init__()
        names = [objective.name for objective in objectives]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"`objectives` must be different metrics, at least one, got {names}.")
        if not 0 < grace_period <= max_t < math.inf or not 1 < reduction_factor < math.inf:
            raise ValueError(
                "`grace_period` must be positive and at most `max_t`, and `reduction_factor` above 1, got "
                f"{grace_period}, {max_t} and {reduction_factor}."
            )
        if order not in ("epsilon_net", "crowding"):
            raise ValueError(f"`order` must be epsilon_net or crowding, got {order!r}.")
        self.objectives, self.time_attr, self.max_t, self.order = tuple(objectives), time_attr, max_t, order
        self.reduction_factor = reduction_factor
        self.milestones = list(_milestones(grace_period, reduction_factor, max_t))
        self._rungs: list[dict[str, tuple[float, ...]]] = [{} for _ in self.milestones]
        self._reached: dict[str, int] = {}
        self.num_stopped = 0

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Leave Ray's metric to Ray: the objectives have been given."""
        return True

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Decide whether a trial goes on."""
        if self._goes_on(str(trial.trial_id), result):
            return str(self.CONTINUE)
        self.num_stopped += 1
        return str(self.STOP)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Note the last result of a trial, which the others are compared with."""
        time = _number(result.get(self.time_attr))
        if math.isfinite(time):
            self._arrive(str(trial.trial_id), time, self._values(result))

    def debug_string(self) -> str:
        """Return how many results each rung holds."""
        rungs = zip(self.milestones, self._rungs, strict=True)
        counts = ", ".join(f"{len(results)} at {milestone:g}" for milestone, results in rungs)
        return f"Multi-objective halving: {self.num_stopped} stopped; results: {counts or 'none'}"

    def save(self, checkpoint_path: str) -> None:
        """Write what was seen, as JSON, for `restore`."""
        state = {"rungs": self._rungs, "reached": self._reached, "num_stopped": self.num_stopped}
        Path(checkpoint_path).write_text(json.dumps(state, allow_nan=False), encoding="utf-8")

    def restore(self, checkpoint_path: str) -> None:
        """Read what `save` wrote, in a scheduler that was made with the same arguments.

        Raises:
            ValueError: If the file is damaged or of a scheduler with other rungs.
        """
        try:
            state = build(dict[str, Any], read_json(Path(checkpoint_path)))
            stored = build(list[dict[str, list[float]]], state.get("rungs"))
            rungs = [{key: tuple(values) for key, values in rung.items()} for rung in stored]
            reached = build(dict[str, int], state.get("reached"))
            num_stopped = build(int, state.get("num_stopped"))
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{checkpoint_path} holds no state of this scheduler ({reason(error)}). Start anew."
            ) from error
        if len(rungs) != len(self.milestones):
            raise ValueError(f"{checkpoint_path} has {len(rungs)} rungs, this scheduler {len(self.milestones)}.")
        self._rungs, self._reached, self.num_stopped = rungs, reached, num_stopped

    def _goes_on(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        values_M = self._values(result)
        if any(value is not None and not math.isfinite(value) for value in values_M):
            return False
        time = _number(result.get(self.time_attr))
        if time >= self.max_t:
            return False
        return self._arrive(trial_id, time, values_M) if math.isfinite(time) else True

    def _arrive(self, trial_id: str, time: float, values_M: Sequence[float | None]) -> bool:
        """Note the result of a trial at a rung that it has just reached; returns whether it goes on."""
        level = bisect.bisect_right(self.milestones, time) - 1
        if level <= self._reached.get(trial_id, -1):
            return True
        complete_M = tuple(value for value in values_M if value is not None and math.isfinite(value))
        if len(complete_M) < len(self.objectives):
            return False
        self._reached[trial_id] = level
        results = self._rungs[level]
        results[trial_id] = complete_M
        place = int(halving_places(np.array(list(results.values())), self.order)[-1])
        return place == 0 or place * self.reduction_factor < len(results)

    def _values(self, result: Mapping[str, Any]) -> list[float | None]:
        """Return the objectives to be minimised; None where one is missing."""
        names = [(objective.name, objective.sign) for objective in self.objectives]
        return [sign * _number(result[name]) if name in result else None for name, sign in names]


def halving_places(values_NM: Values, order: Order = "epsilon_net") -> npt.NDArray[np.intp]:
    """Return how many rows stand before each row.

    A row on an earlier front stands before one on a later. On the same front, `crowding` puts first what is farther
    from its neighbours (rows of equal distance share a place); `epsilon_net` begins with the best first objective and
    goes on with the row that is farthest from all before it, in units of the front's extent.

    Args:
        values_NM: (N, M) objectives to minimise, finite.
        order: The order on a front.

    Returns:
        (N,) places from 0.

    Source: Deb et al. 2002 (NSGA-II), Sec. III; Schmucker et al. 2021 (epsilon-net, after Clarkson's farthest-first
    order). Deviation: distances are scaled by the front's extent, so that units do not matter.
    """
    ranks_N = front_ranks(values_NM)
    places_N = np.empty(len(values_NM), dtype=np.intp)
    if order == "crowding":
        distances_N = crowding_distances(values_NM, ranks_N)
        for row, (rank, distance) in enumerate(zip(ranks_N, distances_N, strict=True)):
            places_N[row] = np.sum((ranks_N < rank) | ((ranks_N == rank) & (distances_N > distance)))
        return places_N
    for rank in range(int(ranks_N.max(initial=-1)) + 1):
        front_F = np.flatnonzero(ranks_N == rank)
        places_N[front_F[_farthest_first(values_NM[front_F])]] = np.sum(ranks_N < rank) + np.arange(len(front_F))
    return places_N


def _farthest_first(values_FM: Values) -> list[int]:
    """Return the rows of a front, each the farthest from all before it; the first of several as far."""
    low_M, high_M = values_FM.min(axis=0), values_FM.max(axis=0)
    scaled_FM = (values_FM - low_M) / np.where(high_M > low_M, high_M - low_M, 1.0)
    chosen = [int(scaled_FM[:, 0].argmin())]
    distance_F = np.full(len(scaled_FM), np.inf)
    while len(chosen) < len(scaled_FM):
        distance_F = np.minimum(distance_F, ((scaled_FM - scaled_FM[chosen[-1]]) ** 2).sum(axis=1))
        distance_F[chosen] = -1.0
        chosen.append(int(distance_F.argmax()))
    return chosen


def _milestones(grace_period: float, reduction_factor: float, max_t: float) -> list[float]:
    milestones, time = [], float(grace_period)
    while time < max_t:
        milestones.append(time)
        time *= reduction_factor
    return milestones


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
