"""The contract of a search strategy: ask for a candidate, tell what came of it."""

from __future__ import annotations

import abc
from dataclasses import dataclass

import numpy as np

from nasray.architecture import Architecture
from nasray.evaluation import Evaluation

State = dict[str, object]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A candidate that a strategy wants evaluated.

    Args:
        trial_id: Unique in the strategy.
        architecture: The candidate.
    """

    trial_id: str
    architecture: Architecture


class Strategy(abc.ABC):
    """Ask/tell search. Results may arrive in any order; the same seed gives the same sequence.

    Resuming from `state_dict` equals never having stopped: the state is JSON and holds the generator's too.
    """

    @abc.abstractmethod
    def ask(self) -> Trial | None:
        """Return the next candidate, or None to wait for results (or for ever, when `is_finished`)."""

    @abc.abstractmethod
    def tell(self, trial_id: str, evaluation: Evaluation) -> None:
        """Take the result of a candidate that was asked for.

        Raises:
            ValueError: If the id is unknown or was told before, or an ok evaluation lacks the objective.
        """

    @property
    @abc.abstractmethod
    def is_finished(self) -> bool:
        """Whether there is nothing left to ask."""

    @abc.abstractmethod
    def state_dict(self) -> State:
        """Return the whole state as JSON."""

    @abc.abstractmethod
    def load_state_dict(self, state: State) -> None:
        """Continue from a state that `state_dict` gave."""


class PendingTrials:
    """Which candidates are out, and what came of those that are back."""

    def __init__(self) -> None:
        self.trials: dict[str, Trial] = {}
        self.results: dict[str, Evaluation] = {}

    def add(self, trial: Trial) -> Trial:
        """Note a candidate as asked."""
        self.trials[trial.trial_id] = trial
        return trial

    def take(self, trial_id: str, evaluation: Evaluation, objective: str) -> None:
        """Note a result.

        Raises:
            ValueError: If the id is unknown, told twice, or the objective is missing.
        """
        if trial_id not in self.trials:
            raise ValueError(f"`trial_id` must be one that was asked, got {trial_id!r}.")
        if trial_id in self.results:
            raise ValueError(f"`trial_id` {trial_id!r} was told before; every result counts once.")
        if evaluation.status == "ok" and objective not in evaluation.metrics:
            raise ValueError(f"`evaluation` of {trial_id!r} must have the metric {objective!r}, got none.")
        self.results[trial_id] = evaluation

    @property
    def is_complete(self) -> bool:
        """Whether every candidate that was asked is back."""
        return len(self.results) == len(self.trials)

    def to_json(self) -> State:
        """Return trials and results as JSON."""
        return {
            "trials": {key: trial.architecture.to_json() for key, trial in self.trials.items()},
            "results": {key: result.to_json() for key, result in self.results.items()},
        }

    @classmethod
    def from_json(cls, state: State) -> PendingTrials:
        """Read what `to_json` gave."""
        pending = cls()
        trials, results = state["trials"], state["results"]
        assert isinstance(trials, dict)
        assert isinstance(results, dict)
        for key, value in trials.items():
            pending.add(Trial(trial_id=key, architecture=Architecture.from_json(value)))
        pending.results = {key: Evaluation(**value) for key, value in results.items()}
        return pending


def generator_state(generator: np.random.Generator) -> State:
    """Return the state of a generator as JSON."""
    return dict(generator.bit_generator.state)


def restored_generator(state: State) -> np.random.Generator:
    """Return a generator that goes on where `generator_state` was taken."""
    generator = np.random.default_rng()
    generator.bit_generator.state = state
    return generator
