"""Networks of the chain space: a sequence of layers on maps, then one on vectors.

Tensor letters: B images, C channels, H and W height and width, N units, K classes.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from nasray.spaces.chain_plan import ChainLayer, ChainPlan, InceptionWidths
from nasray.spaces.chain_slot import ChainActivation

# None works in place: the layer before may need its output in the backward pass.
ACTIVATIONS: dict[ChainActivation, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "hard_swish": nn.Hardswish,
    "elu": nn.ELU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
}
_RELU_GAIN = math.sqrt(2)
_GAINS: dict[ChainActivation, float] = {"relu": _RELU_GAIN, "hard_swish": _RELU_GAIN, "elu": _RELU_GAIN, "tanh": 5 / 3}


class ConvNorm(nn.Module):
    """A convolution, with batch norm or a bias."""

    def __init__(
        self,
        in_channels: int,
        filters: int,
        kernel: tuple[int, int],
        *,
        stride: int = 1,
        padding: tuple[int, int] | None = None,
        has_batch_norm: bool,
        gain: float = _RELU_GAIN,
    ) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2) if padding is None else padding
        self.conv = nn.Conv2d(in_channels, filters, kernel, stride, padding, bias=not has_batch_norm)
        self.norm: nn.Module = nn.BatchNorm2d(filters) if has_batch_norm else nn.Identity()
        _initialize(self.conv, gain)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return (B, filters, H', W')."""
        y_BCHW: Tensor = self.norm(self.conv(x_BCHW))
        return y_BCHW


class Inception(nn.Module):
    """Four branches side by side: 1 x 1; 1 x 1 and 3 x 3; 1 x 1 and 5 x 5; 3 x 3 maximum and 1 x 1.

    A ReLU follows every convolution.

    Source: Szegedy et al. 2015, Fig. 2b. Deviation: batch norm before the ReLUs, where the plan has it.
    """

    def __init__(self, plan: ChainLayer) -> None:
        super().__init__()
        channels, widths = plan.in_shape[0], InceptionWidths.of(plan.slot.filters)

        def conv(in_channels: int, filters: int, kernel: int) -> nn.Module:
            layer = ConvNorm(in_channels, filters, (kernel, kernel), has_batch_norm=plan.has_batch_norm)
            return nn.Sequential(layer, nn.ReLU())

        self.one = conv(channels, widths.one, 1)
        self.three = nn.Sequential(conv(channels, widths.three_reduce, 1), conv(widths.three_reduce, widths.three, 3))
        self.five = nn.Sequential(conv(channels, widths.five_reduce, 1), conv(widths.five_reduce, widths.five, 5))
        self.pool = nn.Sequential(nn.MaxPool2d(3, 1, 1), conv(channels, widths.pool, 1))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return (B, filters, H, W)."""
        return torch.cat([self.one(x_BCHW), self.three(x_BCHW), self.five(x_BCHW), self.pool(x_BCHW)], dim=1)


class ChainNetwork(nn.Module):
    """A whole chain as planned; takes (B, C, H, W), gives logits (B, K).

    Weights are drawn with the variance that keeps the size of signals under the activation that follows.

    Raises:
        ValueError: If the plan is infeasible.

    Source: Young et al. 2019, Sec. III-A; He et al. 2015, Sec. 2.2 (initialization). Deviation: see `ChainSpace`; 5/3
    for tanh, 1 for sigmoid and where no activation comes before the next weights.
    """

    def __init__(self, plan: ChainPlan) -> None:
        super().__init__()
        if not plan.is_feasible:
            raise ValueError(f"`plan` must be feasible, got {plan.infeasible_reason}. Raise the limit of the space.")
        self.plan = plan
        built = [(layer, build_layer(layer, _gain(plan.layers[i + 1 :]))) for i, layer in enumerate(plan.layers)]
        self.features = nn.Sequential(OrderedDict((p.name, layer) for p, layer in built if len(p.in_shape) == 3))
        self.head = nn.Sequential(OrderedDict((p.name, layer) for p, layer in built if len(p.in_shape) == 1))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return logits (B, K)."""
        logits: Tensor = self.head(self.features(x_BCHW).flatten(1))
        return logits


def build_layer(plan: ChainLayer, gain: float = 1.0) -> nn.Module:
    """Return one layer as a module with fresh weights.

    Args:
        plan: Which.
        gain: Standard deviation of its outputs over that of its inputs; read by convolutions and linear layers.
    """
    slot = plan.slot
    match plan.kind:
        case "conv":
            return ConvNorm(
                plan.in_shape[0],
                slot.filters,
                slot.kernel,
                stride=slot.stride,
                padding=slot.padding,
                has_batch_norm=plan.has_batch_norm,
                gain=gain,
            )
        case "inception":
            return Inception(plan)
        case "pool":
            pool = nn.MaxPool2d if slot.pool == "max" else nn.AvgPool2d
            return pool(slot.kernel, slot.stride)
        case "activation":
            return ACTIVATIONS[slot.activation]()
        case "dropout":
            return nn.Dropout(slot.rate)
        case "linear":
            return _initialize(nn.Linear(plan.in_shape[0], slot.units), gain)
        case "off":
            raise ValueError(f"Layer {plan.name!r} must be on, got kind 'off'. Plan it with ChainSpace.plan.")


def _gain(following: Sequence[ChainLayer]) -> float:
    """Return the gain for the activation that comes before the next weights."""
    for layer in following:
        if layer.kind == "activation":
            return _GAINS.get(layer.slot.activation, 1.0)
        if layer.kind in ("conv", "inception", "linear"):
            break
    return 1.0


def _initialize(layer: nn.Conv2d | nn.Linear, gain: float) -> nn.Module:
    fan_in = layer.weight[0].numel()
    nn.init.normal_(layer.weight, std=gain / math.sqrt(fan_in))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
