"""Depthwise convolutions whose gradients are as fast as their forward pass.

On CPUs, oneDNN has no fast kernel for the gradients of dilated depthwise convolutions, nor for the weight gradient of a
kernel wider than three pixels. A dilation of 2 is an ordinary convolution on every second pixel, and a weight gradient
five pixels wide is put together from two that are three wide.

Tensor letters: B images, C channels, H and W height and width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def depthwise(x_BCHW: Tensor, weight: Tensor, *, stride: int = 1, dilation: int = 1) -> Tensor:
    """Convolve each channel with its own square kernel, padded to keep the size.

    Args:
        x_BCHW: Input, on CPUs fastest with channels last.
        weight: (C, 1, kernel, kernel), kernel odd.
        stride: 1 or 2.
        dilation: 1 or 2; 2 with an even size is fastest by `to_phases`.
    """
    has_slow_gradient = x_BCHW.device.type == "cpu" and weight.shape[-1] == 5 and dilation == 1
    if has_slow_gradient and not torch.is_autocast_enabled("cpu"):
        y_BCHW: Tensor = _Depthwise5x5.apply(x_BCHW, weight, stride)  # type: ignore[no-untyped-call]
        return y_BCHW
    padding = dilation * (weight.shape[-1] // 2)
    return F.conv2d(x_BCHW, weight, None, stride, padding, dilation, len(weight))


def to_phases(x_BCHW: Tensor) -> Tensor:
    """Return (4B, C, H/2, W/2): the pixels of even and odd rows and columns as images of their own; H and W even.

    A convolution with dilation 2 is one without on these.
    """
    batch, channels, height, width = x_BCHW.shape
    blocks = x_BCHW.permute(0, 2, 3, 1).reshape(batch, height // 2, 2, width // 2, 2, channels)
    phases = blocks.permute(2, 4, 0, 1, 3, 5).reshape(4 * batch, height // 2, width // 2, channels)
    return phases.permute(0, 3, 1, 2)


def from_phases(phases: Tensor) -> Tensor:
    """Undo `to_phases`."""
    batch, channels, height, width = phases.shape
    blocks = phases.permute(0, 2, 3, 1).reshape(2, 2, batch // 4, height, width, channels)
    x_BHWC = blocks.permute(2, 3, 0, 4, 1, 5).reshape(batch // 4, 2 * height, 2 * width, channels)
    return x_BHWC.permute(0, 3, 1, 2)


class _Depthwise5x5(torch.autograd.Function):
    """A depthwise 5x5 convolution whose weight gradient consists of two 5x3 ones."""

    @staticmethod
    def forward(ctx: Any, x_BCHW: Tensor, weight: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x_BCHW, weight)
        ctx.stride = stride
        return F.conv2d(x_BCHW, weight, None, stride, 2, 1, len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x_BCHW, weight = ctx.saved_tensors
        (gradient,), stride = gradients, ctx.stride
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_x = _gradients(gradient, x_BCHW, weight, stride, (2, 2), (True, False, False))[0]
        if ctx.needs_input_grad[1]:
            grad_weight = torch.empty_like(weight)
            padded = F.pad(x_BCHW, (2, 2))
            window = stride * (gradient.shape[-1] - 1) + 3
            for first in (0, 2):
                part, kernel = padded[..., first : first + window], weight[..., first : first + 3]
                found = _gradients(gradient, part, kernel, stride, (2, 0), (False, True, False))[1]
                grad_weight[..., first : first + 3] = found
        return grad_x, grad_weight, None


def _gradients(
    gradient: Tensor,
    x_BCHW: Tensor,
    weight: Tensor,
    stride: int,
    padding: tuple[int, int],
    wanted: tuple[bool, bool, bool],
) -> tuple[Tensor, ...]:
    """Return the gradients of input, weight and bias, those not wanted None."""
    found: tuple[Tensor, ...] = torch.ops.aten.convolution_backward(
        gradient, x_BCHW, weight, None, [stride] * 2, padding, [1, 1], False, [0, 0], len(weight), wanted
    )
    return found
