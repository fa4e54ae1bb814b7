"""Search space of MS-RANAS: the two cells that a network with several scales and early exits is stacked from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import combinations

from nasray.architecture import Architecture, Choice
from nasray.spaces.genotype import (
    DARTS_V1,
    DARTS_V2,
    NUM_INPUTS,
    OPERATIONS,
    OPERATIONS_BY_COST,
    CellEdges,
    Edge,
    Genotype,
)
from nasray.spaces.multi_scale_layout import MultiScaleSettings
from nasray.spaces.multi_scale_plan import MultiScalePlan
from nasray.spaces.space import SearchSpace

__all__ = ["DARTS_V1", "DARTS_V2", "Genotype", "MultiScaleSettings", "MultiScaleSpace", "darts_cifar", "darts_imagenet"]

_CELLS = ("normal", "reduce")
_DERIVED = tuple(operation for operation in OPERATIONS_BY_COST if operation != "none")


class MultiScaleSpace(SearchSpace):
    """All pairs of cells for one layout.

    An architecture names, for each cell and node, the two sources (such as "0+2"; node 2 has only nodes 0 and 1) and
    the operation on each, the one with the smaller source first.

    Args:
        settings: The layout, the same for all architectures.
        operations: What an edge may be, of `nasray.spaces.genotype.OPERATIONS`; without "none", as in DARTS's
            derived cells.

    Raises:
        ValueError: If an operation is unknown or stands twice, or there is none.

    Source: Cioflan and Timofte 2020 (MS-RANAS), Sec. 3; Liu et al. 2019 (DARTS), Sec. 2.4. Deviation: those of
    `MultiScaleSettings`.
    """

    name = "multi_scale"

    def __init__(self, settings: MultiScaleSettings, *, operations: Sequence[str] = _DERIVED) -> None:
        if not operations or len(set(operations)) != len(operations) or not set(operations) <= set(OPERATIONS):
            raise ValueError(f"`operations` must be different ones of {', '.join(OPERATIONS)}, got {list(operations)}.")
        self.settings = settings
        self.operations = tuple(name for name in OPERATIONS_BY_COST if name in operations)
        self._choices = dict(self._options())

    @property
    def choices(self) -> Mapping[str, tuple[Choice, ...]]:
        """Sources and operations; operations from the cheapest to the dearest."""
        return self._choices

    def genotype(self, architecture: Architecture) -> Genotype:
        """Return the cells of an architecture.

        Raises:
            ValueError: If the architecture is not of this space.
        """
        choices = self.check(architecture).choices
        return Genotype(*(self._cell(name, choices) for name in _CELLS))

    def architecture(self, genotype: Genotype) -> Architecture:
        """Return the architecture with these cells.

        Raises:
            ValueError: If the cells have another number of nodes or use an operation that is not offered.
        """
        if genotype.num_nodes != self.settings.num_nodes:
            raise ValueError(
                f"`genotype` must have {self.settings.num_nodes} nodes in a cell, got {genotype.num_nodes}."
            )
        found: dict[str, Choice] = {}
        for name, cell in zip(_CELLS, (genotype.normal, genotype.reduce), strict=True):
            for node, (first, second) in enumerate(cell, start=NUM_INPUTS):
                if node > NUM_INPUTS:
                    found[f"{name}_{node}_sources"] = f"{first.source}+{second.source}"
                found[f"{name}_{node}_first"] = first.operation
                found[f"{name}_{node}_second"] = second.operation
        return self.canonical(found)

    def plan(self, architecture: Architecture) -> MultiScalePlan:
        """Return the concrete network of an architecture, which counts its multiply-adds and parameters.

        Raises:
            ValueError: If the architecture is not of this space.
        """
        return _plan(self.genotype(architecture), self.settings)

    def _options(self) -> list[tuple[str, tuple[Choice, ...]]]:
        found: list[tuple[str, tuple[Choice, ...]]] = []
        for name in _CELLS:
            for node in range(NUM_INPUTS, NUM_INPUTS + self.settings.num_nodes):
                if node > NUM_INPUTS:
                    pairs = tuple(f"{first}+{second}" for first, second in combinations(range(node), 2))
                    found.append((f"{name}_{node}_sources", pairs))
                found += [(f"{name}_{node}_{place}", self.operations) for place in ("first", "second")]
        return found

    def _cell(self, name: str, choices: Mapping[str, Choice]) -> CellEdges:
        cell = []
        for node in range(NUM_INPUTS, NUM_INPUTS + self.settings.num_nodes):
            first, second = str(choices.get(f"{name}_{node}_sources", "0+1")).split("+")
            cell.append(
                (
                    Edge(str(choices[f"{name}_{node}_first"]), int(first)),
                    Edge(str(choices[f"{name}_{node}_second"]), int(second)),
                )
            )
        return tuple(cell)


def darts_cifar(*, num_classes: int = 10, channels: int = 36, layers: int = 20) -> MultiScaleSettings:
    """Return the layout in which DARTS trains its cells for CIFAR (Liu et al. 2019, Sec. 3.3)."""
    return MultiScaleSettings(num_classes=num_classes, channels=channels, layers=layers)


def darts_imagenet(*, num_classes: int = 1000, channels: int = 48, layers: int = 14) -> MultiScaleSettings:
    """Return the layout in which DARTS trains its cells for ImageNet at 224x224 (Liu et al. 2019, Sec. 3.3)."""
    return MultiScaleSettings(
        num_classes=num_classes, channels=channels, layers=layers, resolution=224, stem="imagenet"
    )


@lru_cache(maxsize=4096)
def _plan(genotype: Genotype, settings: MultiScaleSettings) -> MultiScalePlan:
    return MultiScalePlan(genotype=genotype, settings=settings)
