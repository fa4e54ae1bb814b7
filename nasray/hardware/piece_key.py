"""Entries of a latency lookup table for networks of cells and of chains: the pieces that they are put together from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from nasray.spaces.cell_forms import EDGES
from nasray.spaces.cell_plan import KERNELS, CellPlan
from nasray.spaces.chain_plan import ChainLayer, ChainPlan
from nasray.spaces.chain_slot import USED_GENES, ChainSlot

Setting = tuple[str, int | float | str | bool]

CELL_EDGES = (*KERNELS, "avg_pool_3x3")
"""Operations of an edge that compute anything."""
MAX_TERMS = 3
"""Edges that reach the last node of a cell."""


class PieceKey(NamedTuple):
    """Configuration of a piece: equal pieces of a network, or of two, share one key.

    Args:
        kind: Of a cell network: "stem", an operation of an edge, "sum" (of a node), "zeros" (a node that nothing
            reaches), "reduction", "head". Of a chain: the kind of its layer, with "chain " before it.
        in_shape: (C, H, W) or (N,) of one image.
        settings: Pairs of name and value, sorted: whatever else decides what it takes.
    """

    kind: str
    in_shape: tuple[int, ...]
    settings: tuple[Setting, ...] = ()

    def chain_layer(self) -> ChainLayer:
        """Return a layer of a chain with this configuration."""
        settings = dict(self.settings)
        has_batch_norm = bool(settings.pop("has_batch_norm"))
        slot = ChainSlot(kind=self.kind.removeprefix("chain "), **settings)  # type: ignore[arg-type]
        return ChainLayer(name="layer", slot=slot, in_shape=self.in_shape, has_batch_norm=has_batch_norm)


def cell_keys(plan: CellPlan) -> Iterator[PieceKey]:
    """Yield the pieces of a network of cells; what stands twice is yielded twice. Skip connections are free."""
    yield from _frame_keys(plan)
    for channels, size in plan.stages:
        shape = (channels, size, size)
        for _ in range(plan.num_cells):
            yield from (PieceKey(name, shape) for name in plan.operations if name in CELL_EDGES)
            yield from (node_key(shape, terms) for terms in _terms(plan.operations))


def every_cell_key(plan: CellPlan) -> list[PieceKey]:
    """Return every key that a network with other operations in this plan's cells can need, sorted."""
    keys = set(_frame_keys(plan))
    for channels, size in plan.stages:
        shape = (channels, size, size)
        keys.update(PieceKey(name, shape) for name in CELL_EDGES)
        keys.update(node_key(shape, terms) for terms in range(MAX_TERMS + 1))
    return sorted(keys)


def chain_keys(plan: ChainPlan) -> Iterator[PieceKey]:
    """Yield the layers of a chain; dropout does nothing in inference and is left out."""
    for layer in plan.layers:
        if layer.kind != "dropout":
            genes: list[Setting] = [(gene, getattr(layer.slot, gene)) for gene in USED_GENES[layer.kind]]
            settings = sorted([*genes, ("has_batch_norm", layer.has_batch_norm)])
            yield PieceKey(f"chain {layer.kind}", layer.in_shape, tuple(settings))


def node_key(shape: tuple[int, int, int], terms: int) -> PieceKey:
    """Return the key of a node of a cell with so many edges that are not none."""
    return PieceKey("sum", shape, (("terms", terms),)) if terms else PieceKey("zeros", shape)


def _frame_keys(plan: CellPlan) -> Iterator[PieceKey]:
    """Yield the pieces around the cells."""
    (before, size), *later = plan.stages
    yield PieceKey("stem", (plan.in_channels, size, size), (("channels", before),))
    for channels, half in later:
        yield PieceKey("reduction", (before, size, size), (("channels", channels),))
        before, size = channels, half
    yield PieceKey("head", (before, size, size), (("classes", plan.num_classes),))


def _terms(operations: Sequence[str]) -> Iterator[int]:
    """Yield how many edges that are not none reach each node after the first."""
    for node in (1, 2, 3):
        pairs = zip(EDGES, operations, strict=True)
        yield sum(target == node and operation != "none" for (_, target), operation in pairs)
