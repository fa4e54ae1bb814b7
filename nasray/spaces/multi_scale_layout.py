"""Where the cells of a multi-scale network stand, what feeds what, and where its classifiers are.

A position is a layer and a scale. Scale 0 has the size of the input, every further scale half the side of the one
before. Layer -1 is the stem, which makes all scales; the cells follow from layer 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

from nasray.spaces.genotype import NODE_COUNTS

MAX_SCALES = 3
MOST_LAYERS, MOST_CHANNELS = 1000, 1_000_000
"""More would be a mistake, or a file that is made to fill the memory."""
AUXILIARY_STRIDES = {"cifar": 3, "imagenet": 2}
"""Stride of the pooling in the auxiliary head, by kind of stem."""

_FIRST_STEM = -2
_AUXILIARY_POOL = 5

StemKind = Literal["cifar", "imagenet"]


class Position(NamedTuple):
    """A place in the grid of layers and scales; sorted, positions are in an order of computation."""

    layer: int
    scale: int


@dataclass(frozen=True, kw_only=True)
class MultiScaleSettings:
    """All of a multi-scale network but its cells.

    With one scale and one exit it is the network of DARTS.

    Args:
        num_nodes: Intermediate nodes of a cell, 2 or 4.
        scales: Scales, 1 to 3.
        layers: Layers of cells, 3 to 1,000; those at one and two thirds are reductions.
        exits: Classifiers; they stand after the last layer and evenly spread over those before, the first excluded.
        channels: C of the first layer's cells at every scale, at least 4; each reduction doubles it.
        num_classes: K, outputs of a classifier.
        in_channels: Channels of the input image.
        resolution: Side of the square input image, in pixels.
        stem: "cifar" keeps the resolution and gives 3C channels, "imagenet" divides it by 8 and gives C.
        has_auxiliary: Whether a second classifier hangs at the second reduction while training.

    Raises:
        ValueError: If a number is out of range, or an option does not fit the others.

    Source: Cioflan and Timofte 2020 (MS-RANAS), Sec. 3.2 and Fig. 3; Liu et al. 2019 (DARTS), Sec. 2.1, 3.1 and
    published code. Deviation: MS-RANAS publishes no code and leaves open the following. The stem is the layer that
    makes the scales, on its features and not on those of a cell, and is not counted as a layer, as in DARTS. Of a
    cell's two inputs, the one from the previous layer is the concatenation, to which the diagonal and the horizontal
    convolution give half of the channels each; the one from the layer before that is a horizontal convolution alone.
    Diagonal and vertical convolutions are DARTS's own strided one, `FactorizedReduce`. All scales of a layer have
    equal channels. Cells that no classifier depends on are left out.
    """

    num_nodes: int = 4
    scales: int = 1
    layers: int = 20
    exits: int = 1
    channels: int = 36
    num_classes: int = 10
    in_channels: int = 3
    resolution: int = 32
    stem: StemKind = "cifar"
    has_auxiliary: bool = False

    def __post_init__(self) -> None:
        if self.num_nodes not in NODE_COUNTS:
            raise ValueError(f"`num_nodes` must be one of {NODE_COUNTS}, got {self.num_nodes}.")
        if not 1 <= self.scales <= MAX_SCALES:
            raise ValueError(f"`scales` must be from 1 to {MAX_SCALES}, got {self.scales}.")
        for name, lowest in (("layers", 3), ("channels", 4), ("num_classes", 1), ("in_channels", 1), ("resolution", 1)):
            if getattr(self, name) < lowest:
                raise ValueError(f"`{name}` must be at least {lowest}, got {getattr(self, name)}.")
        for name, most in (("layers", MOST_LAYERS), ("channels", MOST_CHANNELS), ("num_classes", MOST_CHANNELS)):
            if getattr(self, name) > most:
                raise ValueError(f"`{name}` must be at most {most}, got {getattr(self, name)}.")
        if max(self.in_channels, self.resolution) > MOST_CHANNELS:
            raise ValueError(f"`in_channels` and `resolution` must be at most {MOST_CHANNELS}, got more.")
        if not 1 <= self.exits < self.layers:
            raise ValueError(
                f"`exits` must be from 1 to {self.layers - 1}, got {self.exits}. There is one exit at most after each "
                f"of the {self.layers} layers but the first."
            )
        if self.stem not in AUXILIARY_STRIDES:
            raise ValueError(f"`stem` must be one of {', '.join(AUXILIARY_STRIDES)}, got {self.stem!r}.")
        if self.stem == "imagenet" and self.scales > 1:
            raise ValueError(f"`scales` must be 1 with the stem 'imagenet', got {self.scales}. Use the stem 'cifar'.")
        if self.has_auxiliary:
            self._check_auxiliary()

    @property
    def reductions(self) -> tuple[int, int]:
        """Layers whose cells halve the resolution and double the channels."""
        return self.layers // 3, 2 * self.layers // 3

    @cached_property
    def exit_layers(self) -> tuple[int, ...]:
        """Layer of each exit, ascending; the last is the last layer."""
        if self.exits == 1:
            return (self.layers - 1,)
        spread = (self.layers - 2) / (self.exits - 1)
        return tuple(1 + round(index * spread) for index in range(self.exits))

    @property
    def auxiliary_position(self) -> Position:
        """Where the auxiliary head hangs."""
        return Position(self.reductions[1], self.scales - 1)

    def exit_position(self, exit: int) -> Position:
        """Return where an exit hangs: on the coarsest scale. Exits count from 1.

        Raises:
            ValueError: If there is no such exit.
        """
        if not 1 <= exit <= self.exits:
            raise ValueError(f"`exit` must be from 1 to {self.exits}, got {exit}.")
        return Position(self.exit_layers[exit - 1], self.scales - 1)

    def inputs(self, position: Position) -> tuple[Position, ...]:
        """Return what a position reads.

        Of a cell: the same scale two layers back, the same scale one layer back, and, below scale 0, the next finer
        scale one layer back. Of a stem: the stem before it; none for the first, which reads the image.
        """
        layer, scale = position
        if layer >= 0:
            finer = (Position(layer - 1, scale - 1),) if scale else ()
            return (self._stem_or(Position(layer - 2, scale)), Position(layer - 1, scale), *finer)
        if scale:
            return (Position(layer, scale - 1),)
        return (Position(_FIRST_STEM, 0),) if self.stem == "imagenet" and layer != _FIRST_STEM else ()

    def needed(self, exit: int) -> tuple[Position, ...]:
        """Return all positions that an exit depends on, in order of computation. Exits count from 1."""
        return self._closure(self.exit_position(exit))

    @cached_property
    def positions(self) -> tuple[Position, ...]:
        """All positions of the network, in order of computation: what any exit depends on."""
        return tuple(sorted({position for exit in range(1, self.exits + 1) for position in self.needed(exit)}))

    def to_drawing(self) -> dict[str, object]:
        """Return what `nasray.report.genotype_drawing.draw_layout` draws: layers, scales, cells, sides and exits."""
        return {
            "layers": self.layers,
            "scales": self.scales,
            "reductions": list(self.reductions),
            "exit_layers": list(self.exit_layers),
            "positions": [
                {
                    "layer": position.layer,
                    "scale": position.scale,
                    "side": self.side(position),
                    "inputs": [list(source) for source in dict.fromkeys(self.inputs(position))],
                }
                for position in self.positions
            ],
        }

    def is_reduction(self, layer: int) -> bool:
        """Return whether the cells of a layer halve the resolution."""
        return layer in self.reductions

    def is_after_halving(self, layer: int) -> bool:
        """Return whether a cell of this layer reads, two layers back, something twice the size of its other input."""
        return self.is_reduction(layer - 1) or (layer == 0 and self.stem == "imagenet")

    def cell_channels(self, layer: int) -> int:
        """Return the channels of each node of the layer's cells."""
        return self.channels << sum(reduction <= layer for reduction in self.reductions)

    def width(self, position: Position) -> int:
        """Return the channels that leave a position."""
        if position.layer >= 0:
            return self.num_nodes * self.cell_channels(position.layer)
        if self.stem == "cifar":
            return 3 * self.channels
        return self.channels

    def side(self, position: Position) -> int:
        """Return the side, in pixels, of what leaves a position."""
        halvings = position.scale + sum(reduction <= position.layer for reduction in self.reductions)
        if self.stem == "imagenet":
            halvings += 2 if position.layer == _FIRST_STEM else 3
        return -(-self.resolution >> halvings)

    def _stem_or(self, position: Position) -> Position:
        """Return the position, or the one stem of a CIFAR network for the one before it."""
        if self.stem == "cifar" and position.layer == _FIRST_STEM:
            return position._replace(layer=-1)
        return position

    def _closure(self, position: Position) -> tuple[Position, ...]:
        found: set[Position] = set()
        pending = [position]
        while pending:
            current = pending.pop()
            if current not in found:
                found.add(current)
                pending += self.inputs(current)
        return tuple(sorted(found))

    def _check_auxiliary(self) -> None:
        if self.exits > 1:
            raise ValueError(f"`has_auxiliary` must be False with several exits, got {self.exits} exits.")
        stride, side = AUXILIARY_STRIDES[self.stem], self.side(self.auxiliary_position)
        lowest = _AUXILIARY_POOL + stride
        if not lowest <= side < lowest + stride:
            raise ValueError(
                f"`has_auxiliary` must be False unless the second reduction gives {lowest} to {lowest + stride - 1} "
                f"pixels a side, got {side}. Drop the auxiliary head or change the resolution."
            )
