"""What is left of a batch of candidates, handed out in chunks."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nasray.architecture import Architecture
from nasray.evaluation import Evaluation

_CHUNK_S = 0.05


@dataclass
class Chunk:
    """Candidates that an evaluator has in hand, by their places."""

    indices: list[int]
    evaluator: Any
    started_s: float
    is_lost: bool = False
    is_killed: bool = False


class Work:
    """Which candidates are left, and what came of the others."""

    def __init__(self, architectures: Sequence[Architecture]) -> None:
        self.architectures = architectures
        self.results: list[Evaluation | None] = [None] * len(architectures)
        self.singly: list[int] = []
        self.deaths: Counter[int] = Counter()
        self._next, self._seconds, self._count = 0, 0.0, 0

    @property
    def is_left(self) -> bool:
        """Whether there are candidates that nobody has in hand."""
        return bool(self.singly) or self._next < len(self.architectures)

    def take(self, num_evaluators: int) -> list[int]:
        """Return the places of the candidates that the next free evaluator gets; none if none is left."""
        if self.singly:
            return [self.singly.pop(0)]
        left = len(self.architectures) - self._next
        size = min(left, _chunk_size(left, num_evaluators, self._seconds, self._count))
        self._next += size
        return list(range(self._next - size, self._next))

    def put(self, indices: Sequence[int], evaluations: Sequence[Evaluation]) -> None:
        """Take evaluations."""
        for index, evaluation in zip(indices, evaluations, strict=True):
            self.results[index] = evaluation
        self._seconds += sum(evaluation.seconds for evaluation in evaluations)
        self._count += len(evaluations)


def _chunk_size(left: int, num_evaluators: int, seconds: float, count: float) -> int:
    """Return how many of the candidates that are left the next free evaluator gets."""
    shortest = math.ceil(_CHUNK_S * count / seconds) if seconds else 1
    return max(1, shortest, left // (4 * num_evaluators))
