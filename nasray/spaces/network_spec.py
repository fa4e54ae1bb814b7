"""The initial network of a mobile search space, described without torch.

A network is a chain of blocks, a block a chain of layers with an optional residual connection around it. All sizes
here are the full ones: a search only ever shrinks them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["conv", "depthwise", "squeeze_excite", "pool", "linear"]
Activation = Literal["none", "relu", "relu6", "hard_swish", "silu"]


LARGEST_KERNEL, MOST_WIDTHS, MOST_CHANNELS = 99, 1000, 1_000_000
"""More would be a mistake, or a file that is made to fill the memory."""


@dataclass(frozen=True, kw_only=True)
class LayerSpec:
    """One layer at its full size.

    Args:
        name: Unique in its block.
        kind: What it computes. A pointwise layer is a `conv` with kernel 1.
        filters: Full width M: output filters; the bottleneck width of a `squeeze_excite`; classes of a `linear`;
            0 for a `pool` (global average).
        kernel: Full side of the square kernel, odd.
        stride: Spatial stride.
        bypass_limit: T of the channel-level bypass: how many input channels may be bypassed. `None` is infinity,
            0 switches the bypass off.
        activation: After batch norm; of a `squeeze_excite`, its inner one.
        has_batch_norm: Whether batch norm follows; a layer without it has a bias.
        is_elastic: Whether the search may shrink it.
        dropout: Probability of dropping an input of a `linear` in training.

    Source: T and Z of Yang et al. 2021, Sec. 2.2.
    """

    name: str
    kind: Kind
    filters: int = 0
    kernel: int = 1
    stride: int = 1
    bypass_limit: int | None = 0
    activation: Activation = "none"
    has_batch_norm: bool = True
    is_elastic: bool = True
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.kernel % 2 != 1 or not 1 <= self.kernel <= LARGEST_KERNEL:
            raise ValueError(
                f"`kernel` must be odd, from 1 to {LARGEST_KERNEL}, got {self.kernel} in layer {self.name!r}."
            )
        if max(self.filters, self.stride, self.bypass_limit or 0) > MOST_CHANNELS:
            raise ValueError(f"Layer {self.name!r} must have filters, stride and bypass_limit up to {MOST_CHANNELS}.")
        if self.filters < 0 or self.stride < 1 or (self.bypass_limit or 0) < 0:
            raise ValueError(f"Layer {self.name!r} must have filters >= 0, stride >= 1 and bypass_limit >= 0.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"`dropout` must be in [0, 1), got {self.dropout} in layer {self.name!r}.")


@dataclass(frozen=True, kw_only=True)
class BlockSpec:
    """A chain of layers, with or without a residual connection around it (zero-padded to the wider side)."""

    name: str
    layers: tuple[LayerSpec, ...]
    has_residual: bool = False

    def __post_init__(self) -> None:
        if self.has_residual and any(layer.stride != 1 for layer in self.layers):
            raise ValueError(f"Block {self.name!r} must have stride 1 to carry a residual connection.")


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """A whole initial network.

    Args:
        name: Name of the search space made from it.
        blocks: In order of computation; the last layer is the classifier.
        in_channels: Channels of the input image.
        resolution: Side of the square input image, in pixels.
        num_widths: How many uniformly spaced widths, 0 and the full one included, an elastic layer may take.
    """

    name: str
    blocks: tuple[BlockSpec, ...]
    in_channels: int = 3
    resolution: int
    num_widths: int = 9

    def __post_init__(self) -> None:
        if not 2 <= self.num_widths <= MOST_WIDTHS:
            raise ValueError(f"`num_widths` must be from 2 to {MOST_WIDTHS}, got {self.num_widths}.")
        if not (1 <= self.in_channels <= MOST_CHANNELS and 1 <= self.resolution <= MOST_CHANNELS):
            raise ValueError(
                f"`in_channels` and `resolution` must be from 1 to {MOST_CHANNELS}, got {self.in_channels} and "
                f"{self.resolution}."
            )
        names = [block.name for block in self.blocks]
        if len(set(names)) != len(names):
            raise ValueError(f"Block names of {self.name!r} must be unique, got {names}.")

    def layers(self) -> Iterator[tuple[str, LayerSpec]]:
        """Yield each layer with its full name, `block.layer`."""
        for block in self.blocks:
            for layer in block.layers:
                yield f"{block.name}.{layer.name}", layer
