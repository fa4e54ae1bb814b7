"""What all strategies over single evaluations share: the record, the gate, warm starts and duplicates."""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nasray.architecture import Architecture
from nasray.evaluation import Evaluation
from nasray.formulations import Formulation
from nasray.reading import build
from nasray.spaces.space import SearchSpace
from nasray.strategies.architecture_codes import ArchitectureCodes
from nasray.strategies.strategy import (
    State,
    Strategy,
    Trial,
    generator_state,
    read_result,
    reading_state,
    restored_generator,
)

TRIES = 100
"""Proposals in a row that may be known already before a strategy draws at random, and then before it looks at all."""
ENUMERATED = 20_000
"""Spaces up to this size are looked at whole."""


@dataclass(frozen=True)
class Candidate:
    """An architecture whose metrics are known, so that it can be compared.

    Args:
        trial_id: Its trial.
        architecture: The network.
        values_M: Objectives to minimise.
        violation: How far constraints are broken.
    """

    trial_id: str
    architecture: Architecture
    values_M: npt.NDArray[np.float64]
    violation: float


@dataclass(frozen=True, kw_only=True)
class _SavedSearch:
    """What every state of a `CandidateSearch` holds."""

    generator: dict[str, Any]
    num_proposed: int
    is_exhausted: bool
    space: str
    asked: list[list[int]]
    results: list[tuple[str, dict[str, Any]]]


class CandidateSearch(Strategy):
    """Base of strategies that propose one new architecture at a time and never wait.

    Architectures that were proposed before are not proposed again: a duplicate costs nothing. Failed evaluations
    count, and their architectures are not tried again.

    Args:
        space: What to search.
        formulation: What is better.
        num_evaluations: How many candidates to ask for; fewer if the space has no more.
        generator: Source of randomness.
        initial: Architectures to evaluate first (a warm start), duplicates among them once.

    Raises:
        ValueError: If `num_evaluations` is not positive or an initial architecture is of another space.
    """

    def __init__(
        self,
        space: SearchSpace,
        formulation: Formulation,
        *,
        num_evaluations: int,
        generator: np.random.Generator,
        initial: Sequence[Architecture] = (),
    ) -> None:
        if num_evaluations < 1:
            raise ValueError(f"`num_evaluations` must be at least 1, got {num_evaluations}.")
        self.space, self.formulation, self.num_evaluations = space, formulation, num_evaluations
        self._codes, self._generator = ArchitectureCodes(space), generator
        self._initial = list(dict.fromkeys(space.check(architecture) for architecture in initial))
        self._asked: list[Architecture] = []
        self._known: dict[Architecture, str] = {}  # which trial each is
        self._pending: set[str] = set()
        self._results: dict[str, Evaluation] = {}
        self._is_exhausted = False
        self.num_proposed = 0

    @property
    def is_finished(self) -> bool:
        """Whether all candidates are told and no more are to come."""
        return not self._pending and (len(self._asked) >= self.num_evaluations or self._is_exhausted)

    def ask(self) -> Trial | None:
        """Return a candidate that was not asked for before, or None when all have been asked."""
        if len(self._asked) >= self.num_evaluations or self._is_exhausted:
            return None
        architecture = self._next()
        if architecture is None:
            self._is_exhausted = True
            return None
        trial = Trial(trial_id=self._take(architecture), architecture=architecture)
        self._pending.add(trial.trial_id)
        return trial

    def tell(self, trial_id: str, evaluation: Evaluation) -> None:
        """Take a result.

        Raises:
            ValueError: If the id is unknown or was told before, or an ok evaluation lacks a metric.
        """
        if trial_id in self._results:
            raise ValueError(f"`trial_id` {trial_id!r} was told before; every result counts once.")
        if trial_id not in self._pending:
            raise ValueError(f"`trial_id` must be one that was asked, got {trial_id!r}.")
        # Metrics of an ok evaluation are finite; an infeasible one may have what it got so far.
        finite = {name for name, value in evaluation.metrics.items() if math.isfinite(value)}
        missing = [name for name in self.formulation.metrics if name not in finite]
        if evaluation.status == "ok" and missing:
            raise ValueError(f"`evaluation` of {trial_id!r} must have the metrics {missing}, got none of them.")
        self._pending.remove(trial_id)
        self._results[trial_id] = evaluation
        candidate = None if evaluation.status == "failed" or missing else self._candidate(trial_id, evaluation)
        if candidate is not None and evaluation.status == "infeasible" and candidate.violation <= 0:
            candidate = None  # infeasible for a reason that no constraint tells: it must not look like a good one
        self._learn(trial_id, candidate)

    def architecture(self, trial_id: str) -> Architecture:
        """Return what was asked for under an id."""
        return self._asked[int(trial_id)]

    def result(self, architecture: Architecture) -> Evaluation | None:
        """Return what was told about an architecture; None before."""
        trial_id = self._known.get(architecture)
        return None if trial_id is None else self._results.get(trial_id)

    def state_dict(self) -> State:
        """Return the whole state as JSON."""
        return {
            "generator": generator_state(self._generator),
            "num_proposed": self.num_proposed,
            "is_exhausted": self._is_exhausted,
            "space": self._codes.digest,
            "asked": [self._codes.of(architecture) for architecture in self._asked],
            "results": [[trial_id, result.to_json()] for trial_id, result in self._results.items()],
        }

    @reading_state()
    def load_state_dict(self, state: State) -> None:
        """Continue from a state that `state_dict` gave, in a strategy that was made with the same arguments."""
        names = _SavedSearch.__dataclass_fields__
        saved = build(_SavedSearch, {name: state[name] for name in names if name in state})
        if saved.space != self._codes.digest:
            raise ValueError(f"`space` must have the choices of {self.space.name}, got another one's.")
        self._asked = [self._codes.architecture(codes) for codes in saved.asked]
        self._known = {architecture: str(number) for number, architecture in enumerate(self._asked)}
        if len(self._known) < len(self._asked):
            raise ValueError("`asked` must hold every architecture once, got one twice.")
        self._results = {}
        self._pending = {str(number) for number in range(len(self._asked))}
        self._forget()
        for trial_id, result in saved.results:
            self.tell(trial_id, read_result(result))
        self._is_exhausted, self.num_proposed = saved.is_exhausted, saved.num_proposed
        self._generator = restored_generator(saved.generator)

    @abc.abstractmethod
    def _propose(self) -> Architecture:
        """Return an architecture, whether known or not; the first are those of `initial`."""

    @abc.abstractmethod
    def _learn(self, trial_id: str, candidate: Candidate | None) -> None:
        """Take what was told; None for a candidate that failed. Must depend on nothing but what was told before."""

    @abc.abstractmethod
    def _forget(self) -> None:
        """Return to the state before the first `_learn`."""

    def _take(self, architecture: Architecture) -> str:
        """Count an architecture as asked for and return its trial's id."""
        trial_id = str(len(self._asked))
        self._asked.append(architecture)
        self._known[architecture] = trial_id
        return trial_id

    def _next(self) -> Architecture | None:
        while self._initial and len(self._asked) < len(self._initial):
            return self._initial[len(self._asked)]
        for propose in (self._propose, lambda: self.space.random(self._generator)):
            for _ in range(TRIES):
                self.num_proposed += 1
                architecture = propose()
                if architecture not in self._known and self._is_allowed(architecture):
                    return architecture
        return self._left_over()

    def _is_allowed(self, architecture: Architecture) -> bool:
        """Whether an unknown architecture may be asked for; strategies that know costs may refuse some."""
        return True

    def _left_over(self) -> Architecture | None:
        """Return one of the unknown architectures of a small space; None where there is none or the space is large."""
        every = self.space.enumerate(ENUMERATED) or ()
        left = [a for a in every if a not in self._known and self._is_allowed(a)]
        return left[int(self._generator.integers(len(left)))] if left else None

    def _candidate(self, trial_id: str, evaluation: Evaluation) -> Candidate:
        values_M = self.formulation.values(evaluation.metrics)
        violation = self.formulation.violation(evaluation.metrics)
        return Candidate(trial_id, self.architecture(trial_id), values_M, violation)
