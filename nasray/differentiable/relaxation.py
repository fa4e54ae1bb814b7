"""From architecture parameters to the weights of operations: softmax, or samples of a Gumbel-softmax.

Tensor letters: E edges of a cell, O operations.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from nasray.spaces.genotype import OPERATIONS, CellEdges, cell_edges

Relaxation = Literal["softmax", "gumbel"]
RELAXATIONS: tuple[Relaxation, ...] = ("softmax", "gumbel")
"""Softmax as in DARTS, or in training a sample of the Gumbel-softmax at each search step."""

_INITIAL_DEVIATION = 1e-3
_CERTAIN = 1e4  # a softmax over 0 and this is exactly one-hot


class Mixture(nn.Module):
    """The architecture parameters of a kind of cell; gives the weight of each operation on each edge (E, O).

    A sample of the Gumbel-softmax holds until `draw` is called: all passes of a search step see the same one, or else
    the differences between them that the second order takes would be differences of noise.

    Attributes:
        alpha: Parameters, (E, O), in the order of `cell_edges` and `OPERATIONS`.
        temperature: Of the Gumbel-softmax; softmax has none.
        allowed: (E, O) booleans; an operation that is not allowed has the weight 0.

    Source: Liu et al. 2019 (DARTS), eq. 2; Jang et al. 2017 for the Gumbel-softmax. Deviation: none.
    """

    allowed: Tensor

    def __init__(self, num_nodes: int, *, relaxation: Relaxation = "softmax") -> None:
        super().__init__()
        self.alpha = nn.Parameter(_INITIAL_DEVIATION * torch.randn(len(cell_edges(num_nodes)), len(OPERATIONS)))
        self.relaxation, self.temperature = relaxation, 1.0
        self._noise_EO: Tensor | None = None
        self.register_buffer("allowed", torch.ones(self.alpha.shape, dtype=torch.bool))

    def forward(self, image: Tensor | None = None) -> Tensor:
        """Return the weights (E, O); each row sums to 1. The image does not matter."""
        logits_EO = self.alpha.masked_fill(~self.allowed, -torch.inf)
        if self.relaxation == "gumbel" and self.training:
            noise_EO = self.draw() if self._noise_EO is None else self._noise_EO
            return torch.softmax((logits_EO + noise_EO) / self.temperature, dim=-1)
        return torch.softmax(logits_EO, dim=-1)

    def draw(self) -> Tensor:
        """Take a new sample of the noise, (E, O), and return it."""
        self._noise_EO = -torch.empty_like(self.alpha.detach()).exponential_().log()
        return self._noise_EO

    def probabilities(self) -> Tensor:
        """Return the softmax (E, O), without noise and with gradients: what expected costs are taken over."""
        return torch.softmax(self.alpha.masked_fill(~self.allowed, -torch.inf), dim=-1)

    def forbid(self, broken_EO: Tensor) -> None:
        """Leave operations out of the mixture.

        Args:
            broken_EO: True where an operation is left out.

        Raises:
            ValueError: If an edge would have nothing left but "none", or the shape is another.
        """
        if broken_EO.shape != self.allowed.shape:
            raise ValueError(
                f"`broken_EO` must have the shape {tuple(self.allowed.shape)}, got {tuple(broken_EO.shape)}."
            )
        allowed = self.allowed & ~broken_EO.to(self.allowed.device)
        if not bool(allowed[:, [name != "none" for name in OPERATIONS]].any(dim=1).all()):
            raise ValueError("The limit must leave each edge an operation beside 'none', got none. Raise the limit.")
        self.allowed.copy_(allowed)

    @torch.no_grad()
    def set_cell(self, edges: CellEdges) -> None:
        """Make the mixture certain: the operations of a derived cell on its edges, "none" on all others."""
        chosen = {(edge.source, node): edge.operation for node, both in enumerate(edges, start=2) for edge in both}
        self.alpha.zero_()
        for row, edge in enumerate(cell_edges(len(edges))):
            self.alpha[row, OPERATIONS.index(chosen.get(edge, "none"))] = _CERTAIN
