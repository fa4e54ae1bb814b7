"""The modules behind the pieces of a lookup table for networks of cells and of chains.

Tensor letters: B images, C channels, H and W height and width, K classes, T terms.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasray.hardware.piece_key import PieceKey
from nasray.models.cell_network import Reduction, ReluConv
from nasray.models.chain_network import build_layer
from nasray.spaces.cell_plan import KERNELS


class NodeSum(nn.Module):
    """What a node of a cell does with the maps that reach it.

    Args:
        num_terms: How many do.
    """

    def __init__(self, num_terms: int) -> None:
        super().__init__()
        self.num_terms = num_terms

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the sum of as many maps as there are terms, (B, C, H, W)."""
        return torch.stack([x_BCHW] * self.num_terms).sum(0) if self.num_terms else torch.zeros_like(x_BCHW)


class CellHead(nn.Module):
    """Batch norm, ReLU, global average and classifier, as at the end of a `CellNetwork`."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return logits (B, K)."""
        logits_BK: Tensor = self.classifier(F.relu(self.norm(x_BCHW)).mean((2, 3)))
        return logits_BK


def build_piece(key: PieceKey) -> nn.Module:
    """Return a piece with fresh weights; its input is of the key's shape, batch first.

    Raises:
        ValueError: If there is no piece of this kind.
    """
    settings, channels = dict(key.settings), key.in_shape[0]
    if key.kind.startswith("chain "):
        return build_layer(key.chain_layer())
    if key.kind in KERNELS:
        return ReluConv(channels, channels, KERNELS[key.kind])
    match key.kind:
        case "stem":
            filters = int(settings["channels"])
            return nn.Sequential(nn.Conv2d(channels, filters, 3, padding=1, bias=False), nn.BatchNorm2d(filters))
        case "reduction":
            return Reduction(channels, int(settings["channels"]))
        case "avg_pool_3x3":
            return nn.AvgPool2d(3, 1, 1, count_include_pad=False)
        case "sum":
            return NodeSum(int(settings["terms"]))
        case "zeros":
            return NodeSum(0)
        case "head":
            return CellHead(channels, int(settings["classes"]))
        case _:
            raise ValueError(f"`kind` must be that of a piece of a cell network or a chain, got {key.kind!r}.")
