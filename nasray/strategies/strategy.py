"""The contract of a search strategy: ask for a candidate, tell what came of it."""

from __future__ import annotations

import abc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from nasray.architecture import Architecture
from nasray.evaluation import Evaluation
from nasray.reading import build, reason, short

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
        """Continue from a state that `state_dict` gave.

        Raises:
            StateError: If the state is damaged or another strategy's.
        """


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
        """Read what `to_json` gave.

        Raises:
            ValueError: If it is something else.
        """
        pending = cls()
        saved = build(dict[str, dict[str, Any]], state)
        if set(saved) != {"trials", "results"} or not saved["results"].keys() <= saved["trials"].keys():
            raise ValueError(f"Pending trials must have `trials` and their `results`, got {', '.join(saved)}.")
        for key, value in saved["trials"].items():
            pending.add(Trial(trial_id=key, architecture=Architecture.from_json(value)))
        pending.results = {key: read_result(value) for key, value in saved["results"].items()}
        return pending


def read_result(value: object) -> Evaluation:
    """Read what `Evaluation.to_json` gave: all of it, as a result without its status would count as a good one.

    Raises:
        ValueError: If it is something else.
    """
    saved = build(dict[str, Any], value)
    if missing := sorted({"status", "metrics", "reason", "seconds"} - set(saved)):
        raise ValueError(f"An evaluation must have its {', '.join(missing)}, got {short(saved)}.")
    result = build(Evaluation, saved)
    if result.seconds < 0:
        raise ValueError(f"`seconds` of an evaluation must be 0 or more, got {result.seconds}.")
    return result


def generator_state(generator: np.random.Generator) -> State:
    """Return the state of a generator as JSON."""
    return dict(generator.bit_generator.state)


def restored_generator(state: Any) -> np.random.Generator:
    """Return a generator that goes on where `generator_state` was taken.

    Raises:
        ValueError: If it was taken of nothing that is known here.
    """
    generator = np.random.default_rng()
    try:
        generator.bit_generator.state = state
        is_same = generator_state(generator) == state
    except (TypeError, KeyError, OverflowError) as error:
        raise ValueError(f"`generator` must be the state of a NumPy generator, got {short(state)}.") from error
    if not is_same:
        raise ValueError(f"`generator` must be the state of a NumPy generator, got {short(state)}.")
    return generator


class StateError(ValueError):
    """A saved state of a strategy is damaged, or another strategy's."""


@contextmanager
def reading_state() -> Iterator[None]:
    """Turn what goes wrong when a saved state lacks a part, or has another in its place, into one sentence.

    Raises:
        StateError: If anything does.
    """
    try:
        yield
    except StateError:
        raise
    except KeyError as error:
        raise StateError(f"`state` must have {error}, got a state without it. Start the search anew.") from error
    except (ValueError, TypeError, AttributeError, IndexError) as error:
        raise StateError(
            f"`state` must be what `state_dict` gave, got another: {reason(error)}. Start the search anew."
        ) from error
