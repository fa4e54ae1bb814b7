"""Search space of NAS-Bench-201: one of five operations on each of the six edges of a cell."""

from __future__ import annotations

import re
from collections.abc import Mapping

from nasray.architecture import Architecture, Choice
from nasray.spaces.cell_forms import (
    EDGES,
    OPERATIONS,
    cell_index,
    cell_operations,
    network_key,
    representatives,
    unique_key,
)
from nasray.spaces.cell_plan import CellPlan
from nasray.spaces.space import SearchSpace

_CHOICES = {f"edge_{source}_{target}": OPERATIONS for source, target in EDGES}
_EDGES_AS_WRITTEN = sorted(EDGES, key=lambda edge: (edge[1], edge[0]))
_TERM = re.compile(r"([a-z0-9_]+)~(\d)")


class CellSpace(SearchSpace):
    """The 15,625 cells of NAS-Bench-201, stacked to a network of three stages.

    Args:
        num_classes: Outputs of the classifier.
        in_channels: Channels of the input image.
        resolution: Side of the square input image, in pixels.
        num_cells: Cells per stage.
        channels: Channels of the first stage.
        merge_isomorphic: Whether all spellings of a network stand for the cheapest one, which leaves 5,260 of the
            15,625 cells; see `network_key`. NAS-Bench-201's own classes (`unique_key`) are not merged: some hold
            networks with different numbers of weights. `random` draws spellings uniformly, so that networks with
            many of them come more often.

    Raises:
        ValueError: If a number is not positive.

    Source: Dong and Yang 2020 (NAS-Bench-201), Sec. 2.1. Deviation: none.
    """

    name = "cell"

    def __init__(
        self,
        *,
        num_classes: int = 10,
        in_channels: int = 3,
        resolution: int = 32,
        num_cells: int = 5,
        channels: int = 16,
        merge_isomorphic: bool = True,
    ) -> None:
        self.num_classes = num_classes
        self.in_channels = in_channels
        self.resolution = resolution
        self.num_cells = num_cells
        self.channels = channels
        self.merge_isomorphic = merge_isomorphic
        self._plan((OPERATIONS[0],) * len(EDGES))

    @property
    def choices(self) -> Mapping[str, tuple[Choice, ...]]:
        """The operations of each edge, named `edge_from_to`, from the cheapest to the dearest."""
        return _CHOICES

    def canonical(self, choices: Mapping[str, Choice]) -> Architecture:
        """Return the one architecture that stands for these choices; see `merge_isomorphic`."""
        architecture = super().canonical(choices)
        if not self.merge_isomorphic:
            return architecture
        index = cell_index(_operations(architecture))
        return self._architecture(cell_operations(int(representatives()[index])))

    def plan(self, architecture: Architecture) -> CellPlan:
        """Return the concrete network of an architecture of this space, edges without effect included.

        Raises:
            ValueError: If the architecture is of another space.
        """
        return self._plan(self._own(architecture))

    def from_arch_str(self, arch_str: str) -> Architecture:
        """Return the architecture that NAS-Bench-201 writes like this, in its canonical form.

        Args:
            arch_str: Such as "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|avg_pool_3x3~2|": for each
                node after the first, the operations on the edges from each earlier node.

        Raises:
            ValueError: If it is written in any other way.
        """
        expected = "|+|".join("|".join(f"OPERATION~{source}" for source in range(node)) for node in (1, 2, 3))
        found = _TERM.findall(arch_str)
        operations = {edge: operation for edge, (operation, _) in zip(_EDGES_AS_WRITTEN, found, strict=False)}
        if len(found) != len(EDGES) or _write(operations) != arch_str.strip():
            raise ValueError(f"`arch_str` must look like '|{expected}|', got {arch_str!r}.")
        if unknown := sorted(set(operations.values()) - set(OPERATIONS)):
            raise ValueError(f"An operation of `arch_str` must be one of {', '.join(OPERATIONS)}, got {unknown[0]!r}.")
        return self.canonical({f"edge_{source}_{node}": name for (source, node), name in operations.items()})

    def to_arch_str(self, architecture: Architecture) -> str:
        """Return how NAS-Bench-201 writes an architecture.

        Raises:
            ValueError: If the architecture is of another space.
        """
        return _write(dict(zip(EDGES, self._own(architecture), strict=True)))

    def unique_key(self, architecture: Architecture) -> str:
        """Return the text that is the same for all cells that NAS-Bench-201 counts as isomorphic.

        Raises:
            ValueError: If the architecture is of another space.
        """
        return unique_key(self._own(architecture))

    def network_key(self, architecture: Architecture) -> str:
        """Return the text that is the same for all cells that are one network, which `merge_isomorphic` merges.

        Raises:
            ValueError: If the architecture is of another space.
        """
        return network_key(self._own(architecture))

    def _own(self, architecture: Architecture) -> tuple[str, ...]:
        if architecture.space != self.name:
            raise ValueError(f"`architecture` must belong to space {self.name!r}, got {architecture.space!r}.")
        return _operations(architecture)

    def _architecture(self, operations: tuple[str, ...]) -> Architecture:
        return Architecture(self.name, tuple(zip(_CHOICES, operations, strict=True)))

    def _plan(self, operations: tuple[str, ...]) -> CellPlan:
        return CellPlan(
            operations=operations,
            num_classes=self.num_classes,
            in_channels=self.in_channels,
            resolution=self.resolution,
            num_cells=self.num_cells,
            channels=self.channels,
        )


def _operations(architecture: Architecture) -> tuple[str, ...]:
    return tuple(str(architecture[name]) for name in _CHOICES)


def _write(operations: Mapping[tuple[int, int], str]) -> str:
    """Return the operations in the notation of NAS-Bench-201; an edge that is missing is left out."""
    nodes = (
        "".join(f"{operations[source, node]}~{source}|" for source in range(node) if (source, node) in operations)
        for node in (1, 2, 3)
    )
    return "+".join(f"|{node}" for node in nodes)
