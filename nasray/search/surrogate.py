"""Surrogate-assisted search: costs are known before training, so only what training tells is learned.

Array letters: N candidates, L learned metrics, K known metrics, M objectives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from nasray.architecture import Architecture
from nasray.formulations import Pareto
from nasray.objectives import Constraint
from nasray.pareto import front_indices
from nasray.search.candidate_pool import CandidatePool, KnownMetrics, Pool, spread_out
from nasray.search.candidate_search import Candidate, CandidateSearch
from nasray.search.encoding import Array
from nasray.search.expected_gain import Scene, expected_gain
from nasray.search.metric_model import MetricModel
from nasray.search.metric_scale import MetricScale, Prediction
from nasray.search.strategy import State
from nasray.spaces.space import SearchSpace

_SHORTLIST, _NUM_CELLS = 1024, 1024
_EXACT, _KEPT, _MOST_AT_ONCE = 500, 1000, 400
_SPREAD = 0.6  # factor on predicted deviations: below 1 leans to what is known to be good


@dataclass(frozen=True)
class _Learned:
    """A metric that only an evaluation tells; minimised after multiplication by the sign."""

    name: str
    sign: float


class SurrogateSearch(CandidateSearch):
    """Learns the accuracy from few evaluations and asks for what should enlarge the hypervolume most.

    A black-box optimizer must learn all objectives; here the hardware cost of every candidate is known, so that the
    expected gain is an integral over the distribution of the learned metrics alone, and the costs serve as inputs of
    the model. Candidates that break a constraint on a known metric are never asked for; without others left
    the search ends. Candidates that are out count
    with their predicted values.

    Args:
        space: What to search; spaces of up to 20,000 architectures are looked at whole.
        formulation: Objectives and constraints; at least one objective must be learned.
        known: Metrics of an architecture that need no training, always the same ones; None vetoes it.
        num_evaluations: How many candidates to ask for.
        generator: Source of randomness.
        num_initial: Evaluations before the model chooses.
        refit_every: Results between two fits of the model's hyper-parameters (or a tenth of the results, if more).
        initial: Architectures to evaluate first; they count as initial evaluations.

    Raises:
        ValueError: If every objective is known, or a number is out of its range.

    Source: ours. Expected hypervolume improvement: Emmerich et al. 2006; believing in predictions of pending
    candidates: Ginsbourger et al. 2010. Deviation: the certain dimensions are not integrated over.
    """

    def __init__(
        self,
        space: SearchSpace,
        formulation: Pareto,
        *,
        known: KnownMetrics,
        num_evaluations: int,
        generator: np.random.Generator,
        num_initial: int = 12,
        refit_every: int = 8,
        initial: Sequence[Architecture] = (),
    ) -> None:
        super().__init__(space, formulation, num_evaluations=num_evaluations, generator=generator, initial=initial)
        if num_initial < 2 or refit_every < 1:
            raise ValueError(
                f"`num_initial` must be at least 2 and `refit_every` at least 1, got {num_initial} and {refit_every}."
            )
        if not isinstance(formulation, Pareto):
            raise ValueError("`formulation` must be Pareto (with constraints, if any). Use evolution for others.")
        self._pools = CandidatePool(space, known)
        self._num_initial, self._refit_every = num_initial, refit_every
        names = self._pools.names
        learned = [_Learned(o.name, o.sign) for o in formulation.objectives if o.name not in names]
        if not learned:
            raise ValueError(f"`known` must leave an objective to learn, got all of {', '.join(names)}.")
        self._num_targets = len(learned)
        taken = {*names, *(metric.name for metric in learned)}
        signs = {c.metric: 1.0 if c.relation == "<=" else -1.0 for c in formulation.constraints}
        self._learned = [*learned, *(_Learned(name, sign) for name, sign in signs.items() if name not in taken)]
        self._costs = [(names.index(o.name), o.sign) for o in formulation.objectives if o.name in names]
        self._models = [MetricModel(self._pools.encoder.slots, len(names)) for _ in self._learned]
        self._design: list[Architecture] | None = None
        self._usable: list[str] = []
        self._front: dict[str, Array] = {}
        self._queue: list[Architecture] = []
        self._next_fit = 0
        self._shortlist: list[int] = []
        self._limits: tuple[Array, Array] = (np.empty(0), np.empty(0))

    def _propose(self) -> Architecture:
        if self._design is None:
            pool = self._pools.whole or self._pools.sample([], self._generator)
            self._design = spread_out(self._allowed(pool), self._num_initial, self._generator)
        if len(self._asked) < self._num_initial:
            left = [architecture for architecture in self._design if architecture not in self._known]
            if left:
                return left[0]
        if len(self._usable) < 2:
            return self.space.random(self._generator)
        while self._queue:
            if (architecture := self._queue.pop(0)) not in self._known:
                return architecture
        ranked = self._ranked()
        if not ranked:  # costs veto all that was sampled
            return self.space.random(self._generator)
        self._queue = ranked[1 : self._batch_size()]
        return ranked[0]

    def _batch_size(self) -> int:
        """Return how many candidates to take from one ranking: few evaluations are worth one each."""
        return 1 if len(self._usable) < _EXACT else min(_MOST_AT_ONCE, len(self._usable) // 20)

    def _learn(self, trial_id: str, candidate: Candidate | None) -> None:
        metrics = self._results[trial_id].metrics
        if candidate is None or any(metric.name not in metrics for metric in self._learned):
            return
        if not self._pools.of([candidate.architecture]).architectures:
            return  # an initial architecture that costs veto
        self._usable.append(trial_id)
        if candidate.violation > 0 or any((row <= candidate.values_M).all() for row in self._front.values()):
            return
        worse = [key for key, row in self._front.items() if (candidate.values_M <= row).all()]
        for key in worse:
            del self._front[key]
        self._front[trial_id] = candidate.values_M

    def _forget(self) -> None:
        self._usable.clear()
        self._front.clear()

    def _is_allowed(self, architecture: Architecture) -> bool:
        """Whether costs do not veto an architecture."""
        pool = self._pools.of([architecture])
        return bool(pool.architectures) and bool(self._meets_known(pool.known_NK)[0])

    def _kept(self) -> list[str]:
        """Return the evaluations that the models are based on: all of few; the front and the latest of many."""
        latest = self._usable[-_KEPT:]
        return sorted({*self._front, *latest}, key=int)

    def state_dict(self) -> State:
        """Return the whole state as JSON."""
        design = None if self._design is None else [architecture.to_json() for architecture in self._design]
        model: State = {
            "design": design,
            "queue": [architecture.to_json() for architecture in self._queue],
            "next_fit": self._next_fit,
            "shortlist": self._shortlist,
            "limits": [row.tolist() for row in self._limits],
            "parameters": [model.parameters.tolist() for model in self._models],
        }
        return super().state_dict() | {"model": model}

    def load_state_dict(self, state: State) -> None:
        """Continue from a state that `state_dict` gave, in a strategy that was made with the same arguments."""
        super().load_state_dict(state)
        model = cast(dict[str, Any], state["model"])
        design = model["design"]
        self._design = None if design is None else [Architecture.from_json(value) for value in design]
        self._queue = [Architecture.from_json(value) for value in model["queue"]]
        self._next_fit, self._shortlist = model["next_fit"], list(model["shortlist"])
        self._limits = (np.array(model["limits"][0]), np.array(model["limits"][1]))
        for own, parameters in zip(self._models, model["parameters"], strict=True):
            own.parameters = np.array(parameters)

    def _ranked(self) -> list[Architecture]:
        """Return unknown candidates, the most promising first."""
        kept = self._kept()
        told = self._pools.of(self.architecture(trial_id) for trial_id in kept)
        values_NL = np.array([self._learned_values(self._results[trial_id].metrics) for trial_id in kept])
        scales = [MetricScale.of(column) for column in values_NL.T]
        scaled_NL = np.column_stack([s.forward(v) for s, v in zip(scales, values_NL.T, strict=True)])
        count = len(self._usable)
        is_fit = count >= self._next_fit
        if is_fit:
            for model, scaled_N in zip(self._models, scaled_NL.T, strict=True):
                model.tune(told.codes_NP, told.features_NK, scaled_N)
            self._next_fit = count + max(self._refit_every, count // 10)
        self._condition(told, scaled_NL)
        known, scaled_NL, values_NL = self._with_pending(told, scaled_NL, values_NL, scales)
        found_NM = self._objectives(values_NL, known)
        is_feasible = self._is_feasible(values_NL, known)
        front_FM = found_NM[is_feasible]
        front_FM = front_FM[front_indices(front_FM)] if len(front_FM) else front_FM
        pool, rows = self._candidates(known, front_FM, found_NM, is_fit)
        if not pool.architectures:
            return []
        predicted = [model.predict(pool.codes_NP, pool.features_NK) for model in self._models]
        if is_fit:
            self._limits = self._expected_limits(front_FM, pool, predicted, scales)
        predictions = [
            Prediction(mean_N, _SPREAD * deviation_N, scale)
            for (mean_N, deviation_N), scale in zip(predicted, scales, strict=True)
        ]
        gain_N = expected_gain(
            predictions[: self._num_targets],
            self._known_objectives(pool),
            Scene(front_FM, *self._limits),
            self._generator,
            num_cells=_NUM_CELLS,
        )
        gain_N = (gain_N + 1e-300) * self._chance_of_feasibility(predictions, len(gain_N))
        order_N = np.argsort(-gain_N, kind="stable")[:_SHORTLIST]
        if is_fit and rows is not None:
            self._shortlist = rows[order_N].tolist()
        return [pool.architectures[row] for row in order_N]

    def _candidates(
        self, known: Pool, front_FM: Array, found_NM: Array, is_fit: bool
    ) -> tuple[Pool, np.ndarray | None]:
        """Return unknown candidates, and their rows in the whole space where it is enumerated."""
        if self._pools.whole is None:
            on_front = [row for row, values in enumerate(found_NM) if (front_FM == values).all(axis=1).any()]
            parents = [known.architectures[row] for row in on_front or range(len(found_NM))]
            pool = self._allowed(self._pools.sample(parents, self._generator))
            new = [row for row, architecture in enumerate(pool.architectures) if architecture not in self._known]
            return (pool.take(new) if new else pool), None
        whole = self._pools.whole
        rows = range(len(whole.architectures)) if is_fit or not self._shortlist else self._shortlist
        new = [row for row in rows if whole.architectures[row] not in self._known]
        if not new:
            new = [row for row, architecture in enumerate(whole.architectures) if architecture not in self._known]
        new = new or list(range(len(whole.architectures)))
        allowed = np.array(new)[self._meets_known(whole.known_NK[new])]
        rows_N = allowed if len(allowed) else np.array(new)
        return whole.take(rows_N.tolist()), rows_N

    def _with_pending(
        self, told: Pool, scaled_NL: Array, values_NL: Array, scales: list[MetricScale]
    ) -> tuple[Pool, Array, Array]:
        """Add the candidates that are out, with what the models expect of them."""
        out = [self.architecture(trial_id) for trial_id in sorted(self._pending, key=int)]
        pending = self._pools.of(out)
        if not pending.architectures:
            return told, scaled_NL, values_NL
        means = [model.predict(pending.codes_NP, pending.features_NK)[0] for model in self._models]
        scaled_NL = np.vstack([scaled_NL, np.column_stack(means)])
        believed = [scale.inverse(mean) for mean, scale in zip(means, scales, strict=True)]
        values_NL = np.vstack([values_NL, np.column_stack(believed)])
        both = self._pools.of([*told.architectures, *pending.architectures])
        self._condition(both, scaled_NL)
        return both, scaled_NL, values_NL

    def _expected_limits(
        self,
        front_FM: Array,
        pool: Pool,
        predicted: list[tuple[Array, Array]],
        scales: list[MetricScale],
    ) -> tuple[Array, Array]:
        """Return the ideal of the front that is expected, and a reference a tenth beyond its nadir.

        The nadir also covers the front of predictions that are one deviation better.
        """
        fronts = []
        for optimism in (0.0, 1.0):
            columns = [s.inverse(mean - optimism * sd) for (mean, sd), s in zip(predicted, scales, strict=True)]
            values_NM = np.vstack([front_FM, self._objectives(np.column_stack(columns), pool)])
            fronts.append(values_NM[front_indices(values_NM)])
        ideal_M = fronts[0].min(axis=0)
        nadir_M = np.maximum(fronts[0].max(axis=0), fronts[1].max(axis=0))
        extent_M = np.where(nadir_M > ideal_M, nadir_M - ideal_M, np.maximum(np.abs(ideal_M), 1.0) * 1e-3)
        return ideal_M, nadir_M + 0.1 * extent_M

    def _condition(self, pool: Pool, scaled_NL: Array) -> None:
        for model, scaled_N in zip(self._models, scaled_NL.T, strict=True):
            model.condition(pool.codes_NP, pool.features_NK, scaled_N)

    def _learned_values(self, metrics: Mapping[str, float]) -> list[float]:
        return [metric.sign * metrics[metric.name] for metric in self._learned]

    def _known_objectives(self, pool: Pool) -> Array:
        columns = [sign * pool.known_NK[:, column] for column, sign in self._costs]
        return np.column_stack(columns) if columns else np.empty((len(pool.architectures), 0))

    def _objectives(self, values_NL: Array, pool: Pool) -> Array:
        """Return (N, M) objectives to minimise, the learned ones first."""
        return np.hstack([values_NL[:, : self._num_targets], self._known_objectives(pool)])

    def _is_feasible(self, values_NL: Array, pool: Pool) -> np.ndarray:
        is_feasible_N = self._meets_known(pool.known_NK)
        for column, limit in self._learned_limits():
            is_feasible_N &= values_NL[:, column] <= limit
        return is_feasible_N

    def _meets_known(self, known_NK: Array) -> np.ndarray:
        """Return (N,) whether no constraint on a known metric is broken."""
        is_allowed_N = np.ones(len(known_NK), dtype=bool)
        for constraint in self.formulation.constraints:
            if constraint.metric in self._pools.names:
                values_N = known_NK[:, self._pools.names.index(constraint.metric)]
                is_allowed_N &= _meets(constraint, values_N)
        return is_allowed_N

    def _allowed(self, pool: Pool) -> Pool:
        rows = np.flatnonzero(self._meets_known(pool.known_NK))
        return pool.take(rows.tolist()) if len(rows) else pool

    def _learned_limits(self) -> list[tuple[int, float]]:
        """Return the constraints on learned metrics: column, and largest value after its sign."""
        names = [metric.name for metric in self._learned]
        found = [c for c in self.formulation.constraints if c.metric in names]
        # A metric may be bounded on the side on which it is better already; that is no limit here.
        pairs = [(names.index(c.metric), c) for c in found]
        return [
            (column, self._learned[column].sign * constraint.limit)
            for column, constraint in pairs
            if (constraint.relation == "<=") == (self._learned[column].sign > 0)
        ]

    def _chance_of_feasibility(self, predictions: list[Prediction], count: int) -> Array:
        chance_N = np.ones(count)
        for column, limit in self._learned_limits():
            chance_N *= predictions[column].probability_below(np.array([limit]))[:, 0]
        return chance_N


def _meets(constraint: Constraint, values_N: Array) -> np.ndarray:
    return np.asarray(values_N <= constraint.limit if constraint.relation == "<=" else values_N >= constraint.limit)
