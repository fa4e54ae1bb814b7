"""What a lookup table must hold for a network, or for all networks of a space, whatever the space."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from nasray.architecture import Architecture
from nasray.hardware.layer_key import LayerKey, network_keys, required_keys
from nasray.hardware.operations import Plan
from nasray.hardware.piece_key import PieceKey, cell_keys, chain_keys, every_cell_key
from nasray.reading import build
from nasray.spaces.cell import CellSpace
from nasray.spaces.cell_plan import CellPlan
from nasray.spaces.chain import ChainSpace
from nasray.spaces.chain_plan import ChainPlan
from nasray.spaces.mobile import MobileSpace

TableKey = LayerKey | PieceKey
PlannedSpace = MobileSpace | CellSpace | ChainSpace
"""Spaces whose architectures have a plan."""


def plan_keys(plan: Plan) -> Iterator[TableKey]:
    """Yield the keys of a network; what stands twice is yielded twice."""
    match plan:
        case CellPlan():
            yield from cell_keys(plan)
        case ChainPlan():
            yield from chain_keys(plan)
        case _:
            yield from network_keys(plan)


def space_keys(space: PlannedSpace, architectures: Sequence[Architecture] | None = None) -> list[TableKey]:
    """Return every key that networks of a space can need, sorted.

    Args:
        space: The space.
        architectures: The networks that count; `None` is all of the space.

    Raises:
        ValueError: If all chains are asked for, whose layers are too many to list.
    """
    if architectures is not None:
        return sorted({key for each in architectures for key in plan_keys(space.plan(each))})
    match space:
        case MobileSpace():
            return list(required_keys(space))
        case CellSpace():
            return list(every_cell_key(space.plan(space.largest())))
        case ChainSpace():
            raise ValueError(
                f"`architectures` must name the chains whose layers are wanted, got none for {space.name!r}: the space "
                "has too many layers to time them all. Pass a sample of it, or fit a CostPredictor."
            )


def has_finite_keys(space: PlannedSpace) -> bool:
    """Return whether a table can cover the whole space."""
    return not isinstance(space, ChainSpace)


def read_key(value: object) -> TableKey:
    """Read a key as a table's file holds it.

    Raises:
        ValueError: If it is anything else.
    """
    return build(PieceKey, value) if isinstance(value, Mapping) and "settings" in value else build(LayerKey, value)
