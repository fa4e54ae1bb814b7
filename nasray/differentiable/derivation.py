"""From a mixture to a cell: the strongest edges with their strongest operations.

Tensor letters: E edges, O operations.
"""

from __future__ import annotations

from torch import Tensor

from nasray.differentiable.relaxed_network import RelaxedNetwork
from nasray.spaces.genotype import NUM_INPUTS, OPERATIONS, CellEdges, Edge, Genotype, cell_edges

_NONE = OPERATIONS.index("none")


def derive(network: RelaxedNetwork) -> Genotype:
    """Return the genotype that the architecture parameters stand for."""
    normal, reduce = (derive_cell(mixture.probabilities().detach()) for mixture in network.mixtures)
    return Genotype(normal, reduce)


def derive_cell(weights_EO: Tensor) -> CellEdges:
    """Return, for each node, the two edges with the largest weight of an operation other than "none".

    Args:
        weights_EO: Weights of the mixture in the order of `cell_edges` and `OPERATIONS`; of equal ones the first wins.

    Source: Liu et al. 2019 (DARTS), Sec. 2.4. Deviation: none.
    """
    strengths_EO = weights_EO.clone()
    strengths_EO[:, _NONE] = -1
    best_E, choice_E = (found.tolist() for found in strengths_EO.max(dim=1))
    nodes: dict[int, list[int]] = {}
    edges = cell_edges(_num_nodes(len(weights_EO)))
    for row, (_, target) in enumerate(edges):
        nodes.setdefault(target, []).append(row)
    cell = []
    for rows in nodes.values():
        first, second = sorted(sorted(rows, key=lambda row: -best_E[row])[:NUM_INPUTS])
        cell.append(
            (Edge(OPERATIONS[choice_E[first]], edges[first][0]), Edge(OPERATIONS[choice_E[second]], edges[second][0]))
        )
    return tuple(cell)


def _num_nodes(num_edges: int) -> int:
    """Return the nodes of a cell with so many edges."""
    nodes = 0
    while len(cell_edges(nodes)) < num_edges:
        nodes += 1
    return nodes
