"""Watch a differentiable search for its known failure: cells in which skip connections have won."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from dataclasses import dataclass

from nasray.spaces.genotype import CellEdges, Genotype


class CollapseWarning(UserWarning):
    """Skip connections dominate the normal cell that a search would derive now."""


SKIPS, POOLINGS = ("skip_connect",), ("max_pool_3x3", "avg_pool_3x3")
"""Operations without weights, which learn fastest and so tend to win."""


def count(cell: CellEdges, operations: Collection[str]) -> int:
    """Return how many edges of a cell are one of these operations."""
    return sum(edge.operation in operations for node in cell for edge in node)


@dataclass(frozen=True, kw_only=True)
class CollapseMonitor:
    """Counts the skip connections of the derived normal cell.

    Args:
        max_skips: As many are fine.

    Raises:
        ValueError: If it is negative.

    Source: Liang et al. 2019 (DARTS+), Sec. 3.2, criterion 1. Deviation: the paper stops at two; DARTS_V2 has two, so
    that here a third is the first sign by default.
    """

    max_skips: int = 2

    def __post_init__(self) -> None:
        if self.max_skips < 0:
            raise ValueError(f"`max_skips` must be at least 0, got {self.max_skips}.")

    def has_collapsed(self, genotype: Genotype) -> bool:
        """Return whether there are too many skip connections; warn if so."""
        skips = count(genotype.normal, SKIPS)
        if skips <= self.max_skips:
            return False
        edges = sum(len(node) for node in genotype.normal)
        warnings.warn(
            f"The search collapses: {skips} of {edges} edges of the normal cell would be skip connections, more than "
            f"{self.max_skips}. Stop here, or search with more data, cutout or a lower rate.",
            CollapseWarning,
            stacklevel=2,
        )
        return True
