"""Random search under a cost limit: the baseline of every comparison."""

from __future__ import annotations

import math
from typing import cast

import numpy as np

from nasray.architecture import Architecture
from nasray.evaluation import Evaluation
from nasray.spaces.space import SearchSpace
from nasray.strategies.shrinking import CostFunction, Shrinker
from nasray.strategies.strategy import (
    PendingTrials,
    State,
    Strategy,
    Trial,
    generator_state,
    reading_state,
    restored_generator,
)


class RandomAtCost(Strategy):
    """Draw unique architectures that just meet a cost limit, by shrinking all layers in random steps.

    Drawing choices uniformly and rejecting those over the limit would leave most of the limit unused; samples that
    use it are the harder baseline.

    Args:
        space: What to search.
        cost: Cost of an architecture.
        target: Limit on the cost.
        num_samples: How many architectures to draw.
        generator: Source of randomness.

    Raises:
        ValueError: If no architecture meets the limit.
    """

    OBJECTIVE = "accuracy"

    def __init__(
        self,
        space: SearchSpace,
        cost: CostFunction,
        *,
        target: float,
        num_samples: int,
        generator: np.random.Generator,
    ) -> None:
        self._space, self._shrinker = space, Shrinker(space, cost)
        self._target, self._num_samples, self._generator = target, num_samples, generator
        smallest = self._shrinker.cost(space.smallest())
        if target < smallest:
            raise ValueError(f"`target` must be at least {smallest:.6g}, the smallest cost, got {target:.6g}.")
        self._pending = PendingTrials()

    @property
    def is_finished(self) -> bool:
        """Whether all samples are told."""
        return len(self._pending.results) >= self._num_samples

    def ask(self) -> Trial | None:
        """Return the next sample, or None when all have been asked."""
        count = len(self._pending.trials)
        if count >= self._num_samples:
            return None
        return self._pending.add(Trial(trial_id=str(count), architecture=self._draw()))

    def tell(self, trial_id: str, evaluation: Evaluation) -> None:
        """Take a sample's result."""
        self._pending.take(trial_id, evaluation, self.OBJECTIVE)

    def best(self) -> Architecture:
        """Return the most accurate architecture so far; of equals the first asked.

        Raises:
            ValueError: If no evaluation was ok.
        """
        results = self._pending.results
        ok = {key: results[key] for key in self._pending.trials if key in results and results[key].status == "ok"}
        if not ok:
            raise ValueError("No sample was evaluated with success, so there is no best one.")
        key = max(ok, key=lambda key: (ok[key].metrics[self.OBJECTIVE], -ok[key].metrics.get("loss", math.inf)))
        return self._pending.trials[key].architecture

    def state_dict(self) -> State:
        """Return the whole state as JSON."""
        return {"generator": generator_state(self._generator), "pending": self._pending.to_json()}

    @reading_state()
    def load_state_dict(self, state: State) -> None:
        """Continue from a state that `state_dict` gave."""
        pending = PendingTrials.from_json(cast(State, state["pending"]))
        for trial in pending.trials.values():
            self._space.check(trial.architecture)
        self._generator, self._pending = restored_generator(state["generator"]), pending

    def _draw(self) -> Architecture:
        known = {trial.architecture for trial in self._pending.trials.values()}
        layers = list(self._shrinker.layers)
        for _ in range(100):
            sample = self._shrinker.shrink(self._space.largest(), layers, self._target, self._generator)
            if sample is not None and sample not in known:
                return sample
        raise ValueError(
            f"The space has too few architectures within a cost of {self._target:.6g}: {len(known)} found."
        )
