"""Multi-Scale DenseNet, the hand-made network with early exits, built from its plan.

Tensor letters: B images, C channels, H and W height and width, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nasray.models.anytime import AnytimeNetwork
from nasray.models.msdnet_plan import MSDNetPlan, Part, Unit


class MSDNet(AnytimeNetwork):
    """The network of a plan; takes (B, in_channels, resolution, resolution), gives logits (B, K).

    Source: Huang et al. 2018, Sec. 4 and published CIFAR code. Deviation: see `MSDNetSettings`.
    """

    def __init__(self, plan: MSDNetPlan) -> None:
        parts = {part.name: DensePart(part) for part in plan.parts}
        super().__init__(parts, {part.name: part.inputs for part in plan.parts}, plan.exits)
        self.plan = plan
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
            elif isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)


class DensePart(nn.Module):
    """A part of the network: an input passed on, and beside it what the branches make of each input."""

    def __init__(self, part: Part) -> None:
        super().__init__()
        self.kept = part.kept
        self.branches = nn.ModuleList(nn.Sequential(*map(_conv_norm_relu, branch)) for branch in part.branches)
        self.linear = None
        if part.num_classes is not None:
            self.linear = nn.Linear(part.branches[0][-1].out_channels, part.num_classes)

    def forward(self, *inputs_BCHW: Tensor) -> Tensor:
        """Return features (B, C, H, W), or logits (B, K) of an exit."""
        found = [branch(x_BCHW) for branch, x_BCHW in zip(self.branches, inputs_BCHW, strict=True)]
        if self.kept is not None:
            found.insert(0, inputs_BCHW[self.kept])
        y_BCHW: Tensor = torch.cat(found, dim=1) if len(found) > 1 else found[0]
        if self.linear is None:
            return y_BCHW
        logits_BK: Tensor = self.linear(y_BCHW.mean((2, 3)))
        return logits_BK


def _conv_norm_relu(unit: Unit) -> nn.Sequential:
    convolution = nn.Conv2d(unit.in_channels, unit.out_channels, unit.kernel, unit.stride, unit.kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(unit.out_channels), nn.ReLU(inplace=True))
