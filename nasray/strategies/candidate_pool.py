"""The candidates that a model may choose from, with what is known of them before training.

Array letters: N candidates, P choices, K known metrics, D features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nasray.architecture import Architecture
from nasray.spaces.space import SearchSpace
from nasray.strategies.candidate_search import ENUMERATED
from nasray.strategies.encoding import Array, ChoiceEncoder, Codes, CountScale, KnownScale
from nasray.strategies.variation import crossover, mutate

KnownMetrics = Callable[[Architecture], Mapping[str, float] | None]
"""Gives the metrics of an architecture that need no training; None if it cannot be built."""

SAMPLED = 500
"""Random architectures of a larger space, by which features are scaled."""

_RANDOM_SHARE = 8
_Row = tuple[Codes, Array]


@dataclass(frozen=True)
class Pool:
    """Candidates as arrays.

    Args:
        architectures: N of them.
        codes_NP: Numbers of their options.
        known_NK: Known metrics as they are.
        features_ND: The known metrics on a common scale, then counts of options.
    """

    architectures: Sequence[Architecture]
    codes_NP: Codes
    known_NK: Array
    features_ND: Array

    def take(self, rows: Sequence[int]) -> Pool:
        """Return some of the candidates."""
        chosen = np.asarray(rows, dtype=np.intp)
        architectures = [self.architectures[row] for row in rows]
        return Pool(architectures, self.codes_NP[chosen], self.known_NK[chosen], self.features_ND[chosen])

    def joined(self, other: Pool) -> Pool:
        """Return these candidates and then others."""
        return Pool(
            [*self.architectures, *other.architectures],
            np.vstack([self.codes_NP, other.codes_NP]),
            np.vstack([self.known_NK, other.known_NK]),
            np.vstack([self.features_ND, other.features_ND]),
        )


class CandidatePool:
    """Makes pools: the whole space where it is small, else random candidates and variations of good ones.

    Known metrics are asked for once for each architecture that one of the last two samples held or that was asked for
    since.

    Args:
        space: What to search.
        known: Known metrics.
    """

    def __init__(self, space: SearchSpace, known: KnownMetrics) -> None:
        self._space, self._known = space, known
        self.encoder = ChoiceEncoder(space)
        every = space.enumerate(ENUMERATED)
        sample = every or [space.random(np.random.default_rng(seed)) for seed in range(SAMPLED)]
        rows = [(each, metrics) for each in sample if (metrics := self._known_of(each)) is not None]
        if not rows:
            raise ValueError(f"`known` must give metrics for some architecture of {space.name}, got none.")
        self.names = tuple(rows[0][1])
        architectures = [architecture for architecture, _ in rows]
        codes_NP, known_NK = self.encoder.codes(architectures), self._values([metrics for _, metrics in rows])
        self._scale, self._count_scale = KnownScale(known_NK), CountScale(self.encoder.counts(codes_NP))
        self.whole = self._pool(architectures, codes_NP, known_NK) if every is not None else None
        self._row_of = {architecture: row for row, architecture in enumerate(architectures)} if self.whole else {}
        self._recent: dict[Architecture, _Row | None] = {}
        self._older: dict[Architecture, _Row | None] = {}

    @property
    def num_features(self) -> int:
        """Features of an architecture: its known metrics, and counts of options."""
        return self._features(np.zeros((1, len(self.encoder.slots)), dtype=np.intp), np.ones((1, len(self.names)))).size

    def of(self, architectures: Iterable[Architecture]) -> Pool:
        """Return given architectures as a pool; those that cannot be built are left out."""
        if self.whole is not None:
            return self.whole.take([self._row_of[a] for a in architectures if a in self._row_of])
        wanted = list(architectures)
        self._look_up([a for a in wanted if not self._is_recent(a)])
        rows = [(a, row) for a in wanted if (row := self._recent[a]) is not None]
        num_choices, num_known = len(self.encoder.slots), len(self.names)
        codes_NP = np.array([codes for _, (codes, _) in rows], dtype=np.intp).reshape(len(rows), num_choices)
        known_NK = np.array([known for _, (_, known) in rows]).reshape(len(rows), num_known)
        return self._pool([a for a, _ in rows], codes_NP, known_NK)

    def sample(self, count: int, parents: Sequence[Architecture], seed: int) -> Pool:
        """Return at most so many candidates: mutants or children of the parents, and random ones, an eighth at least.

        Those that cannot be built are left out. The same arguments give the same candidates.
        """
        self._recent, self._older = {}, self._recent
        generator = np.random.default_rng(seed)
        num_random = count // _RANDOM_SHARE if parents else count
        drawn = [self._space.random(generator) for _ in range(num_random)]
        for _ in range(count - num_random):
            first, second = (parents[int(number)] for number in generator.integers(len(parents), size=2))
            is_child = generator.random() < 0.5
            drawn.append(
                crossover(self._space, first, second, generator)
                if is_child
                else mutate(self._space, first, generator, changes=1.5)
            )
        return self.of(dict.fromkeys(drawn))

    def _is_recent(self, architecture: Architecture) -> bool:
        if architecture in self._recent:
            return True
        if architecture not in self._older:
            return False
        self._recent[architecture] = self._older[architecture]
        return True

    def _look_up(self, architectures: Sequence[Architecture]) -> None:
        """Ask for the known metrics of architectures."""
        for architecture, codes_P in zip(architectures, self.encoder.codes(architectures), strict=True):
            metrics = self._known_of(architecture)
            self._recent[architecture] = None if metrics is None else (codes_P, self._values([metrics])[0])

    def _known_of(self, architecture: Architecture) -> Mapping[str, float] | None:
        """Return the known metrics of an architecture.

        Raises:
            ValueError: If one is no finite number.
        """
        metrics = self._known(architecture)
        for name, value in (metrics or {}).items():
            if not math.isfinite(value):
                choices = dict(architecture.items)
                raise ValueError(f"`known` must give finite numbers, got {name} = {value} for {choices}. None vetoes.")
        return metrics

    def _values(self, metrics: Sequence[Mapping[str, float]]) -> Array:
        rows = [[row[name] for name in self.names] for row in metrics]
        return np.array(rows, dtype=float).reshape(len(rows), len(self.names))

    def _pool(self, architectures: Sequence[Architecture], codes_NP: Codes, known_NK: Array) -> Pool:
        return Pool(architectures, codes_NP, known_NK, self._features(codes_NP, known_NK))

    def _features(self, codes_NP: Codes, known_NK: Array) -> Array:
        return np.hstack([self._scale(known_NK), self._count_scale(self.encoder.counts(codes_NP))])


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
    num_known = pool.known_NK.shape[1]
    codes, features = pool.codes_NP[sample], pool.features_ND[sample, :num_known]
    nearest = np.full(len(sample), np.inf)
    for number in range(count):
        if number < len(chosen):
            row = chosen[number]
        else:
            row = int(sample[nearest.argmax()])
            chosen.append(row)
        apart = np.zeros(len(sample))
        if num_known:
            apart = 0.15 * np.abs(features - pool.features_ND[row, :num_known]).mean(axis=1)
        nearest = np.minimum(nearest, (codes != pool.codes_NP[row]).mean(axis=1) + apart)
    return [pool.architectures[row] for row in chosen[:count]]
