"""The networks of NAS-Bench-201, built from a plan.

Tensor letters: B images, C channels, H and W height and width, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasray.spaces.cell_forms import EDGES
from nasray.spaces.cell_plan import KERNELS, CellPlan


class ReluConv(nn.Sequential):
    """ReLU, convolution without bias, batch norm."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(out_channels),
        )


class Cell(nn.Module):
    """A cell: every node after the first is the sum of what the edges from all earlier nodes bring.

    Edges with the operation "none" are left out; a node without any other edge is zero.
    """

    def __init__(self, operations: tuple[str, ...], channels: int) -> None:
        super().__init__()
        self.edges = nn.ModuleDict(
            {
                f"{source}_{node}": _operation(operation, channels)
                for (source, node), operation in zip(EDGES, operations, strict=True)
                if operation != "none"
            }
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the last node, (B, C, H, W)."""
        nodes = [x_BCHW]
        for node in (1, 2, 3):
            names = ((f"{source}_{node}", value_BCHW) for source, value_BCHW in enumerate(nodes))
            terms = [self.edges[name](value_BCHW) for name, value_BCHW in names if name in self.edges]
            nodes.append(torch.stack(terms).sum(0) if terms else torch.zeros_like(x_BCHW))
        return nodes[-1]


class Reduction(nn.Module):
    """A residual block that halves the resolution (He et al. 2016), with an average pool in its shortcut."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(ReluConv(in_channels, out_channels, 3, 2), ReluConv(out_channels, out_channels, 3))
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(2, 2, ceil_mode=True), nn.Conv2d(in_channels, out_channels, 1, bias=False)
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return (B, out_channels, H/2, W/2)."""
        y_BCHW: Tensor = self.shortcut(x_BCHW) + self.branch(x_BCHW)
        return y_BCHW


class CellNetwork(nn.Module):
    """A whole network as planned; takes (B, in_channels, resolution, resolution), gives logits (B, K).

    Has the parameters that the plan counts: a convolution that the output does not depend on is built and computed,
    as in NAS-Bench-201.

    Source: Dong and Yang 2020 (NAS-Bench-201), Sec. 2.1 and Fig. 1. Deviation: sides may be odd.
    """

    def __init__(self, plan: CellPlan) -> None:
        super().__init__()
        self.plan = plan
        channels = plan.channels
        self.stem = nn.Sequential(
            nn.Conv2d(plan.in_channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        )
        blocks: list[nn.Module] = []
        for stage_channels, _ in plan.stages:
            if stage_channels != channels:
                blocks.append(Reduction(channels, stage_channels))
            blocks += [Cell(plan.operations, stage_channels) for _ in range(plan.num_cells)]
            channels = stage_channels
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.BatchNorm2d(channels)
        self.classifier = nn.Linear(channels, plan.num_classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return logits (B, K)."""
        y_BCHW = F.relu(self.norm(self.blocks(self.stem(x_BCHW))))
        logits_BK: Tensor = self.classifier(y_BCHW.mean((2, 3)))
        return logits_BK


def _operation(operation: str, channels: int) -> nn.Module:
    if operation in KERNELS:
        return ReluConv(channels, channels, KERNELS[operation])
    if operation == "avg_pool_3x3":
        return nn.AvgPool2d(3, 1, 1, count_include_pad=False)
    return nn.Identity()
