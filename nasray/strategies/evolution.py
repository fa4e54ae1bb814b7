"""Asynchronous evolution: a child for every free worker, no generations."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from nasray.architecture import Architecture
from nasray.formulations import Formulation
from nasray.spaces.space import SearchSpace
from nasray.strategies.candidate_search import Candidate, CandidateSearch
from nasray.strategies.variation import crossover, mutate


class AsynchronousEvolution(CandidateSearch):
    """Steady-state genetic algorithm: parents come from whatever is known when a worker asks.

    Nothing waits: while results are out, others are asked for, so that a slow or dead candidate holds up nobody. The
    first `population_size` candidates are random; then each child has parents that won a tournament. A result joins
    the population, and the worst (or, with ageing, the oldest) leaves it. With the single objective accuracy this is
    MENNDL's own search; with several, candidates are ranked as the formulation says.

    Args:
        space: What to search.
        formulation: What is better.
        num_evaluations: How many candidates to ask for.
        generator: Source of randomness.
        population_size: Candidates that may become parents.
        tournament_size: Candidates of whom the best becomes a parent.
        crossover_share: Share of children with two parents; all children are mutated.
        mutations: Mean number of choices that a mutation changes.
        has_ageing: Whether the oldest leaves the population instead of the worst.
        initial: Architectures to evaluate first.

    Raises:
        ValueError: If a number is out of its range.

    Source: Young et al. 2019 (MENNDL), Sec. III (asynchronous GA, master and workers); ageing: Real et al. 2019,
    Sec. 3. Deviation: MENNDL tells neither its operators nor its rates; these are ours.
    """

    def __init__(
        self,
        space: SearchSpace,
        formulation: Formulation,
        *,
        num_evaluations: int,
        generator: np.random.Generator,
        population_size: int = 20,
        tournament_size: int = 5,
        crossover_share: float = 0.5,
        mutations: float = 1.2,
        has_ageing: bool = False,
        initial: Sequence[Architecture] = (),
    ) -> None:
        super().__init__(space, formulation, num_evaluations=num_evaluations, generator=generator, initial=initial)
        if population_size < 2 or not 1 <= tournament_size <= population_size:
            raise ValueError(
                "`population_size` must be at least 2 and `tournament_size` between 1 and it, got "
                f"{population_size} and {tournament_size}."
            )
        if not 0 <= crossover_share <= 1 or not mutations >= 1:
            raise ValueError(
                "`crossover_share` must be between 0 and 1 and `mutations` at least 1, got "
                f"{crossover_share} and {mutations}."
            )
        self._population_size, self._tournament_size = population_size, tournament_size
        self._crossover_share, self._mutations, self._has_ageing = crossover_share, mutations, has_ageing
        self._population: deque[Candidate] = deque()
        self._places: npt.NDArray[np.intp] = np.empty(0, dtype=np.intp)

    def _propose(self) -> Architecture:
        if len(self._asked) < self._population_size or len(self._population) < 2:
            return self.space.random(self._generator)
        child = self._parent()
        if self._generator.random() < self._crossover_share:
            child = crossover(self.space, child, self._parent(), self._generator)
        return mutate(self.space, child, self._generator, changes=self._mutations)

    def _learn(self, trial_id: str, candidate: Candidate | None) -> None:
        if candidate is None:
            return
        self._population.append(candidate)
        if len(self._population) > self._population_size:
            if self._has_ageing:
                self._population.popleft()
            else:
                del self._population[self._order()[-1]]
        self._places = np.argsort(self._order())

    def _forget(self) -> None:
        self._population.clear()

    def _parent(self) -> Architecture:
        rivals = self._generator.integers(len(self._population), size=self._tournament_size)
        return self._population[rivals[self._places[rivals].argmin()]].architecture

    def _order(self) -> npt.NDArray[np.intp]:
        values_NM = np.stack([candidate.values_M for candidate in self._population])
        violations_N = np.array([candidate.violation for candidate in self._population])
        # Not the search's own generator: what is learned must be the same when results are told again on resume.
        weighting = np.random.default_rng(len(self._results))
        return self.formulation.order(values_NM, violations_N, weighting)
