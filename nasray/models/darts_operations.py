"""The operations of DARTS as modules, and the convolutions that stand around its cells.

Every operation takes (B, C, H, W) and gives (B, C, H/stride, W/stride); odd sides are halved to the larger half. No
module works in place: a node of a cell is read by several operations.

Tensor letters: B images, C channels, H and W height and width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasray.spaces.genotype import OPERATIONS


class Zero(nn.Module):
    """The operation "none": zeros of the right size."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return zeros (B, C, H/stride, W/stride)."""
        return torch.zeros_like(x_BCHW[:, :, :: self.stride, :: self.stride])


class ReluConvNorm(nn.Sequential):
    """ReLU, 1x1 convolution without bias, batch norm: brings the input of a cell to its channels."""

    def __init__(self, in_channels: int, out_channels: int, *, affine: bool = True) -> None:
        super().__init__(
            nn.ReLU(), nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels, affine=affine)
        )


class FactorizedReduce(nn.Module):
    """Halve the resolution with two 1x1 convolutions of stride 2, the second shifted by one pixel, side by side.

    Source: Liu et al. 2019, published code. Deviation: an odd side, on which that code fails, is padded by a zero; an
    odd number of channels goes to the second convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, *, affine: bool = True) -> None:
        super().__init__()
        first = out_channels // 2
        # Their stride is taken by slicing, which spares ReLU and convolution the pixels that nobody reads.
        self.conv_1 = nn.Conv2d(in_channels, first, 1, bias=False)
        self.conv_2 = nn.Conv2d(in_channels, out_channels - first, 1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels, affine=affine)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return (B, out_channels, H/2, W/2)."""
        height, width = x_BCHW.shape[2:]
        shifted_BCHW = F.pad(x_BCHW, (0, width % 2, 0, height % 2)) if height % 2 or width % 2 else x_BCHW
        first_BCHW = self.conv_1(F.relu(x_BCHW[:, :, ::2, ::2]))
        second_BCHW = self.conv_2(F.relu(shifted_BCHW[:, :, 1::2, 1::2]))
        y_BCHW: Tensor = self.norm(torch.cat([first_BCHW, second_BCHW], dim=1))
        return y_BCHW


class SeparableConv(nn.Sequential):
    """Twice in a row: ReLU, depthwise and 1x1 convolution, batch norm; only the first has a stride."""

    def __init__(self, channels: int, kernel: int, stride: int, *, affine: bool = True) -> None:
        halves = [_separable(channels, kernel, half_stride, 1, affine) for half_stride in (stride, 1)]
        super().__init__(*halves[0], *halves[1])


class DilatedConv(nn.Sequential):
    """ReLU, depthwise convolution with dilation 2 and 1x1 convolution, batch norm."""

    def __init__(self, channels: int, kernel: int, stride: int, *, affine: bool = True) -> None:
        super().__init__(*_separable(channels, kernel, stride, 2, affine))


def operation(
    name: str, channels: int, stride: int = 1, *, affine: bool = True, has_pool_norm: bool = False
) -> nn.Module:
    """Return an operation with fresh weights.

    Args:
        name: One of `nasray.spaces.genotype.OPERATIONS`.
        channels: Channels of input and output, at least 2.
        stride: 1, or 2 on the inputs of a reduction cell.
        affine: Whether batch norms have a learned scale and shift: not while searching.
        has_pool_norm: Whether a batch norm (never affine) follows a pooling: while searching.

    Raises:
        ValueError: If the name is unknown.

    Source: Liu et al. 2019, Sec. 3.1.1 and published code. Deviation: none.
    """
    if name not in OPERATIONS:
        raise ValueError(f"`name` must be one of {', '.join(OPERATIONS)}, got {name!r}.")
    module = _BUILDERS[name](channels, stride, affine)
    if has_pool_norm and name in ("max_pool_3x3", "avg_pool_3x3"):
        return nn.Sequential(module, nn.BatchNorm2d(channels, affine=False))
    return module


def drop_path(x_BCHW: Tensor, probability: float) -> Tensor:
    """Zero the whole tensor of an image with a probability, and scale up the others to keep the mean.

    Source: Larsson et al. 2017 (FractalNet) as in DARTS's published code. Deviation: none.
    """
    kept_B111 = torch.rand(x_BCHW.shape[0], 1, 1, 1, device=x_BCHW.device) >= probability
    return x_BCHW * (kept_B111.to(x_BCHW.dtype) / (1 - probability))


def _separable(channels: int, kernel: int, stride: int, dilation: int, affine: bool) -> list[nn.Module]:
    padding = dilation * (kernel // 2)
    return [
        nn.ReLU(),
        nn.Conv2d(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels, affine=affine),
    ]


def _skip(channels: int, stride: int, affine: bool) -> nn.Module:
    return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels, affine=affine)


_BUILDERS: dict[str, Callable[[int, int, bool], nn.Module]] = {
    "none": lambda channels, stride, affine: Zero(stride),
    "max_pool_3x3": lambda channels, stride, affine: nn.MaxPool2d(3, stride, 1),
    "avg_pool_3x3": lambda channels, stride, affine: nn.AvgPool2d(3, stride, 1, count_include_pad=False),
    "skip_connect": _skip,
    "sep_conv_3x3": lambda channels, stride, affine: SeparableConv(channels, 3, stride, affine=affine),
    "sep_conv_5x5": lambda channels, stride, affine: SeparableConv(channels, 5, stride, affine=affine),
    "dil_conv_3x3": lambda channels, stride, affine: DilatedConv(channels, 3, stride, affine=affine),
    "dil_conv_5x5": lambda channels, stride, affine: DilatedConv(channels, 5, stride, affine=affine),
}
