"""The candidates that a model may choose from, with what is known of them before training.

Array letters: N candidates, K known metrics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nasray.architecture import Architecture
from nasray.search.candidate_search import ENUMERATED
from nasray.search.encoding import Array, ChoiceEncoder, Codes, KnownScale
from nasray.search.variation import crossover, mutate
from nasray.spaces.space import SearchSpace

KnownMetrics = Callable[[Architecture], Mapping[str, float] | None]
"""Gives the metrics of an architecture that need no training; None if it cannot be built."""

_NUM_RANDOM, _NUM_VARIED = 600, 1_000


@dataclass(frozen=True)
class Pool:
    """Candidates as arrays.

    Args:
        architectures: N of them.
        codes_NP: Numbers of their options.
        known_NK: Known metrics as they are.
        features_NK: The same on a common scale.
    """

    architectures: Sequence[Architecture]
    codes_NP: Codes
    known_NK: Array
    features_NK: Array

    def take(self, rows: Sequence[int]) -> Pool:
        """Return some of the candidates."""
        chosen = np.asarray(rows, dtype=np.intp)
        architectures = [self.architectures[row] for row in rows]
        return Pool(architectures, self.codes_NP[chosen], self.known_NK[chosen], self.features_NK[chosen])


class CandidatePool:
    """Makes pools: the whole space where it is small, else random candidates and variations of good ones.

    Args:
        space: What to search.
        known: Known metrics.
    """

    def __init__(self, space: SearchSpace, known: KnownMetrics) -> None:
        self._space, self._known = space, known
        self.encoder = ChoiceEncoder(space)
        every = space.enumerate(ENUMERATED)
        sample = every or [space.random(np.random.default_rng(seed)) for seed in range(500)]
        rows = [(architecture, metrics) for architecture in sample if (metrics := known(architecture)) is not None]
        if not rows:
            raise ValueError(f"`known` must give metrics for some architecture of {space.name}, got none.")
        self.names = tuple(rows[0][1])
        self._scale = KnownScale(np.array([list(metrics.values()) for _, metrics in rows], dtype=float))
        self.whole = self._pool(rows) if every is not None else None

    def of(self, architectures: Iterable[Architecture]) -> Pool:
        """Return given architectures as a pool; those that cannot be built are left out."""
        rows = [(a, metrics) for a in architectures if (metrics := self._known(a)) is not None]
        return self._pool(rows)

    def sample(self, parents: Sequence[Architecture], generator: np.random.Generator) -> Pool:
        """Return random candidates, and mutants and children of the parents."""
        drawn = [self._space.random(generator) for _ in range(_NUM_RANDOM)]
        for _ in range(_NUM_VARIED if parents else 0):
            child = parents[int(generator.integers(len(parents)))]
            if generator.random() < 0.5:
                child = crossover(self._space, child, parents[int(generator.integers(len(parents)))], generator)
            drawn.append(mutate(self._space, child, generator, changes=1.5))
        return self.of(dict.fromkeys(drawn))

    def _pool(self, rows: Sequence[tuple[Architecture, Mapping[str, float]]]) -> Pool:
        architectures = [architecture for architecture, _ in rows]
        values = [[metrics[name] for name in self.names] for _, metrics in rows]
        known_NK = np.array(values, dtype=float).reshape(len(rows), len(self.names))
        return Pool(architectures, self.encoder.codes(architectures), known_NK, self._scale(known_NK))


def spread_out(pool: Pool, count: int, generator: np.random.Generator) -> list[Architecture]:
    """Choose candidates that differ: the least in each known metric, then always the farthest from those chosen.

    Distance is the share of different choices and half the distance in known metrics; of large pools a sample of 500
    takes part.
    """
    if not pool.architectures:
        return []
    order = [int(pool.known_NK[:, k].argmin()) for k in range(pool.known_NK.shape[1])]
    chosen = list(dict.fromkeys(order or [int(generator.integers(len(pool.architectures)))]))
    sample = generator.permutation(len(pool.architectures))[:500]
    codes, features = pool.codes_NP[sample], pool.features_NK[sample]
    nearest = np.full(len(sample), np.inf)
    for number in range(count):
        if number < len(chosen):
            row = chosen[number]
        else:
            row = int(sample[nearest.argmax()])
            chosen.append(row)
        apart = np.zeros(len(sample))
        if features.shape[1]:
            apart = 0.15 * np.abs(features - pool.features_NK[row]).mean(axis=1)
        nearest = np.minimum(nearest, (codes != pool.codes_NP[row]).mean(axis=1) + apart)
    return [pool.architectures[row] for row in chosen[:count]]
