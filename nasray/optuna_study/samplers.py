"""Optuna's samplers by name, seeded before each proposal so that a search can stop and go on."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, NSGAIIISampler, NSGAIISampler, RandomSampler, TPESampler

from nasray.architecture import Choice


@dataclass(frozen=True, kw_only=True)
class SamplerKind:
    """How a sampler is made.

    Args:
        make: Its class.
        has_population: Whether it works in generations of `population_size`.
        has_memory: Whether it keeps, from one proposal to the next, what the study does not hold.
    """

    make: Callable[..., BaseSampler]
    has_population: bool = False
    has_memory: bool = False


SAMPLERS: dict[str, SamplerKind] = {
    "nsga2": SamplerKind(make=NSGAIISampler, has_population=True),
    "nsga3": SamplerKind(make=NSGAIIISampler, has_population=True),
    "tpe": SamplerKind(make=TPESampler),
    "gp": SamplerKind(make=GPSampler, has_memory=True),
    "random": SamplerKind(make=RandomSampler),
}


class SeededSampler:
    """A sampler whose proposals depend on the study and a seed alone.

    Optuna's samplers keep generators that cannot be stored. Each is given a new seed before every proposal, and a
    sampler with a memory is made anew, so that a study and the seeds' generator are all there is to restore.

    Args:
        name: One of `SAMPLERS`.
        population_size: Trials of a generation; None for Optuna's default.

    Raises:
        ValueError: If the sampler is unknown, or has no population of this size.
    """

    def __init__(self, name: str, population_size: int | None) -> None:
        if name not in SAMPLERS:
            raise ValueError(f"`sampler` must be one of {', '.join(SAMPLERS)}, got {name!r}.")
        self._kind, self._options = SAMPLERS[name], dict[str, int]()
        if population_size is not None:
            if not self._kind.has_population:
                raise ValueError(f"`population_size` must be left out for {name!r}, which has none.")
            if population_size < 2:
                raise ValueError(f"`population_size` must be at least 2, got {population_size}.")
            self._options = {"population_size": population_size}
        self.reset()

    @property
    def has_population(self) -> bool:
        """Whether trials belong to generations."""
        return self._kind.has_population

    def reset(self) -> None:
        """Forget the study that was sampled from."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # NSGA-III is, to Optuna
            self._sampler = self._kind.make(**self._options)

    def seeded(self, generator: np.random.Generator) -> BaseSampler:
        """Return the sampler, ready for one proposal."""
        if self._kind.has_memory:
            self.reset()
        _seed(self._sampler, generator)
        return self._sampler


def _seed(sampler: BaseSampler, generator: np.random.Generator) -> None:
    """Seed a sampler's generator, and those of the samplers inside it."""
    for part in vars(sampler).values():
        if isinstance(part, BaseSampler):
            _seed(part, generator)
        elif isinstance(random := getattr(part, "rng", None), np.random.RandomState):
            random.seed(int(generator.integers(2**32)))


def distribution(options: Sequence[Choice]) -> BaseDistribution:
    """Return a choice as Optuna knows it: evenly spaced whole numbers with their order, all else as categories."""
    if all(type(option) is int for option in options):
        numbers = [int(option) for option in options]
        steps = {high - low for low, high in pairwise(numbers)}
        if len(steps) == 1 and min(steps) > 0:
            return IntDistribution(numbers[0], numbers[-1], step=steps.pop())
    return CategoricalDistribution(tuple(options))
