"""The contract of a search space: named choices with finite, ordered options."""

from __future__ import annotations

import abc
import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np

from nasray.architecture import Architecture, Choice
from nasray.reading import short


class SearchSpace(abc.ABC):
    """What can be searched. Knows no weights, no data and no torch.

    A choice's options are ordered from smallest to largest, so that a method can shrink a network without knowing
    what the choice means.
    """

    name: str

    @property
    @abc.abstractmethod
    def choices(self) -> Mapping[str, tuple[Choice, ...]]:
        """Options of each choice, in ascending order."""

    def canonical(self, choices: Mapping[str, Choice]) -> Architecture:
        """Return the one architecture that stands for these choices.

        Raises:
            ValueError: If a choice is missing, unknown, or not among its options.
        """
        if unknown := sorted(set(choices) ^ set(self.choices)):
            raise ValueError(f"An architecture of {self.name} must name each of its choices, mismatch: {unknown[:3]}.")
        spelled: dict[str, Choice] = {}
        for name, options in self.choices.items():
            if choices[name] not in options:
                raise ValueError(f"`{name}` must be one of {options}, got {short(choices[name])}.")
            spelled[name] = options[options.index(choices[name])]  # 8.0 is 8
        return Architecture.of(self.name, spelled)

    def check(self, architecture: Architecture) -> Architecture:
        """Return the canonical form of an architecture that came from outside.

        Raises:
            ValueError: If it belongs to another space or makes a choice that is not offered.
        """
        if architecture.space != self.name:
            raise ValueError(f"`architecture` must belong to space {self.name!r}, got {architecture.space!r}.")
        return self.canonical(architecture.choices)

    def largest(self) -> Architecture:
        """The architecture with the last option everywhere."""
        return self.canonical({name: options[-1] for name, options in self.choices.items()})

    def smallest(self) -> Architecture:
        """The architecture with the first option everywhere."""
        return self.canonical({name: options[0] for name, options in self.choices.items()})

    def random(self, generator: np.random.Generator) -> Architecture:
        """Draw every choice uniformly and independently."""
        return self.canonical(
            {name: options[generator.integers(len(options))] for name, options in self.choices.items()}
        )

    def enumerate(self, limit: int) -> Sequence[Architecture] | None:
        """Return all architectures, each once, always in the same order; None if there are more combinations."""
        if math.prod(len(options) for options in self.choices.values()) > limit:
            return None
        combinations = itertools.product(*self.choices.values())
        every = (self.canonical(dict(zip(self.choices, row, strict=True))) for row in combinations)
        return list(dict.fromkeys(every))

    def balanced(self, count: int, generator: np.random.Generator) -> Sequence[Architecture]:
        """Draw `count` architectures in which every option of every choice stands almost equally often.

        How often two options of one choice stand (before the canonical form) differs by at most one.

        Source: Yang et al. 2021, Sec. 2.3, last paragraph ("we sample each layer width almost the same number of
        times in a forward-backward pass"). Deviation: none.
        """
        columns = {name: _balanced_column(options, count, generator) for name, options in self.choices.items()}
        return [self.canonical({name: column[row] for name, column in columns.items()}) for row in range(count)]


def _balanced_column(options: tuple[Choice, ...], count: int, generator: np.random.Generator) -> list[Choice]:
    repeats, rest = divmod(count, len(options))
    indices = np.concatenate([np.tile(np.arange(len(options)), repeats), generator.permutation(len(options))[:rest]])
    return [options[index] for index in generator.permutation(indices)]
