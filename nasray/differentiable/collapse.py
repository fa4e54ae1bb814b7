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
        max_share: As large a share of the cell's edges is fine.

    Raises:
        ValueError: If it is not from 0 to below 1.

    Source: Liang et al. 2019 (DARTS+), Sec. 3.2, criterion 1. Deviation: the paper stops at two skip connections of
    eight edges; DARTS_V1 has three and DARTS_V2 two, so that here half of the edges are fine by default.
    """

    max_share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.max_share < 1:
            raise ValueError(f"`max_share` must be from 0 to below 1, got {self.max_share}.")

    def has_collapsed(self, genotype: Genotype) -> bool:
        """Return whether there are too many skip connections; warn if so."""
        skips, edges = count(genotype.normal, SKIPS), sum(len(node) for node in genotype.normal)
        if skips <= self.max_share * edges:
            return False
        warnings.warn(
            f"The search collapses: {skips} of {edges} edges of the normal cell would be skip connections. "
            "Stop here, or search with more data, cutout or a lower rate.",
            CollapseWarning,
            stacklevel=2,
        )
        return True
