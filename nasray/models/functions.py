"""The arithmetic that supernet and plain networks share, so that both compute the same.

Tensor letters: B images, C channels, H and W height and width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from nasray.spaces.network_spec import Activation

ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "relu": lambda x: F.relu(x, inplace=True),
    "relu6": lambda x: F.relu6(x, inplace=True),
    "hard_swish": lambda x: F.hardswish(x, inplace=True),
    "silu": lambda x: F.silu(x, inplace=True),
}


def shrink(x_BCHW: Tensor, stride: int) -> Tensor:
    """Bring bypassed channels to the size that a strided layer gives: the mean over each stride x stride tile.

    Deviation: Yang et al. 2021 do not say how a bypass passes a strided layer.
    """
    if stride == 1:
        return x_BCHW
    return F.avg_pool2d(x_BCHW, stride, ceil_mode=True, count_include_pad=False)


def add_padded(a_BCHW: Tensor, b_BCHW: Tensor) -> Tensor:
    """Add two tensors, the narrower one zero-padded to the channels of the wider."""
    difference = a_BCHW.shape[1] - b_BCHW.shape[1]
    if difference == 0:
        return a_BCHW + b_BCHW
    narrow, wide = (b_BCHW, a_BCHW) if difference > 0 else (a_BCHW, b_BCHW)
    split = narrow.shape[1]
    return torch.cat([wide[:, :split] + narrow, wide[:, split:]], dim=1)


def squeeze_excite(
    x_BCHW: Tensor, down: tuple[Tensor, Tensor], up: tuple[Tensor, Tensor], activation: Activation
) -> Tensor:
    """Scale each channel by a gate computed from the channels' means.

    Args:
        x_BCHW: Input.
        down: Weight (R, C, 1, 1) and bias (R) of the layer to the bottleneck of width R.
        up: Weight (C, R, 1, 1) and bias (C) of the layer back.
        activation: Inner activation. `silu` pairs with a sigmoid gate (EfficientNet), others with a hard sigmoid
            (MobileNetV3).
    """
    mean = x_BCHW.mean((2, 3), keepdim=True)
    inner = ACTIVATIONS[activation](F.conv2d(mean, *down))
    gate = F.conv2d(inner, *up)
    return x_BCHW * (torch.sigmoid(gate) if activation == "silu" else F.hardsigmoid(gate))
