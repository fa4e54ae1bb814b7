"""The concrete network that an architecture stands for: every layer's channels, kernel and size.

The plan is the one place where the channel-level bypass rule is applied. Networks are built from it, costs are
counted from it, and reports draw it, so that they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

from nasray.spaces.network_spec import BlockSpec, LayerSpec, NetworkSpec


@dataclass(frozen=True, kw_only=True)
class LayerPlan:
    """One layer as it will be built.

    Args:
        spec: The layer at its full size.
        name: `block.layer`.
        in_channels: C, channels that arrive.
        filters: M, filters that remain (of a depthwise layer at most C).
        kernel: Side of the remaining kernel.
        in_size: Side of the input in pixels.

    Source: Yang et al. 2021, Sec. 2.2 and appendix C. Deviation: none.
    """

    spec: LayerSpec
    name: str
    in_channels: int
    filters: int
    kernel: int
    in_size: int

    @property
    def bypass_end(self) -> int:
        """min(C, T): input channels from `filters` up to this one are bypassed."""
        limit = self.spec.bypass_limit
        return self.in_channels if limit is None else min(self.in_channels, limit)

    @property
    def bypassed_channels(self) -> int:
        """How many input channels go around the layer."""
        return max(0, self.bypass_end - self.filters) if self.spec.kind in ("conv", "depthwise") else 0

    @property
    def out_channels(self) -> int:
        """Z = max(min(C, T), M) of a convolution; C of a squeeze-and-excitation or a pool."""
        if self.spec.kind in ("squeeze_excite", "pool"):
            return self.in_channels
        return self.filters + self.bypassed_channels

    @property
    def out_size(self) -> int:
        """Side of the output in pixels ("same" padding)."""
        return 1 if self.spec.kind == "pool" else -(-self.in_size // self.spec.stride)

    @property
    def macs(self) -> int:
        """Multiply-adds for one image; convolutions and linear layers only, bypasses are free."""
        match self.spec.kind:
            case "conv":
                return self.filters * self.in_channels * self.kernel**2 * self.out_size**2
            case "depthwise":
                return self.filters * self.kernel**2 * self.out_size**2
            case "squeeze_excite":
                return 2 * self.filters * self.in_channels
            case "linear":
                return self.filters * self.in_channels
            case _:
                return 0

    @property
    def parameters(self) -> int:
        """Learned numbers: weights, biases, batch-norm scale and shift."""
        extra = self.filters * (2 if self.spec.has_batch_norm else 1)
        match self.spec.kind:
            case "conv":
                return self.filters * self.in_channels * self.kernel**2 + extra
            case "depthwise":
                return self.filters * self.kernel**2 + extra
            case "squeeze_excite":
                return 2 * self.filters * self.in_channels + self.filters + self.in_channels
            case "linear":
                return self.filters * (self.in_channels + 1)
            case _:
                return 0


@dataclass(frozen=True, kw_only=True)
class BlockPlan:
    """A block as it will be built.

    Args:
        spec: The block at its full size.
        layers: Its layers; empty when the block is removed.
        in_channels: Channels that arrive.
        is_removed: Whether every convolution of a residual block has width 0: the block is then the identity, and
            adding its bypassed input to itself would only double it.
    """

    spec: BlockSpec
    layers: tuple[LayerPlan, ...]
    in_channels: int
    is_removed: bool

    @property
    def out_channels(self) -> int:
        """Channels that leave: of a residual block the wider of its two sides."""
        branch = self.layers[-1].out_channels if self.layers else self.in_channels
        return max(self.in_channels, branch) if self.spec.has_residual else branch


@dataclass(frozen=True)
class NetworkPlan:
    """A whole network as it will be built."""

    spec: NetworkSpec
    blocks: tuple[BlockPlan, ...]

    def layers(self) -> Iterator[LayerPlan]:
        """Yield the layers that are left, in order of computation."""
        for block in self.blocks:
            yield from block.layers

    @cached_property
    def macs(self) -> int:
        """Multiply-adds for one image; convolutions, linear layers and squeeze-and-excitation."""
        return sum(layer.macs for layer in self.layers())

    @cached_property
    def parameters(self) -> int:
        """Learned numbers of the network."""
        return sum(layer.parameters for layer in self.layers())


Size = Callable[[str, LayerSpec], int]


def plan_network(spec: NetworkSpec, *, width: Size, kernel: Size) -> NetworkPlan:
    """Apply the bypass rule from the input to the classifier.

    Args:
        spec: The initial network.
        width: Filters that remain in a layer, by its full name and spec.
        kernel: Kernel that remains in a layer, by its full name and spec.
    """
    blocks: list[BlockPlan] = []
    channels, size = spec.in_channels, spec.resolution
    for block in spec.blocks:
        planned = _plan_block(block, channels, size, width, kernel)
        channels = planned.out_channels
        size = planned.layers[-1].out_size if planned.layers else size
        blocks.append(planned)
    return NetworkPlan(spec, tuple(blocks))


def _plan_block(block: BlockSpec, channels: int, size: int, width: Size, kernel: Size) -> BlockPlan:
    names = [f"{block.name}.{layer.name}" for layer in block.layers]
    convolutions = [(n, s) for n, s in zip(names, block.layers, strict=True) if s.kind in ("conv", "depthwise")]
    if block.has_residual and all(width(name, layer) == 0 for name, layer in convolutions):
        return BlockPlan(spec=block, layers=(), in_channels=channels, is_removed=True)
    layers: list[LayerPlan] = []
    in_channels = channels
    for name, layer in zip(names, block.layers, strict=True):
        filters = width(name, layer)
        if layer.kind == "squeeze_excite" and filters == 0:
            continue
        planned = LayerPlan(
            spec=layer,
            name=name,
            in_channels=channels,
            filters=min(filters, channels) if layer.kind == "depthwise" else filters,
            kernel=kernel(name, layer),
            in_size=size,
        )
        channels, size = planned.out_channels, planned.out_size
        layers.append(planned)
    return BlockPlan(spec=block, layers=tuple(layers), in_channels=in_channels, is_removed=False)
