"""Elastic layers: full weights of which any sub-network uses the first filters and the centre of the kernels.

Each layer computes in two ways that give the same result:

- `forward(x, plan)`: one sub-network for all images; only what survives is computed, on slices of the weights.
- `forward_masked(x, filters_B, kernels_B)`: its own sub-network for each image; everything is computed, then the
  last channels are zeroed and the bypass fills in the complement.

Tensor letters: B images, C channels in, M filters that remain, F full filters, H and W height and width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasray.models.functions import ACTIVATIONS, shrink, squeeze_excite
from nasray.models.subnet_pass import dropout, statistics, take
from nasray.spaces.network_plan import LayerPlan


class ElasticConv(nn.Module):
    """Convolution (dense, pointwise or depthwise) of elastic width and kernel, with channel-level bypass.

    Args:
        plan: The layer at its full size.

    Source: Yang et al. 2021, Sec. 2.2 (bypass), Sec. 2.3 (ordered dropout); superkernel: the centre of the full
    kernel, as in its references 12 and 21. Deviation: none.
    """

    def __init__(self, plan: LayerPlan) -> None:
        super().__init__()
        self.full = plan
        self.is_depthwise = plan.spec.kind == "depthwise"
        fan_in = 1 if self.is_depthwise else plan.in_channels
        self.weight = nn.Parameter(torch.empty(plan.filters, fan_in, plan.kernel, plan.kernel))
        nn.init.kaiming_normal_(self.weight, mode="fan_out")
        self.norm = nn.BatchNorm2d(plan.filters) if plan.spec.has_batch_norm else None
        self.bias = None if self.norm else nn.Parameter(torch.zeros(plan.filters))

    def forward(self, x_BCHW: Tensor, plan: LayerPlan) -> Tensor:
        """Compute one sub-network's layer; returns (B, Z, H/stride, W/stride)."""
        stride, filters = plan.spec.stride, plan.filters
        if filters == 0:
            return shrink(x_BCHW[:, : plan.bypass_end], stride)
        inputs = x_BCHW[:, :filters] if self.is_depthwise else x_BCHW
        y_BMHW = self._convolve(inputs, filters, plan.kernel)
        y_BMHW = ACTIVATIONS[plan.spec.activation](self._normalize(y_BMHW, filters))
        if plan.bypass_end <= filters:
            return y_BMHW
        return torch.cat([y_BMHW, shrink(x_BCHW[:, filters : plan.bypass_end], stride)], dim=1)

    def forward_masked(self, x_BCHW: Tensor, filters_B: Tensor, kernels_B: Tensor) -> Tensor:
        """Compute each image's own sub-network at full width.

        Args:
            x_BCHW: Input at full width, zero in the channels that an image's sub-network does not have.
            filters_B: M of each image; of a depthwise layer at most the channels that the image has.
            kernels_B: Kernel of each image.

        Returns:
            (B, Z of the full layer, H/stride, W/stride), zero in the channels that an image does not have.
        """
        full = self.full
        y_BFHW = ACTIVATIONS[full.spec.activation](
            self._normalize(self._convolve_each(x_BCHW, kernels_B), full.filters)
        )
        y_BFHW = y_BFHW * _keeps(full.filters, filters_B).to(y_BFHW.dtype)
        if full.bypass_end == 0:
            return y_BFHW
        passed = shrink(x_BCHW[:, : full.bypass_end], full.spec.stride)
        passed = passed * (~_keeps(full.bypass_end, filters_B)).to(passed.dtype)
        if full.bypass_end < full.filters:
            passed = F.pad(passed, (0, 0, 0, 0, 0, full.filters - full.bypass_end))
        elif full.bypass_end > full.filters:
            y_BFHW = F.pad(y_BFHW, (0, 0, 0, 0, 0, full.bypass_end - full.filters))
        return y_BFHW + passed

    def sliced(self, plan: LayerPlan) -> dict[str, Tensor]:
        """Return the weights of one sub-network's layer by the names of the plain layer; nothing at width 0."""
        if plan.filters == 0:
            return {}
        weights = {"conv.weight": self._weight(plan.in_channels, plan.filters, plan.kernel)}
        if self.bias is not None:
            weights["conv.bias"] = self.bias[: plan.filters]
        if self.norm is not None:
            for name, value in self.norm.state_dict(keep_vars=True).items():
                weights[f"norm.{name}"] = value[: plan.filters] if value.ndim else value
        return weights

    def _weight(self, in_channels: int, filters: int, kernel: int) -> Tensor:
        margin = (self.full.kernel - kernel) // 2
        # Only what is cut is named: each slice costs as much as a small kernel.
        index: tuple[slice, ...] = (slice(filters),) if self.is_depthwise else (slice(filters), slice(in_channels))
        if margin:
            centre = slice(margin, self.full.kernel - margin)
            index = (slice(filters), slice(None if self.is_depthwise else in_channels), centre, centre)
        return take(self.weight, index)

    def _convolve(self, x_BCHW: Tensor, filters: int, kernel: int) -> Tensor:
        weight = self._weight(x_BCHW.shape[1], filters, kernel)
        bias = None if self.bias is None else take(self.bias, (slice(filters),))
        groups = filters if self.is_depthwise else 1
        return F.conv2d(x_BCHW, weight, bias, self.full.spec.stride, kernel // 2, groups=groups)

    def _convolve_each(self, x_BCHW: Tensor, kernels_B: Tensor) -> Tensor:
        sizes = torch.unique(kernels_B).tolist() if self.full.kernel > 3 else [self.full.kernel]
        if len(sizes) == 1:
            return self._convolve(x_BCHW, self.full.filters, sizes[0])
        rows = [(kernels_B == size).nonzero().squeeze(1) for size in sizes]
        parts = [self._convolve(x_BCHW[row], self.full.filters, k) for row, k in zip(rows, sizes, strict=True)]
        return torch.cat(parts)[torch.argsort(torch.cat(rows))]

    def _normalize(self, y_BMHW: Tensor, filters: int) -> Tensor:
        norm = self.norm
        if norm is None:
            return y_BMHW
        mean, var = norm.running_mean, norm.running_var
        assert mean is not None and var is not None and norm.momentum is not None
        if self.training:
            mean, var = (statistics(running, filters, norm.momentum) for running in (mean, var))
        return F.batch_norm(
            y_BMHW,
            mean[:filters],
            var[:filters],
            take(norm.weight, (slice(filters),)),
            take(norm.bias, (slice(filters),)),
            training=self.training,
            momentum=norm.momentum,
            eps=norm.eps,
        )


class ElasticSqueezeExcite(nn.Module):
    """Squeeze-and-excitation whose input and bottleneck are elastic."""

    def __init__(self, plan: LayerPlan) -> None:
        super().__init__()
        self.full = plan
        self.down = nn.Conv2d(plan.in_channels, plan.filters, 1)
        self.up = nn.Conv2d(plan.filters, plan.in_channels, 1)

    def forward(self, x_BCHW: Tensor, plan: LayerPlan) -> Tensor:
        """Scale the channels of one sub-network."""
        weights = self.sliced(plan)
        down = (weights["down.weight"], weights["down.bias"])
        up = (weights["up.weight"], weights["up.bias"])
        return squeeze_excite(x_BCHW, down, up, plan.spec.activation)

    def forward_masked(self, x_BCHW: Tensor, filters_B: Tensor, kernels_B: Tensor) -> Tensor:
        """Scale the channels of each image's own sub-network; a bottleneck of 0 leaves an image as it is."""
        assert self.down.bias is not None and self.up.bias is not None
        mean = x_BCHW.mean((2, 3), keepdim=True)
        inner = ACTIVATIONS[self.full.spec.activation](self.down(mean)) * _keeps(self.full.filters, filters_B).to(
            mean.dtype
        )
        gate = self.up(inner)
        gate = torch.sigmoid(gate) if self.full.spec.activation == "silu" else F.hardsigmoid(gate)
        return x_BCHW * torch.where(filters_B.view(-1, 1, 1, 1) > 0, gate, torch.ones_like(gate))

    def sliced(self, plan: LayerPlan) -> dict[str, Tensor]:
        """Return the weights of one sub-network's layer by the names of the plain layer."""
        assert self.down.bias is not None and self.up.bias is not None
        channels, filters = plan.in_channels, plan.filters
        return {
            "down.weight": take(self.down.weight, (slice(filters), slice(channels))),
            "down.bias": take(self.down.bias, (slice(filters),)),
            "up.weight": take(self.up.weight, (slice(channels), slice(filters))),
            "up.bias": take(self.up.bias, (slice(channels),)),
        }


class ElasticLinear(nn.Module):
    """Dropout and the classifier, of elastic input."""

    def __init__(self, plan: LayerPlan) -> None:
        super().__init__()
        self.full = plan
        self.linear = nn.Linear(plan.in_channels, plan.filters)

    def forward(self, x_BC11: Tensor, plan: LayerPlan) -> Tensor:
        """Return logits (B, classes) of one sub-network."""
        x_BC = x_BC11.flatten(1)
        if self.training and plan.spec.dropout:
            x_BC = dropout(x_BC, plan.spec.dropout)
        weight = take(self.linear.weight, (slice(plan.filters), slice(x_BC.shape[1])))
        return F.linear(x_BC, weight, take(self.linear.bias, (slice(plan.filters),)))

    def forward_masked(self, x_BC11: Tensor, filters_B: Tensor, kernels_B: Tensor) -> Tensor:
        """Return logits of each image's own sub-network: absent inputs are zero already."""
        return self.forward(x_BC11, self.full)

    def sliced(self, plan: LayerPlan) -> dict[str, Tensor]:
        """Return the weights of one sub-network's layer by the names of the plain layer."""
        weight, bias = self.linear.weight, self.linear.bias
        return {"linear.weight": weight[: plan.filters, : plan.in_channels], "linear.bias": bias[: plan.filters]}


class ElasticPool(nn.Module):
    """Mean over height and width."""

    def forward(self, x_BCHW: Tensor, plan: LayerPlan) -> Tensor:
        """Return (B, C, 1, 1)."""
        return x_BCHW.mean((2, 3), keepdim=True)

    def forward_masked(self, x_BCHW: Tensor, filters_B: Tensor, kernels_B: Tensor) -> Tensor:
        """Return (B, C, 1, 1)."""
        return x_BCHW.mean((2, 3), keepdim=True)

    def sliced(self, plan: LayerPlan) -> dict[str, Tensor]:
        """Return no weights."""
        return {}


ElasticLayer = ElasticConv | ElasticSqueezeExcite | ElasticLinear | ElasticPool


def elastic_layer(plan: LayerPlan) -> ElasticLayer:
    """Return the elastic layer for a layer at its full size."""
    match plan.spec.kind:
        case "squeeze_excite":
            return ElasticSqueezeExcite(plan)
        case "pool":
            return ElasticPool()
        case "linear":
            return ElasticLinear(plan)
        case _:
            return ElasticConv(plan)


def _keeps(channels: int, filters_B: Tensor) -> Tensor:
    """Return (B, channels, 1, 1): whether an image keeps a channel."""
    return (torch.arange(channels, device=filters_B.device)[None] < filters_B[:, None])[:, :, None, None]
