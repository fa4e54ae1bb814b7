"""The concrete network that a chain genome stands for: every layer's shapes, parameters and multiply-adds."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from nasray.spaces.chain_slot import ChainKind, ChainSlot

CLASSIFIER = "classifier"
"""Name of the linear layer that ends every chain."""


class InceptionWidths(NamedTuple):
    """Output channels of the six convolutions of an inception module."""

    one: int
    three_reduce: int
    three: int
    five_reduce: int
    five: int
    pool: int

    @classmethod
    def of(cls, filters: int) -> InceptionWidths:
        """Divide a width, a multiple of 8, over the branches as GoogLeNet's module 3a does its 256 channels.

        Source: Szegedy et al. 2015, Table 1 (3a: 64, 96 to 128, 16 to 32, 32). Deviation: other widths in the same
        ratio, fractions rounded up.
        """
        return cls(filters // 4, filters * 3 // 8, filters // 2, -(-filters // 16), filters // 8, filters // 8)


@dataclass(frozen=True, kw_only=True)
class ChainLayer:
    """One layer as it will be built.

    Args:
        name: Number of its slot in the canonical genome, or `classifier`.
        slot: Its genes, which fit.
        in_shape: (C, H, W) in the first half, (N,) after flattening; of one image.
        has_batch_norm: Whether its convolutions are followed by batch norm instead of having a bias.
    """

    name: str
    slot: ChainSlot
    in_shape: tuple[int, ...]
    has_batch_norm: bool = False

    @property
    def kind(self) -> ChainKind:
        """What the layer computes."""
        return self.slot.kind

    @property
    def out_shape(self) -> tuple[int, ...]:
        """(C, H, W) or (N,) of one image."""
        match self.kind:
            case "linear":
                return (self.slot.units,)
            case "conv" | "inception" | "pool":
                channels, height, width = self.in_shape
                size = self.slot.out_size((height, width))
                return (channels if self.kind == "pool" else self.slot.filters, *size)
            case _:
                return self.in_shape

    @property
    def parameters(self) -> int:
        """Learned numbers: weights, biases, batch-norm scale and shift."""
        if self.kind == "linear":
            return self.slot.units * (self.in_shape[0] + 1)
        extra = 2 if self.has_batch_norm else 1
        return sum(filters * (fan_in + extra) for fan_in, filters in self._convolutions)

    @property
    def macs(self) -> int:
        """Multiply-adds for one image; convolutions and linear layers only."""
        if self.kind == "linear":
            return self.slot.units * self.in_shape[0]
        num_positions = math.prod(self.out_shape[1:])
        return num_positions * sum(filters * fan_in for fan_in, filters in self._convolutions)

    @property
    def _convolutions(self) -> list[tuple[int, int]]:
        """Inputs per output and output channels of each convolution in the layer."""
        if self.kind == "conv":
            return [(self.in_shape[0] * math.prod(self.slot.kernel), self.slot.filters)]
        if self.kind != "inception":
            return []
        channels, widths = self.in_shape[0], InceptionWidths.of(self.slot.filters)
        return [
            (channels, widths.one),
            (channels, widths.three_reduce),
            (widths.three_reduce * 9, widths.three),
            (channels, widths.five_reduce),
            (widths.five_reduce * 25, widths.five),
            (channels, widths.pool),
        ]


@dataclass(frozen=True, kw_only=True)
class ChainPlan:
    """A whole chain as it will be built.

    Args:
        layers: In order of computation; the classifier comes last. Where the shape turns from (C, H, W) to (N,), the
            map is flattened.
        in_shape: (C, H, W) of one image.
        repairs: What was changed in the genome so that shapes fit; empty for a canonical genome.
        infeasible_reason: Why the network must not be built, or None.
    """

    layers: tuple[ChainLayer, ...]
    in_shape: tuple[int, int, int]
    repairs: tuple[str, ...] = ()
    infeasible_reason: str | None = None

    @property
    def is_feasible(self) -> bool:
        """Whether the network may be built."""
        return self.infeasible_reason is None

    @cached_property
    def macs(self) -> int:
        """Multiply-adds for one image; convolutions and linear layers."""
        return sum(layer.macs for layer in self.layers)

    @cached_property
    def parameters(self) -> int:
        """Learned numbers of the network."""
        return sum(layer.parameters for layer in self.layers)


def chain_layers(
    features: Iterable[tuple[str, ChainSlot]],
    head: Iterable[tuple[str, ChainSlot]],
    *,
    in_shape: tuple[int, int, int],
    num_classes: int,
    has_batch_norm: bool,
) -> tuple[ChainLayer, ...]:
    """Chain fitted slots up, flatten between the halves, and add the classifier.

    Args:
        features: Name and genes of the layers before flattening.
        head: Name and genes of the layers after it.
        in_shape: (C, H, W) of one image.
        num_classes: Outputs of the classifier.
        has_batch_norm: Whether batch norm follows convolutions.
    """
    layers: list[ChainLayer] = []
    shape: tuple[int, ...] = in_shape
    for name, slot in features:
        layers.append(ChainLayer(name=name, slot=slot, in_shape=shape, has_batch_norm=has_batch_norm))
        shape = layers[-1].out_shape
    shape = (math.prod(shape),)
    for name, slot in (*head, (CLASSIFIER, ChainSlot(kind="linear", units=num_classes))):
        layers.append(ChainLayer(name=name, slot=slot, in_shape=shape))
        shape = layers[-1].out_shape
    return tuple(layers)
