"""All operations on all edges that leave one node of a cell, computed together.

DARTS computes each operation of each edge on its own. The edges that leave a node read the same tensor, so that they
share its ReLU and its poolings, and one convolution with the kernels of all edges side by side replaces many. An
operation's weight in the mixture is the scale of its last batch norm, which costs nothing.

Parameters of E edges lie one after the other along the first dimension; `tensors` finds those of one operation.

Tensor letters: B images, C channels, H and W height and width, E edges, O operations.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasray.differentiable.depthwise import depthwise, from_phases, to_phases
from nasray.spaces.genotype import OPERATIONS

_MOMENTUM, _EPSILON = 0.1, 1e-5  # those of nn.BatchNorm2d


class Norm(nn.Module):
    """Batch norm without learned scale and shift, whose scale is given at each call."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x_BCHW: Tensor, scale_C: Tensor | None = None) -> Tensor:
        """Return the normalised tensor times the scale."""
        return F.batch_norm(
            x_BCHW, self.running_mean, self.running_var, scale_C, None, self.training, _MOMENTUM, _EPSILON
        )

    def tensors(self, channels: slice, place: int) -> dict[str, Tensor]:
        """Return the statistics of some channels, named as those of an `nn.BatchNorm2d` at a place in a sequence."""
        return {
            f"{place}.running_mean": self.running_mean[channels],
            f"{place}.running_var": self.running_var[channels],
        }


class GroupedSeparable(nn.Module):
    """Depthwise and 1x1 convolution and batch norm of E edges, behind their ReLU; takes and gives (B, E*C, H, W)."""

    def __init__(self, num_edges: int, channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.num_edges, self.channels, self.stride = num_edges, channels, stride
        self.depthwise = nn.Parameter(torch.empty(num_edges * channels, 1, kernel, kernel))
        self.pointwise = nn.Parameter(torch.empty(num_edges * channels, channels, 1, 1))
        self.norm = Norm(num_edges * channels)
        for weight in (self.depthwise, self.pointwise):
            _initialise(weight)

    def forward(self, x_BCHW: Tensor, scale_C: Tensor | None = None, *, dilation: int = 1) -> Tensor:
        """Return the normalised output times the scale (E*C)."""
        y_BCHW = depthwise(x_BCHW, self.depthwise, stride=self.stride, dilation=dilation)
        y_BCHW = F.conv2d(y_BCHW, self.pointwise, groups=self.num_edges)
        scaled_BCHW: Tensor = self.norm(y_BCHW, scale_C)
        return scaled_BCHW

    def tensors(self, edge: int, place: int) -> dict[str, Tensor]:
        """Return the weights and statistics of an edge, named as in a sequence whose ReLU stands at a place."""
        channels = slice(edge * self.channels, (edge + 1) * self.channels)
        weights = {
            f"{place + 1}.weight": self.depthwise.detach()[channels],
            f"{place + 2}.weight": self.pointwise.detach()[channels],
        }
        return weights | self.norm.tensors(channels, place + 3)


class GroupedReduce(nn.Module):
    """The factorized reductions of E edges, skip connections of stride 2; takes the ReLU's output (B, C, H, W)."""

    def __init__(self, num_edges: int, channels: int) -> None:
        super().__init__()
        self.num_edges, self.half_channels = num_edges, channels // 2
        self.conv_1 = nn.Parameter(torch.empty(num_edges * self.half_channels, channels, 1, 1))
        self.conv_2 = nn.Parameter(torch.empty(num_edges * self.half_channels, channels, 1, 1))
        self.norm = Norm(num_edges * channels)
        for weight in (self.conv_1, self.conv_2):
            _initialise(weight)

    def forward(self, x_BCHW: Tensor, scale_C: Tensor) -> Tensor:
        """Return (B, E*C, H/2, W/2), normalised, times the scale (E*C)."""
        height, width = x_BCHW.shape[2:]
        shifted_BCHW = F.pad(x_BCHW, (0, width % 2, 0, height % 2))[:, :, 1:, 1:]
        halves = (F.conv2d(x_BCHW, self.conv_1, stride=2), F.conv2d(shifted_BCHW, self.conv_2, stride=2))
        by_edge = [half.unflatten(1, (self.num_edges, self.half_channels)) for half in halves]
        y_BCHW: Tensor = self.norm(torch.cat(by_edge, dim=2).flatten(1, 2), scale_C)
        return y_BCHW

    def tensors(self, edge: int) -> dict[str, Tensor]:
        """Return the weights and statistics of an edge, named as in `FactorizedReduce`."""
        first, last = edge * self.half_channels, (edge + 1) * self.half_channels
        half, both = slice(first, last), slice(2 * first, 2 * last)
        return {
            "conv_1.weight": self.conv_1.detach()[half],
            "conv_2.weight": self.conv_2.detach()[half],
            "norm.running_mean": self.norm.running_mean[both],
            "norm.running_var": self.norm.running_var[both],
        }


class SourceOperations(nn.Module):
    """The mixtures of all operations on the E edges that leave a node.

    Args:
        num_edges: E.
        channels: C.
        stride: 1, or 2 on the inputs of a reduction cell.

    Source: Liu et al. 2019 (DARTS), eq. 2 and published code. Deviation: none but the order of summation.
    """

    def __init__(self, num_edges: int, channels: int, stride: int) -> None:
        super().__init__()
        self.num_edges, self.channels, self.stride = num_edges, channels, stride
        self.max_norm, self.average_norm = Norm(channels), Norm(channels)
        self.reduce = GroupedReduce(num_edges, channels) if stride == 2 else None
        self.separable = nn.ModuleDict()
        for kernel in (3, 5):
            halves = [GroupedSeparable(num_edges, channels, kernel, half_stride) for half_stride in (stride, 1)]
            self.separable[f"sep_conv_{kernel}x{kernel}"] = nn.ModuleList(halves)
            # With stride 2, a dilation of 2 sees only every second pixel: an ordinary convolution on those.
            self.separable[f"dil_conv_{kernel}x{kernel}"] = nn.ModuleList(
                [GroupedSeparable(num_edges, channels, kernel)]
            )

    def forward(self, x_BCHW: Tensor, weights_EO: Tensor) -> list[Tensor]:
        """Return the mixture of each edge, (B, C, H/stride, W/stride).

        Args:
            x_BCHW: The node.
            weights_EO: Weight of each operation on each edge, in the order of `OPERATIONS`.
        """
        # Rows of a contiguous tensor: on CPUs, torch's batch norm reads a scale as if its stride were 1.
        scales_OC = weights_EO.t().repeat_interleave(self.channels, dim=1).contiguous()
        scales = dict(zip(OPERATIONS, scales_OC.unbind(0), strict=True))
        relu_BCHW = F.relu(x_BCHW)
        wide_BCHW = _repeated(relu_BCHW, self.num_edges)
        y_BCHW = self._convolved_twice(wide_BCHW, "sep_conv_3x3", scales)
        y_BCHW = y_BCHW.add_(self._convolved_twice(wide_BCHW, "sep_conv_5x5", scales))
        y_BCHW = y_BCHW.add_(self._dilated(relu_BCHW, wide_BCHW, scales))
        if self.reduce is not None:
            y_BCHW = y_BCHW.add_(self.reduce(relu_BCHW, scales["skip_connect"]))
        simple = self._simple(x_BCHW, weights_EO)
        return [y.add(other) for y, other in zip(y_BCHW.split(self.channels, dim=1), simple, strict=True)]

    def tensors(self, edge: int, operation: str) -> dict[str, Tensor]:
        """Return views of the weights and statistics of one operation, named as in its module.

        That module is `nasray.models.darts_operations.operation(..., affine=False, has_pool_norm=True)`. A pooling's
        statistics are the same for all edges.
        """
        match operation:
            case "max_pool_3x3":
                return self.max_norm.tensors(slice(None), 1)
            case "avg_pool_3x3":
                return self.average_norm.tensors(slice(None), 1)
            case "skip_connect":
                return {} if self.reduce is None else self.reduce.tensors(edge)
            case "none":
                return {}
        found: dict[str, Tensor] = {}
        for place, half in enumerate(self._halves(operation)):
            found |= half.tensors(edge, 4 * place)
        return found

    def _halves(self, operation: str) -> list[GroupedSeparable]:
        halves = self.separable[operation]
        assert isinstance(halves, nn.ModuleList)
        return [half for half in halves if isinstance(half, GroupedSeparable)]

    def _convolved_twice(self, wide_BCHW: Tensor, operation: str, scales: dict[str, Tensor]) -> Tensor:
        first, second = self._halves(operation)
        y_BCHW: Tensor = second(F.relu_(first(wide_BCHW)), scales[operation])
        return y_BCHW

    def _dilated(self, relu_BCHW: Tensor, wide_BCHW: Tensor, scales: dict[str, Tensor]) -> Tensor:
        """Return the sum of both dilated convolutions."""
        height, width = relu_BCHW.shape[2:]
        has_phases = self.stride == 1 and height % 2 == width % 2 == 0
        if self.stride == 2:
            wide_BCHW = _repeated(relu_BCHW[:, :, ::2, ::2], self.num_edges)
        elif has_phases:
            wide_BCHW = _repeated(to_phases(relu_BCHW), self.num_edges)
        dilation = 1 if self.stride == 2 or has_phases else 2
        y_BCHW, other_BCHW = (
            self._halves(operation)[0](wide_BCHW, scales[operation], dilation=dilation)
            for operation in ("dil_conv_3x3", "dil_conv_5x5")
        )
        y_BCHW = y_BCHW.add_(other_BCHW)
        return from_phases(y_BCHW) if has_phases else y_BCHW

    def _simple(self, x_BCHW: Tensor, weights_EO: Tensor) -> list[Tensor]:
        """Return, for each edge, the weighted sum of the poolings and of a skip connection without weights."""
        names = ["max_pool_3x3", "avg_pool_3x3"]
        terms = [
            self.max_norm(F.max_pool2d(x_BCHW, 3, self.stride, 1)),
            self.average_norm(F.avg_pool2d(x_BCHW, 3, self.stride, 1, count_include_pad=False)),
        ]
        if self.stride == 1:
            names.append("skip_connect")
            terms.append(x_BCHW)
        batch, channels, height, width = terms[0].shape
        flat = torch.stack([term.permute(0, 2, 3, 1).reshape(-1) for term in terms])
        chosen = weights_EO[:, [OPERATIONS.index(name) for name in names]].to(flat.dtype)
        mixed_EBHWC = (chosen @ flat).view(self.num_edges, batch, height, width, channels)
        return list(mixed_EBHWC.permute(0, 1, 4, 2, 3).unbind(0))


def _repeated(x_BCHW: Tensor, times: int) -> Tensor:
    """Return the channels several times over, (B, times*C, H, W), channels last."""
    batch, channels, height, width = x_BCHW.shape
    x_BHW1C = x_BCHW.permute(0, 2, 3, 1).unsqueeze(3)
    return x_BHW1C.expand(-1, -1, -1, times, -1).reshape(batch, height, width, times * channels).permute(0, 3, 1, 2)


def _initialise(weight: Tensor) -> None:
    """Draw weights as `nn.Conv2d` does."""
    bound = 1 / math.sqrt(math.prod(weight.shape[1:]))
    nn.init.uniform_(weight, -bound, bound)
