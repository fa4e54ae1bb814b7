"""Surrogate-assisted search: costs are known before training, so only what training tells is learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nasray.architecture import Architecture
from nasray.formulations import Pareto
from nasray.reading import build
from nasray.spaces.space import SearchSpace
from nasray.strategies.candidate_pool import CandidatePool, KnownMetrics, Pool, spread_out
from nasray.strategies.candidate_search import Candidate, CandidateSearch
from nasray.strategies.gain_ranking import GainRanking
from nasray.strategies.running_front import RunningFront
from nasray.strategies.split_objectives import SplitObjectives
from nasray.strategies.strategy import State, reading_state

_SHORTLIST, _SAMPLE, _SAMPLE_PER_ASK = 512, 600, 1.5
_ONE_AT_A_TIME, _MOST_AT_ONCE = 200, 1000
_MOST_SAMPLED = int(_SAMPLE_PER_ASK * _MOST_AT_ONCE)
_TUNED_OFTEN, _LATEST, _FROM_FRONT = 500, 300, 200


@dataclass(frozen=True, kw_only=True)
class _SavedModel:
    design: list[dict[str, Any]] | None
    next_fit: int
    next_look: int
    sample_of: dict[str, Any]
    shortlist: list[int]
    queue: list[int]
    ranking: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class _SavedSample:
    count: int
    parents: list[str]
    seed: int

    def __post_init__(self) -> None:
        if not 1 <= self.count <= _MOST_SAMPLED or not 0 <= self.seed < 2**63:
            raise ValueError(f"A sample must have from 1 to {_MOST_SAMPLED} candidates and a seed, got {self}.")


class SurrogateSearch(CandidateSearch):
    """Learns the accuracy from few evaluations and asks for what should enlarge the hypervolume most.

    A black-box optimizer must learn all objectives; here the hardware cost of every candidate is known, so that the
    expected gain is an integral over the distribution of the learned metrics alone, and the costs serve as inputs of
    the model. Candidates that break a constraint on a known metric are never asked for; without others left
    the search ends. Candidates that are out count with their predicted values.

    The more is known, the less a single evaluation changes: candidates are then asked for in batches, and the models
    learn from a part of the front and the latest evaluations, so that the time an ask takes does not grow.

    Args:
        space: What to search; spaces of up to 20,000 architectures are looked at whole.
        formulation: Objectives and constraints; at least one objective must be learned.
        known: Metrics of an architecture that need no training, always the same ones; None vetoes it.
        num_evaluations: How many candidates to ask for.
        generator: Source of randomness.
        num_initial: Evaluations before the model chooses.
        refit_every: Results between two fits of the model's hyper-parameters, at least; in between, the best
            candidates of the last look at all of them are compared.
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
        self._split = SplitObjectives(formulation, self._pools.names)
        self._ranking = GainRanking(self._split, self._pools.encoder.slots, self._pools.num_features)
        self._design: list[Architecture] | None = None
        self._usable: list[str] = []
        self._front = RunningFront()
        self._next_fit = self._next_look = 0
        self._sample_of: dict[str, Any] = {}
        self._pool: Pool = self._pools.whole or self._pools.of([])
        self._shortlist: list[int] = []
        self._queue: list[int] = []

    def state_dict(self) -> State:
        """Return the whole state as JSON; a sampled pool is told by how it was drawn."""
        is_designed = len(self._asked) >= self._num_initial
        model: State = {
            "design": None if self._design is None else [a.to_json() for a in self._design if not is_designed],
            "next_fit": self._next_fit,
            "next_look": self._next_look,
            "sample_of": self._sample_of,
            "shortlist": self._shortlist,
            "queue": self._queue,
            "ranking": self._ranking.state_dict(),
        }
        return super().state_dict() | {"model": model}

    @reading_state()
    def load_state_dict(self, state: State) -> None:
        """Continue from a state that `state_dict` gave, in a strategy that was made with the same arguments."""
        super().load_state_dict(state)
        model = build(_SavedModel, state.get("model"))
        design = model.design
        self._design = None if design is None else [self.space.check(Architecture.from_json(a)) for a in design]
        self._next_fit, self._next_look = model.next_fit, model.next_look
        self._ranking.load_state_dict(model.ranking)
        if model.sample_of:
            sample = build(_SavedSample, model.sample_of)
            if not set(sample.parents) <= self._results.keys():
                raise ValueError("`parents` must be candidates that were told, got others.")
            self._sample(count=sample.count, parents=sample.parents, seed=sample.seed)
        if not all(0 <= row < len(self._pool.architectures) for row in (*model.shortlist, *model.queue)):
            raise ValueError("`shortlist` and `queue` must number candidates, got others.")
        self._shortlist, self._queue = model.shortlist, model.queue

    def _propose(self) -> Architecture:
        if len(self._asked) < self._num_initial and (left := self._left_of_design()):
            return left[0]
        if len(self._usable) < 2:
            return self.space.random(self._generator)
        if not (self._queue or self._next_batch()):  # costs veto all that was sampled, or all is known
            return self.space.random(self._generator)
        return self._pool.architectures[self._queue.pop(0)]

    def _left_of_design(self) -> list[Architecture]:
        if self._design is None:
            pool = self._pools.whole or self._pools.sample(_SAMPLE, [], self._draw_seed())
            self._design = spread_out(self._allowed(pool), self._num_initial, self._generator)
        return [architecture for architecture in self._design if architecture not in self._known]

    def _learn(self, trial_id: str, candidate: Candidate | None) -> None:
        if candidate is None or not self._split.is_complete(self._results[trial_id].metrics):
            return
        if int(trial_id) < len(self._initial) and not self._pools.of([candidate.architecture]).architectures:
            return  # an initial architecture that costs veto
        self._usable.append(trial_id)
        if candidate.violation <= 0:
            self._front.add(trial_id, candidate.values_M)

    def _forget(self) -> None:
        self._usable.clear()
        self._front = RunningFront()

    def _is_allowed(self, architecture: Architecture) -> bool:
        """Whether costs do not veto an architecture."""
        pool = self._pools.of([architecture])
        return bool(pool.architectures) and bool(self._split.meets_known(pool.known_NK)[0])

    def _next_batch(self) -> bool:
        """Rank candidates and queue the best; return whether there are any."""
        count = len(self._usable)
        batch_size = 1 if count < _ONE_AT_A_TIME else min(_MOST_AT_ONCE, count // 10)
        rows = [] if count >= self._next_look else self._open(self._shortlist)
        is_look = not rows
        if is_look:
            rows = self._look(batch_size)
            if not rows:
                return False
        self._learn_from_all(count)
        gain_N = self._ranking.gains(self._pool.take(rows), self._generator, has_new_limits=is_look)
        ranked = np.array(rows)[np.argsort(-gain_N, kind="stable")].tolist()
        if is_look:
            self._shortlist = ranked[:_SHORTLIST]
            self._next_look = count + max(self._refit_every, count // 10)
        self._queue = ranked[:batch_size]
        return True

    def _learn_from_all(self, count: int) -> None:
        told = self._told()
        values_NL = np.array([self._split.values(self._results[trial_id].metrics) for trial_id in told])
        out = [self.architecture(trial_id) for trial_id in sorted(self._pending, key=int)]
        has_to_tune = count >= self._next_fit
        if has_to_tune:
            self._next_fit = 2 * count if count >= _TUNED_OFTEN else count + max(self._refit_every, count // 5)
        told_pool = self._pools.of(map(self.architecture, told))
        self._ranking.learn(told_pool, values_NL, self._pools.of(out), has_to_tune=has_to_tune)

    def _told(self) -> list[str]:
        """Return the evaluations that the models learn from: all of few; some of the front and the latest of many."""
        if len(self._usable) <= _LATEST + _FROM_FRONT:
            return self._usable
        front = self._front.trial_ids
        step = -(-len(front) // _FROM_FRONT) or 1
        return sorted({*front[::step], *self._usable[-_LATEST:]}, key=int)

    def _look(self, batch_size: int) -> list[int]:
        """Return the rows of all candidates that may be asked for, of a new sample where the space is large."""
        if self._pools.whole is None:
            parents = self._front.trial_ids or self._usable[-_SHORTLIST:]
            count = max(_SAMPLE, int(_SAMPLE_PER_ASK * batch_size))
            self._sample(count=count, parents=parents, seed=self._draw_seed())
        return self._open(np.flatnonzero(self._split.meets_known(self._pool.known_NK)).tolist())

    def _sample(self, *, count: int, parents: list[str], seed: int) -> None:
        self._sample_of = {"count": count, "parents": list(parents), "seed": seed}
        self._pool = self._pools.sample(count, [self.architecture(trial_id) for trial_id in parents], seed)

    def _open(self, rows: Sequence[int]) -> list[int]:
        """Return the rows that were not asked for."""
        return [row for row in rows if self._pool.architectures[row] not in self._known]

    def _allowed(self, pool: Pool) -> Pool:
        rows = np.flatnonzero(self._split.meets_known(pool.known_NK))
        return pool.take(rows.tolist()) if len(rows) else pool

    def _draw_seed(self) -> int:
        return int(self._generator.integers(2**63))
