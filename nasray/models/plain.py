"""Plain networks built from a plan: what is timed, trained, exported and shipped. No supernet code in here.

Tensor letters: B images, C channels, H and W height and width, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasray.models.functions import ACTIVATIONS, add_padded, shrink, squeeze_excite
from nasray.spaces.network_plan import BlockPlan, LayerPlan, NetworkPlan


class PlainConv(nn.Module):
    """A convolution with its bypass: the first M channels are computed, the others up to min(C, T) pass by."""

    def __init__(self, plan: LayerPlan) -> None:
        super().__init__()
        spec = plan.spec
        self.filters, self.stride, self.bypass_end = plan.filters, spec.stride, plan.bypass_end
        self.activation = spec.activation
        self.is_depthwise = spec.kind == "depthwise"
        if plan.filters:
            self.conv = nn.Conv2d(
                plan.filters if self.is_depthwise else plan.in_channels,
                plan.filters,
                plan.kernel,
                spec.stride,
                plan.kernel // 2,
                groups=plan.filters if self.is_depthwise else 1,
                bias=not spec.has_batch_norm,
            )
            nn.init.kaiming_normal_(self.conv.weight, mode="fan_out")
            if self.conv.bias is not None:
                nn.init.zeros_(self.conv.bias)
            self.norm: nn.Module = nn.BatchNorm2d(plan.filters) if spec.has_batch_norm else nn.Identity()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return (B, Z, H/stride, W/stride)."""
        if not self.filters:
            return shrink(x_BCHW[:, : self.bypass_end], self.stride)
        inputs = x_BCHW[:, : self.filters] if self.is_depthwise else x_BCHW
        y_BMHW = ACTIVATIONS[self.activation](self.norm(self.conv(inputs)))
        if self.bypass_end <= self.filters:
            return y_BMHW
        return torch.cat([y_BMHW, shrink(x_BCHW[:, self.filters : self.bypass_end], self.stride)], dim=1)


class PlainSqueezeExcite(nn.Module):
    """Squeeze-and-excitation."""

    def __init__(self, plan: LayerPlan) -> None:
        super().__init__()
        self.activation = plan.spec.activation
        self.down = nn.Conv2d(plan.in_channels, plan.filters, 1)
        self.up = nn.Conv2d(plan.filters, plan.in_channels, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the input with scaled channels."""
        return squeeze_excite(
            x_BCHW, (self.down.weight, _bias(self.down)), (self.up.weight, _bias(self.up)), self.activation
        )


class GlobalPool(nn.Module):
    """Mean over height and width, which stay as axes of length 1."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return (B, C, 1, 1)."""
        return x_BCHW.mean((2, 3), keepdim=True)


class PlainLinear(nn.Module):
    """Dropout and the linear classifier."""

    def __init__(self, plan: LayerPlan) -> None:
        super().__init__()
        self.dropout = plan.spec.dropout
        self.linear = nn.Linear(plan.in_channels, plan.filters)

    def forward(self, x_BC11: Tensor) -> Tensor:
        """Return logits (B, K)."""
        logits: Tensor = self.linear(F.dropout(x_BC11.flatten(1), self.dropout, self.training))
        return logits


class PlainBlock(nn.Module):
    """The layers of a block, with a residual connection where the plan has one.

    `survival` is the probability that the branch is kept for an image in training (stochastic depth, Huang et al.
    2016); the kept branches are scaled by 1 / survival.
    """

    def __init__(self, plan: BlockPlan) -> None:
        super().__init__()
        self.has_residual = plan.spec.has_residual
        self.survival = 1.0
        for layer in plan.layers:
            self.add_module(layer.spec.name, build_layer(layer))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the block's output; its input where the block is removed."""
        if not self._modules:
            return x_BCHW
        y_BCHW = x_BCHW
        for layer in self.children():
            y_BCHW = layer(y_BCHW)
        if not self.has_residual:
            return y_BCHW
        if self.training and self.survival < 1:
            kept_B111 = torch.rand(y_BCHW.shape[0], 1, 1, 1, device=y_BCHW.device) < self.survival
            y_BCHW = y_BCHW * (kept_B111.to(y_BCHW.dtype) / self.survival)
        return add_padded(y_BCHW, x_BCHW)


class PlainNetwork(nn.Module):
    """A whole network as planned; takes (B, in_channels, resolution, resolution), gives logits (B, K)."""

    def __init__(self, plan: NetworkPlan) -> None:
        super().__init__()
        self.plan = plan
        self.blocks = nn.ModuleDict({block.spec.name: PlainBlock(block) for block in plan.blocks})

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return logits (B, K)."""
        for block in self.blocks.values():
            x_BCHW = block(x_BCHW)
        return x_BCHW

    def set_survival(self, probability: float) -> None:
        """Set the probability with which residual branches survive in training.

        Raises:
            ValueError: If it is not in (0, 1].
        """
        if not 0 < probability <= 1:
            raise ValueError(f"`probability` must be in (0, 1], got {probability}. 1 switches stochastic depth off.")
        for block in self.blocks.values():
            if isinstance(block, PlainBlock):
                block.survival = probability


def build_layer(plan: LayerPlan) -> nn.Module:
    """Return one layer as a plain module with fresh weights."""
    match plan.spec.kind:
        case "squeeze_excite":
            return PlainSqueezeExcite(plan)
        case "pool":
            return GlobalPool()
        case "linear":
            return PlainLinear(plan)
        case _:
            return PlainConv(plan)


def _bias(conv: nn.Conv2d) -> Tensor:
    assert conv.bias is not None
    return conv.bias
