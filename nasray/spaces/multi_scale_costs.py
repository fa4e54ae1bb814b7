"""Closed-form costs of the convolutions that multi-scale networks are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Convolution:
    """A convolution without bias and the batch norm behind it, or a linear layer.

    Args:
        in_channels: Channels that arrive.
        out_channels: Channels that leave.
        kernel: Side of the square kernel.
        side: Side of the output, in pixels.
        groups: Groups of channels.
        extras: Learned numbers per output channel beside the kernel: 2 of a batch norm, 1 of a bias.
    """

    in_channels: int
    out_channels: int
    kernel: int
    side: int
    groups: int = 1
    extras: int = 0

    @property
    def macs(self) -> int:
        """Multiply-adds for one image; batch norm is free."""
        return self._weights * self.side**2

    @property
    def parameters(self) -> int:
        """Learned numbers."""
        return self._weights + self.extras * self.out_channels

    @property
    def _weights(self) -> int:
        return self.out_channels * (self.in_channels // self.groups) * self.kernel**2


def total_macs(convolutions: Iterable[Convolution]) -> int:
    """Return the multiply-adds of several convolutions for one image."""
    return sum(convolution.macs for convolution in convolutions)


def total_parameters(convolutions: Iterable[Convolution]) -> int:
    """Return the learned numbers of several convolutions."""
    return sum(convolution.parameters for convolution in convolutions)


def convolution_norm(in_channels: int, out_channels: int, side: int, kernel: int = 1) -> list[Convolution]:
    """Return a convolution with batch norm.

    Args:
        in_channels: Channels that arrive.
        out_channels: Channels that leave.
        side: Side of the output, in pixels.
        kernel: Side of the kernel.
    """
    return [Convolution(in_channels, out_channels, kernel, side, extras=2)]


def linear(in_features: int, out_features: int) -> list[Convolution]:
    """Return a linear layer with bias."""
    return [Convolution(in_features, out_features, 1, 1, extras=1)]


def operation_convolutions(name: str, channels: int, side: int, *, stride: int = 1) -> list[Convolution]:
    """Return the convolutions of an operation of DARTS with learned batch norms.

    Args:
        name: One of `nasray.spaces.genotype.OPERATIONS`.
        channels: Channels of input and output.
        side: Side of the output, in pixels.
        stride: 1 or 2.
    """
    if name == "skip_connect":
        # The two halves of a factorized reduction cost as much as one convolution of all channels.
        return [] if stride == 1 else convolution_norm(channels, channels, side)
    return _OPERATIONS[name](channels, side)


def _separable(kernel: int, times: int) -> Callable[[int, int], list[Convolution]]:
    def convolutions(channels: int, side: int) -> list[Convolution]:
        depthwise = Convolution(channels, channels, kernel, side, groups=channels)
        return [depthwise, *convolution_norm(channels, channels, side)] * times

    return convolutions


def _nothing(channels: int, side: int) -> list[Convolution]:
    return []


_OPERATIONS: dict[str, Callable[[int, int], list[Convolution]]] = {
    "none": _nothing,
    "max_pool_3x3": _nothing,
    "avg_pool_3x3": _nothing,
    "sep_conv_3x3": _separable(3, 2),
    "sep_conv_5x5": _separable(5, 2),
    "dil_conv_3x3": _separable(3, 1),
    "dil_conv_5x5": _separable(5, 1),
}
