"""NetAdapt's coordinate descent: shrink the best network a little, many ways, keep the best, repeat."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np

from nasray.architecture import Architecture
from nasray.evaluation import Evaluation
from nasray.reading import build
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


@dataclass(frozen=True, kw_only=True)
class CoordinateDescentConfig:
    """Settings of coordinate descent.

    Args:
        target: Cost at which the search ends, in the cost's unit.
        mode: `multi-layer` (NetAdaptV2) or `single-layer` (NetAdaptV1).
        num_samples: J, samples per iteration; single-layer descent makes one per layer instead.
        num_layers: L, layers that a multi-layer sample may shrink.
        first_reduction: Share of the initial cost that the first iteration saves.
        decay: Factor on the reduction from one iteration to the next.

    Raises:
        ValueError: If a setting is out of range.

    Source: Yang et al. 2021, Sec. 2.4 and 4.1.1 (J = 200; latency: L = 10, 3 %; MACs: L = 15, 2.5 %; decay 0.98).
    """

    target: float
    mode: Literal["multi-layer", "single-layer"] = "multi-layer"
    num_samples: int = 200
    num_layers: int = 10
    first_reduction: float = 0.03
    decay: float = 0.98

    def __post_init__(self) -> None:
        if not self.target > 0:
            raise ValueError(f"`target` must be positive, got {self.target}.")
        if self.mode not in ("multi-layer", "single-layer"):
            raise ValueError(f"`mode` must be multi-layer or single-layer, got {self.mode!r}.")
        if self.num_samples < 1 or self.num_layers < 1:
            raise ValueError(f"J and L must be at least 1, got {self.num_samples} and {self.num_layers}.")
        if not 0 < self.first_reduction < 1:
            raise ValueError(f"`first_reduction` must be in (0, 1), got {self.first_reduction}. 0.03 is 3 %.")
        if not 0 < self.decay <= 1:
            raise ValueError(f"`decay` must be in (0, 1], got {self.decay}.")

    def num_iterations(self, initial_cost: float) -> int:
        """Return how many iterations reach the target if each saves exactly what it has to; at most 10,000."""
        cost, reduction = initial_cost, self.first_reduction * initial_cost
        for iteration in range(10_000):
            if cost <= self.target:
                return iteration
            cost, reduction = cost - reduction, reduction * self.decay
        return 10_000


@dataclass(frozen=True, kw_only=True)
class Step:
    """The best sample of one iteration (iteration 0 is the initial network)."""

    iteration: int
    budget: float
    cost: float
    accuracy: float | None
    architecture: Architecture
    num_samples: int


def _read_step(saved: Mapping[str, Any]) -> Step:
    """Read a step as `CoordinateDescent.state_dict` writes it."""
    architecture = Architecture.from_json(saved["architecture"])
    return build(Step, {**saved, "architecture": {"space": architecture.space, "items": architecture.items}})


class InfeasibleTargetError(ValueError):
    """No architecture of the space, or no schedule of reductions, reaches the target."""


class CoordinateDescent(Strategy):
    """Multi-layer or single-layer coordinate descent over any cost.

    In each iteration the budget is the best sample's cost less the iteration's reduction, never under the target.
    Samples of an iteration are unique and all meet its budget. The most accurate one is kept; ties go to the lower
    loss, then the lower cost. Each iteration is a barrier: `ask` returns None until all its samples are told.

    Args:
        space: What to search.
        cost: Cost of an architecture; any function, differentiable or not.
        config: Settings.
        generator: Source of randomness.

    Raises:
        InfeasibleTargetError: If the target is below the smallest cost, not below the initial cost, or beyond what
            the decaying reductions add up to.

    Source: Yang et al. 2021, Sec. 2.4. Deviation: the paper leaves open how much each of the L layers shrinks; here
    single steps of all L layers are shuffled and the fewest that meet the budget are taken, so a sample shrinks at
    most L layers, more only where L of them cannot save enough. Where no sample can save the reduction, it is halved
    for that iteration.
    """

    OBJECTIVE = "accuracy"

    def __init__(
        self,
        space: SearchSpace,
        cost: CostFunction,
        config: CoordinateDescentConfig,
        generator: np.random.Generator,
    ) -> None:
        self.config = config
        self._generator = generator
        self._space, self._shrinker = space, Shrinker(space, cost)
        initial = space.largest()
        self.initial_cost = self._shrinker.cost(initial)
        self._check_target(space)
        self.trajectory = [
            Step(
                iteration=0,
                budget=self.initial_cost,
                cost=self.initial_cost,
                accuracy=None,
                architecture=initial,
                num_samples=0,
            )
        ]
        self.budget = self.initial_cost
        self._pending = PendingTrials()
        self._queue: list[Trial] = []

    @property
    def iteration(self) -> int:
        """Number of the iteration whose samples are out, from 1."""
        return len(self.trajectory)

    @property
    def is_finished(self) -> bool:
        """Whether the best sample meets the target."""
        return self.trajectory[-1].cost <= self.config.target

    def cost(self, architecture: Architecture) -> float:
        """Return an architecture's cost."""
        return self._shrinker.cost(architecture)

    def ask(self) -> Trial | None:
        """Return the next sample of the iteration, or None until all are told."""
        if self.is_finished:
            return None
        if not self._pending.trials and not self._queue:
            self._queue = self._next_samples()
        return self._pending.add(self._queue.pop(0)) if self._queue else None

    def tell(self, trial_id: str, evaluation: Evaluation) -> None:
        """Take a sample's result; the last one of an iteration closes it."""
        self._pending.take(trial_id, evaluation, self.OBJECTIVE)
        if not self._queue and self._pending.is_complete:
            self._close_iteration()

    def state_dict(self) -> State:
        """Return the whole state as JSON."""
        return {
            "generator": generator_state(self._generator),
            "budget": self.budget,
            "trajectory": [vars(step) | {"architecture": step.architecture.to_json()} for step in self.trajectory],
            "pending": self._pending.to_json(),
            "queue": {trial.trial_id: trial.architecture.to_json() for trial in self._queue},
        }

    @reading_state()
    def load_state_dict(self, state: State) -> None:
        """Continue from a state that `state_dict` gave."""
        generator, budget = restored_generator(state["generator"]), build(float, state["budget"])
        trajectory = [_read_step(step) for step in build(list[dict[str, Any]], state["trajectory"])]
        pending = PendingTrials.from_json(cast(State, state["pending"]))
        waiting = build(dict[str, Any], state["queue"])
        queue = [Trial(trial_id=key, architecture=Architecture.from_json(a)) for key, a in waiting.items()]
        if not trajectory:
            raise ValueError("`trajectory` must hold the initial network at least, got nothing.")
        steps, trials = [step.architecture for step in trajectory], [*pending.trials.values(), *queue]
        for architecture in (*steps, *(trial.architecture for trial in trials)):
            self._space.check(architecture)
        self._generator, self.budget, self.trajectory = generator, budget, trajectory
        self._pending, self._queue = pending, queue

    def _check_target(self, space: SearchSpace) -> None:
        config = self.config
        smallest = self._shrinker.cost(space.smallest())
        if config.target >= self.initial_cost:
            raise InfeasibleTargetError(
                f"`target` must be below the initial network's cost of {self.initial_cost:.6g}, got "
                f"{config.target:.6g}. Lower the target."
            )
        if config.target < smallest:
            raise InfeasibleTargetError(
                f"`target` must be at least {smallest:.6g}, the smallest cost that this space reaches, got "
                f"{config.target:.6g}. Raise the target."
            )
        reach = config.first_reduction / (1 - config.decay) if config.decay < 1 else float("inf")
        if self.initial_cost * (1 - reach) > config.target:
            raise InfeasibleTargetError(
                f"The reductions ({config.first_reduction:.2%}, decaying by {config.decay}) end at "
                f"{self.initial_cost * (1 - reach):.6g}, above the target of {config.target:.6g}. "
                "Raise the first reduction or the decay."
            )

    def _next_samples(self) -> list[Trial]:
        """Make the samples of the next iteration, all within its budget."""
        best = self.trajectory[-1]
        reduction = self.config.first_reduction * self.initial_cost * self.config.decay ** (self.iteration - 1)
        samples: list[Architecture] = []
        while not samples:
            self.budget = max(self.config.target, best.cost - reduction)
            samples = self._multi_layer(best) if self.config.mode == "multi-layer" else self._single_layer(best)
            reduction /= 2
            if not samples and reduction < 1e-9 * self.initial_cost:
                raise InfeasibleTargetError(
                    f"No layer can shrink below a cost of {best.cost:.6g}; the target is {self.config.target:.6g}."
                )
        return [
            Trial(trial_id=f"{self.iteration}.{index}", architecture=sample) for index, sample in enumerate(samples)
        ]

    def _multi_layer(self, best: Step) -> list[Architecture]:
        """Draw J unique samples, each from L random layers; more layers if L of them save too little."""
        layers = self._shrinker.shrinkable(best.architecture)
        samples: dict[Architecture, None] = {}
        size, failures = min(self.config.num_layers, len(layers)), 0
        while len(samples) < self.config.num_samples and failures < 20 + self.config.num_samples:
            chosen = [layers[index] for index in self._generator.choice(len(layers), size, replace=False)]
            sample = self._shrinker.shrink(best.architecture, chosen, self.budget, self._generator)
            if sample is None or sample in samples:
                failures += 1
                size = min(size + (failures % 10 == 0 and sample is None), len(layers))
            else:
                samples[sample] = None
        return list(samples)

    def _single_layer(self, best: Step) -> list[Architecture]:
        """Make one sample from each layer that alone can save the reduction."""
        samples: dict[Architecture, None] = {}
        for layer in self._shrinker.shrinkable(best.architecture):
            sample = self._shrinker.shrink(best.architecture, [layer], self.budget, self._generator)
            if sample is not None:
                samples[sample] = None
        return list(samples)

    def _close_iteration(self) -> None:
        """Keep the best sample; with none ok, the search cannot go on."""
        results = self._pending.results
        ok = [key for key, result in results.items() if result.status == "ok"]
        if not ok:
            reasons = sorted({result.reason or "" for result in results.values()})
            raise RuntimeError(f"All {len(results)} samples of iteration {self.iteration} failed: {reasons[:3]}.")
        architectures = {key: self._pending.trials[key].architecture for key in ok}

        order = {key: number for number, key in enumerate(self._pending.trials)}

        def rank(key: str) -> tuple[float, float, float, int]:
            metrics = results[key].metrics
            loss, cost = metrics.get("loss", math.inf), self.cost(architectures[key])
            return (-metrics[self.OBJECTIVE], loss, cost, order[key])  # of equals the first asked, not told

        best = min(ok, key=rank)
        self.trajectory.append(
            Step(
                iteration=self.iteration,
                budget=self.budget,
                cost=self.cost(architectures[best]),
                accuracy=results[best].metrics[self.OBJECTIVE],
                architecture=architectures[best],
                num_samples=len(results),
            )
        )
        self._pending = PendingTrials()
