"""The layers of a Multi-Scale DenseNet for CIFAR, and what each of its exits costs in closed form.

Layers and blocks count from 1 as in the paper, scales from 0, the finest.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from nasray.models.anytime import IMAGE, needed_parts
from nasray.spaces.multi_scale_costs import Convolution, linear, total_macs, total_parameters
from nasray.spaces.multi_scale_layout import MOST_CHANNELS, MOST_LAYERS

_REDUCTION = 0.5
"""Share of the channels that a transition keeps."""


@dataclass(frozen=True, kw_only=True)
class MSDNetSettings:
    """A Multi-Scale DenseNet with a classifier after every block.

    Args:
        blocks: Blocks, and so exits.
        base: Layers of the first block.
        step: Layers of every further block.
        channels: Channels of the first layer at scale 0; a scale has twice as many as the next finer one.
        growth: Channels that a layer adds at scale 0.
        scales: Scales that the first layer makes; a third of the way (for three scales) the finest is dropped.
        num_classes: K, outputs of a classifier.
        in_channels: Channels of the input image.
        resolution: Side of the square input image, in pixels.
        classifier_channels: Of the two convolutions of a classifier; 128 are published.

    Raises:
        ValueError: If a number is not positive, or there are fewer layers than scales.

    Source: Huang et al. 2018 (MSDNet), Sec. 4 and its published CIFAR code (bottlenecks 1-2-4, growth 6 x 1-2-4,
    transitions of 0.5, finest scales dropped at equal intervals). Deviation: classifiers pool over all pixels that are
    left, which is the same at 32x32.
    """

    blocks: int = 7
    base: int = 4
    step: int = 2
    channels: int = 16
    growth: int = 6
    scales: int = 3
    num_classes: int = 10
    in_channels: int = 3
    resolution: int = 32
    classifier_channels: int = 128

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 1 <= value <= MOST_CHANNELS:
                raise ValueError(f"`{name}` must be from 1 to {MOST_CHANNELS}, got {value}.")
        if self.num_layers > MOST_LAYERS or self.blocks > MOST_LAYERS:
            raise ValueError(f"`blocks` must make at most {MOST_LAYERS} layers, got {self.num_layers}.")
        if self.num_layers < self.scales:
            raise ValueError(
                f"`scales` must be at most the number of layers, {self.num_layers}, got {self.scales}. Add blocks."
            )

    @property
    def num_layers(self) -> int:
        """Layers of all blocks; the one that makes the scales is not counted."""
        return self.base + (self.blocks - 1) * self.step

    @property
    def exit_layers(self) -> tuple[int, ...]:
        """Layer of each exit."""
        return tuple(self.base + index * self.step for index in range(self.blocks))

    def finest(self, layer: int) -> int:
        """Return the finest scale that a layer gives."""
        interval = math.ceil(self.num_layers / self.scales)
        return max(0, layer - 1) // interval

    def side(self, scale: int) -> int:
        """Return the side of a scale, in pixels."""
        return -(-self.resolution >> scale)


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A convolution with batch norm and ReLU."""

    in_channels: int
    out_channels: int
    kernel: int = 3
    stride: int = 1
    side: int

    @property
    def convolution(self) -> Convolution:
        """The unit as something that costs."""
        return Convolution(self.in_channels, self.out_channels, self.kernel, self.side, extras=2)


@dataclass(frozen=True, kw_only=True)
class Part:
    """What stands at a layer and a scale, or at an exit.

    Args:
        name: Unique in the network.
        inputs: What it reads.
        branches: A chain of units for each of the inputs.
        kept: Which input is passed on in front of what the branches give; None for none.
        num_classes: Outputs of the linear layer behind; None where there is none.
    """

    name: str
    inputs: tuple[str, ...]
    branches: tuple[tuple[Unit, ...], ...]
    kept: int | None = None
    num_classes: int | None = None

    @property
    def convolutions(self) -> list[Convolution]:
        """All that costs."""
        found = [unit.convolution for branch in self.branches for unit in branch]
        return found if self.num_classes is None else found + linear(found[-1].out_channels, self.num_classes)


@dataclass(frozen=True)
class MSDNetPlan:
    """The parts of a Multi-Scale DenseNet in order of computation."""

    settings: MSDNetSettings

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """Every part of the network; all are needed by the last exit but the classifiers of the others."""
        settings, channels = self.settings, self.settings.channels
        found = [_first(settings, scale) for scale in range(settings.scales)]
        before = [part.name for part in found]
        for layer in range(1, settings.num_layers + 1):
            finest = settings.finest(layer)
            parts = [_layer(settings, layer, scale, channels, before) for scale in range(finest, settings.scales)]
            before = [""] * finest + [part.name for part in parts]
            found += parts
            channels += settings.growth
            if finest > settings.finest(layer - 1):
                kept = math.floor(channels * _REDUCTION)
                parts = [
                    _transition(settings, layer, scale, channels, kept, before[scale])
                    for scale in range(finest, settings.scales)
                ]
                before = [""] * finest + [part.name for part in parts]
                found += parts
                channels = kept
            if layer in settings.exit_layers:
                exit = settings.exit_layers.index(layer) + 1
                found.append(_classifier(settings, exit, channels << (settings.scales - 1), before[-1]))
        return tuple(found)

    @property
    def exits(self) -> tuple[str, ...]:
        """Names of the classifiers."""
        return tuple(f"exit_{exit}" for exit in range(1, self.settings.blocks + 1))

    @property
    def macs(self) -> int:
        """Multiply-adds of all exits together for one image: what is published."""
        return self.cumulative_macs(self.settings.blocks)

    @property
    def parameters(self) -> int:
        """Learned numbers of all exits together."""
        return total_parameters(self._convolutions(self.exits))

    def exit_macs(self, exit: int) -> int:
        """Return the multiply-adds of one image to an exit and to no other. Exits count from 1."""
        return total_macs(self._convolutions(self.exits[exit - 1 : exit]))

    def cumulative_macs(self, exit: int) -> int:
        """Return the multiply-adds of one image that tries every exit up to this one. Exits count from 1."""
        return total_macs(self._convolutions(self.exits[:exit]))

    def exit_parameters(self, exit: int) -> int:
        """Return the learned numbers that an exit uses. Exits count from 1."""
        return total_parameters(self._convolutions(self.exits[exit - 1 : exit]))

    def _convolutions(self, exits: Iterable[str]) -> list[Convolution]:
        wanted = set(needed_parts({part.name: part.inputs for part in self.parts}, exits))
        return [part for wanting in self.parts if wanting.name in wanted for part in wanting.convolutions]


def _first(settings: MSDNetSettings, scale: int) -> Part:
    in_channels = settings.channels << (scale - 1) if scale else settings.in_channels
    unit = Unit(
        in_channels=in_channels,
        out_channels=settings.channels << scale,
        stride=2 if scale else 1,
        side=settings.side(scale),
    )
    return Part(name=f"first_{scale}", inputs=(f"first_{scale - 1}" if scale else IMAGE,), branches=((unit,),))


def _layer(settings: MSDNetSettings, layer: int, scale: int, channels: int, before: list[str]) -> Part:
    """Return one scale of a layer: what it reads, passed on, and the channels that it adds.

    A scale with a finer one below it in the layer before gets half of the new channels from there.
    """
    name, side, growth = f"layer_{layer}_{scale}", settings.side(scale), settings.growth << scale
    if scale == settings.finest(layer - 1):
        same = _bottleneck(channels << scale, growth, scale, side, side, 1)
        return Part(name=name, inputs=(before[scale],), branches=(same,), kept=0)
    down = _bottleneck(channels << (scale - 1), growth // 2, scale - 1, settings.side(scale - 1), side, 2)
    same = _bottleneck(channels << scale, growth // 2, scale, side, side, 1)
    return Part(name=name, inputs=(before[scale - 1], before[scale]), branches=(down, same), kept=1)


def _bottleneck(
    in_channels: int, out_channels: int, scale: int, in_side: int, side: int, stride: int
) -> tuple[Unit, Unit]:
    """Return a 1x1 convolution to at most 1, 2, 4 times the outputs (by the scale read) and a 3x3 one."""
    inner = min(in_channels, out_channels << scale)
    return (
        Unit(in_channels=in_channels, out_channels=inner, kernel=1, side=in_side),
        Unit(in_channels=inner, out_channels=out_channels, stride=stride, side=side),
    )


def _transition(settings: MSDNetSettings, layer: int, scale: int, channels: int, kept: int, before: str) -> Part:
    unit = Unit(in_channels=channels << scale, out_channels=kept << scale, kernel=1, side=settings.side(scale))
    return Part(name=f"transition_{layer}_{scale}", inputs=(before,), branches=((unit,),))


def _classifier(settings: MSDNetSettings, exit: int, channels: int, before: str) -> Part:
    side = settings.side(settings.scales)
    width = settings.classifier_channels
    first = Unit(in_channels=channels, out_channels=width, stride=2, side=side)
    second = Unit(in_channels=width, out_channels=width, stride=2, side=-(-side // 2))
    return Part(name=f"exit_{exit}", inputs=(before,), branches=((first, second),), num_classes=settings.num_classes)
