"""From a mixture to a cell: the strongest edges with their strongest operations.

Tensor letters: E edges, O operations.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

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
    choices_E, edges = _strongest(weights_EO)[1].tolist(), cell_edges(_num_nodes(len(weights_EO)))
    kept = [row for row, is_kept in enumerate(kept_edges(weights_EO).tolist()) if is_kept]
    chosen = [Edge(OPERATIONS[choices_E[row]], edges[row][0]) for row in kept]  # by node, two of each
    return tuple((chosen[at], chosen[at + 1]) for at in range(0, len(chosen), NUM_INPUTS))


def kept_edges(weights_EO: Tensor) -> Tensor:
    """Return which edges a derived cell keeps, (E,) booleans: two of each node."""
    best_E, edges = _strongest(weights_EO)[0].tolist(), cell_edges(_num_nodes(len(weights_EO)))
    nodes: dict[int, list[int]] = {}
    for row, (_, target) in enumerate(edges):
        nodes.setdefault(target, []).append(row)
    kept_E = torch.zeros(len(edges), dtype=torch.bool)
    for rows in nodes.values():
        kept_E[sorted(rows, key=lambda row: -best_E[row])[:NUM_INPUTS]] = True
    return kept_E.to(weights_EO.device)


def derived_weights(weights_EO: Tensor) -> Tensor:
    """Return the mixture of the derived cell, (E, O): 1 for each operation that is kept, else 0."""
    choices_E, kept_E = _strongest(weights_EO)[1], kept_edges(weights_EO)
    return nn.functional.one_hot(choices_E, weights_EO.shape[1]).to(weights_EO) * kept_E[:, None]


def _strongest(weights_EO: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest weight of an operation other than "none" on each edge, and which one it is, each (E,)."""
    strengths_EO = weights_EO.clone()
    strengths_EO[:, _NONE] = -1
    best_E, choices_E = strengths_EO.max(dim=1)
    return best_E, choices_E


def _num_nodes(num_edges: int) -> int:
    """Return the nodes of a cell with so many edges."""
    nodes = 0
    while len(cell_edges(nodes)) < num_edges:
        nodes += 1
    return nodes
