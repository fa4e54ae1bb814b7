"""Mutation and crossover of architectures of any space."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nasray.architecture import Architecture, Choice
from nasray.spaces.space import SearchSpace


def mutate(
    space: SearchSpace, architecture: Architecture, generator: np.random.Generator, *, changes: float = 1.0
) -> Architecture:
    """Change some choices of an architecture: to the next smaller or larger option, or to any other, equally often.

    A change without effect (of a choice that the network does not use) does not count: ever more choices are changed
    until the canonical architecture is another one.

    Args:
        space: Of the architecture.
        architecture: What to start from.
        generator: Source of randomness.
        changes: Mean number of choices to change; at least one is.

    Returns:
        Another architecture, or the same one if a thousand changes had no effect.
    """
    names = list(space.choices)
    choices = dict(architecture.choices)
    num_changes = 1 + generator.poisson(max(0.0, changes - 1.0))
    for attempt in range(10):
        # In spaces where most choices have no effect, trying one at a time would take longer than all the rest.
        for _ in range(num_changes << attempt):
            name = names[generator.integers(len(names))]
            choices[name] = _other(space.choices[name], choices[name], generator)
        mutant = space.canonical(choices)
        if mutant != architecture:
            return mutant
    return architecture


def crossover(
    space: SearchSpace, first: Architecture, second: Architecture, generator: np.random.Generator
) -> Architecture:
    """Mix two architectures: a run of neighbouring choices of the one between those of the other, or each by lot.

    Both ways are taken equally often; runs keep together what stands together, such as the genes of a layer.
    """
    names = list(space.choices)
    if generator.random() < 0.5:
        start, end = sorted(generator.integers(len(names) + 1, size=2).tolist())
        is_second = [start <= place < end for place in range(len(names))]
    else:
        is_second = (generator.random(len(names)) < 0.5).tolist()
    parents = (first.choices, second.choices)
    return space.canonical({name: parents[taken][name] for name, taken in zip(names, is_second, strict=True)})


def _other(options: Sequence[Choice], current: Choice, generator: np.random.Generator) -> Choice:
    if len(options) == 1:
        return current
    place = options.index(current)
    if generator.random() < 0.5:
        neighbours = [other for other in (place - 1, place + 1) if 0 <= other < len(options)]
        return options[neighbours[generator.integers(len(neighbours))]]
    return options[(place + int(generator.integers(1, len(options)))) % len(options)]
