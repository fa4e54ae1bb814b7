"""Genotypes: which operation joins which nodes of the two cells that a network is stacked from.

A cell has two inputs, nodes 0 and 1, and intermediate nodes 2, 3, ...; each of these is the sum of two operations on
two different earlier nodes, and the cell's output is the concatenation of all intermediate nodes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from nasray.reading import read_json, short

OPERATIONS = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
"""Candidate operations of an edge, in the order of DARTS's `PRIMITIVES`: the columns of its architecture weights."""

OPERATIONS_BY_COST = (
    "none",
    "skip_connect",
    "avg_pool_3x3",
    "max_pool_3x3",
    "dil_conv_3x3",
    "dil_conv_5x5",
    "sep_conv_3x3",
    "sep_conv_5x5",
)
"""The same operations from the cheapest to the dearest."""

NUM_INPUTS = 2
"""Nodes 0 and 1 of a cell are its inputs; every intermediate node has as many incoming edges."""

NODE_COUNTS = (2, 4)
"""Intermediate nodes that a cell may have."""

_SCHEMA_VERSION = 1


class Edge(NamedTuple):
    """An operation on an earlier node of the cell."""

    operation: str
    source: int


CellEdges = tuple[tuple[Edge, Edge], ...]
"""The two incoming edges of each intermediate node, the one with the smaller source first."""


def cell_edges(num_nodes: int) -> tuple[tuple[int, int], ...]:
    """Return every edge that a cell could have as (source, target): the rows of the architecture weights.

    Targets ascend, and sources within a target: DARTS's order. A cell of 4 nodes has 14, one of 2 nodes has 5.
    """
    return tuple((source, target) for target in range(NUM_INPUTS, NUM_INPUTS + num_nodes) for source in range(target))


@dataclass(frozen=True)
class Genotype:
    """The normal cell and the reduction cell.

    Args:
        normal: Edges of the cell that keeps the resolution.
        reduce: Edges of the cell that halves it; operations on its two inputs have stride 2.

    Raises:
        ValueError: If a cell has another number of nodes than the other or than offered, or an edge comes from a
            node that is not earlier, or an operation is unknown, or a node's sources are not in ascending order.

    Source: Liu et al. 2019 (DARTS), Sec. 2.1 and 2.4. Deviation: none.
    """

    normal: CellEdges
    reduce: CellEdges

    def __post_init__(self) -> None:
        for name in ("normal", "reduce"):
            _check_cell(name, getattr(self, name))
        if len(self.normal) != len(self.reduce):
            raise ValueError(
                f"`reduce` must have as many nodes as `normal`, got {len(self.reduce)} and {len(self.normal)}."
            )

    @property
    def num_nodes(self) -> int:
        """Intermediate nodes of a cell."""
        return len(self.normal)

    def cell(self, *, is_reduction: bool) -> CellEdges:
        """Return the edges of one of the two cells."""
        return self.reduce if is_reduction else self.normal

    @classmethod
    def of(cls, normal: Sequence[tuple[str, int]], reduce: Sequence[tuple[str, int]]) -> Genotype:
        """Build a genotype from DARTS's notation: a flat list of (operation, source), two for each node, in any order.

        Raises:
            ValueError: If a list is not a cell.
        """
        return cls(_pairs("normal", normal), _pairs("reduce", reduce))

    def to_json(self) -> dict[str, object]:
        """Return `{"schema_version": 1, "normal": [[[operation, source], ...], ...], "reduce": ...}`."""
        cells = {
            name: [[list(edge) for edge in node] for node in cell]
            for name, cell in (("normal", self.normal), ("reduce", self.reduce))
        }
        return {"schema_version": _SCHEMA_VERSION, **cells}

    @classmethod
    def from_json(cls, value: object) -> Genotype:
        """Read what `to_json` gave.

        Raises:
            ValueError: If `value` is anything else.
        """
        if not isinstance(value, Mapping) or set(value) != {"schema_version", "normal", "reduce"}:
            raise ValueError(
                'A genotype must be a JSON object {"schema_version": ..., "normal": [...], "reduce": [...]}, '
                f"got {short(value)}."
            )
        if value["schema_version"] != _SCHEMA_VERSION:
            raise ValueError(f"`schema_version` must be {_SCHEMA_VERSION}, got {short(value['schema_version'])}.")
        return cls(_read_cell("normal", value["normal"]), _read_cell("reduce", value["reduce"]))

    def save(self, path: Path) -> None:
        """Write the genotype as a JSON file."""
        path.write_text(json.dumps(self.to_json(), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Genotype:
        """Read a file that `save` wrote.

        Raises:
            ValueError: If the file cannot be read or holds something else.
        """
        try:
            return cls.from_json(read_json(path))
        except (OSError, ValueError) as error:
            raise ValueError(f"{path} must hold a genotype, got: {error} Write it with Genotype.save.") from error


def _check_cell(name: str, cell: CellEdges) -> None:
    if len(cell) not in NODE_COUNTS:
        raise ValueError(f"`{name}` must have {' or '.join(map(str, NODE_COUNTS))} nodes, got {len(cell)}.")
    for node, edges in enumerate(cell, start=NUM_INPUTS):
        for edge in edges:
            if edge.operation not in OPERATIONS:
                raise ValueError(
                    f"Node {node} of `{name}` must use one of {', '.join(OPERATIONS)}, got {short(edge.operation)}."
                )
        sources = [edge.source for edge in edges]
        if len(sources) != NUM_INPUTS or not 0 <= sources[0] < sources[1] < node:
            raise ValueError(
                f"Node {node} of `{name}` must have two different sources in ascending order, each from 0 to "
                f"{node - 1}, got {sources}."
            )


def _pairs(name: str, edges: Sequence[tuple[str, int]]) -> CellEdges:
    if len(edges) % NUM_INPUTS:
        raise ValueError(f"`{name}` must list two edges for each node, got {len(edges)} edges.")
    found = [Edge(operation, source) for operation, source in edges]
    ordered = (sorted(found[i : i + 2], key=lambda edge: edge.source) for i in range(0, len(found), 2))
    return tuple((first, second) for first, second in ordered)


def _read_cell(name: str, value: object) -> CellEdges:
    """Check types and lengths; what the numbers and names mean is checked by the genotype itself."""
    if not isinstance(value, list):
        raise ValueError(f"`{name}` must be a list with the edges of each node, got {short(value)}.")
    nodes = []
    for node in value:
        if not isinstance(node, list) or len(node) != NUM_INPUTS:
            raise ValueError(f"A node of `{name}` must be a list of two edges, got {short(node)}.")
        first, second = (_read_edge(name, edge) for edge in node)
        nodes.append((first, second))
    return tuple(nodes)


def _read_edge(name: str, value: object) -> Edge:
    match value:
        case [str(operation), int(source)] if not isinstance(source, bool):
            return Edge(operation, source)
        case _:
            raise ValueError(f'An edge of `{name}` must look like ["sep_conv_3x3", 0], got {short(value)}.')


DARTS_V1 = Genotype.of(
    normal=[
        ("sep_conv_3x3", 1), ("sep_conv_3x3", 0), ("skip_connect", 0), ("sep_conv_3x3", 1),
        ("skip_connect", 0), ("sep_conv_3x3", 1), ("sep_conv_3x3", 0), ("skip_connect", 2),
    ],
    reduce=[
        ("max_pool_3x3", 0), ("max_pool_3x3", 1), ("skip_connect", 2), ("max_pool_3x3", 0),
        ("max_pool_3x3", 0), ("skip_connect", 2), ("skip_connect", 2), ("avg_pool_3x3", 0),
    ],
)  # fmt: skip
"""Found by first-order DARTS on CIFAR-10 (Liu et al. 2019)."""

DARTS_V2 = Genotype.of(
    normal=[
        ("sep_conv_3x3", 0), ("sep_conv_3x3", 1), ("sep_conv_3x3", 0), ("sep_conv_3x3", 1),
        ("sep_conv_3x3", 1), ("skip_connect", 0), ("skip_connect", 0), ("dil_conv_3x3", 2),
    ],
    reduce=[
        ("max_pool_3x3", 0), ("max_pool_3x3", 1), ("skip_connect", 2), ("max_pool_3x3", 1),
        ("max_pool_3x3", 0), ("skip_connect", 2), ("skip_connect", 2), ("max_pool_3x3", 1),
    ],
)  # fmt: skip
"""Found by second-order DARTS on CIFAR-10 (Liu et al. 2019, Fig. 4 and 5)."""
