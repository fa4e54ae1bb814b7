"""The concrete multi-scale network of a genotype, and what each of its exits costs in closed form."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from nasray.spaces.genotype import NUM_INPUTS, Genotype
from nasray.spaces.multi_scale_costs import (
    Convolution,
    convolution_norm,
    linear,
    operation_convolutions,
    total_macs,
    total_parameters,
)
from nasray.spaces.multi_scale_layout import MultiScaleSettings, Position


@dataclass(frozen=True, kw_only=True)
class MultiScalePlan:
    """A genotype's cells in the layout of the settings.

    Args:
        genotype: The two cells.
        settings: Everything else.

    Raises:
        ValueError: If the genotype's cells have another number of nodes than the settings say.
    """

    genotype: Genotype
    settings: MultiScaleSettings

    def __post_init__(self) -> None:
        if self.genotype.num_nodes != self.settings.num_nodes:
            raise ValueError(
                f"`genotype` must have {self.settings.num_nodes} nodes in a cell as the settings say, got "
                f"{self.genotype.num_nodes}. Change `num_nodes`."
            )

    @property
    def macs(self) -> int:
        """Multiply-adds of the last exit for one image: what a prediction of the whole network costs."""
        return self.exit_macs(self.settings.exits)

    @cached_property
    def parameters(self) -> int:
        """Learned numbers of all exits together; the auxiliary head, which does not predict, is left out."""
        exits = range(1, self.settings.exits + 1)
        return total_parameters(
            [*self._convolutions(self.settings.positions), *(part for exit in exits for part in self._classifier(exit))]
        )

    def exit_macs(self, exit: int) -> int:
        """Return the multiply-adds of one image to an exit and to no other. Exits count from 1."""
        return total_macs([*self._convolutions(self.settings.needed(exit)), *self._classifier(exit)])

    def cumulative_macs(self, exit: int) -> int:
        """Return the multiply-adds of one image that tries every exit up to this one. Exits count from 1."""
        exits = range(1, exit + 1)
        needed = {position for earlier in exits for position in self.settings.needed(earlier)}
        return total_macs(
            [*self._convolutions(needed), *(part for earlier in exits for part in self._classifier(earlier))]
        )

    def exit_parameters(self, exit: int) -> int:
        """Return the learned numbers that an exit uses. Exits count from 1."""
        return total_parameters([*self._convolutions(self.settings.needed(exit)), *self._classifier(exit)])

    def convolutions(self, position: Position) -> list[Convolution]:
        """Return the convolutions of what stands at a position."""
        return self._stem(position) if position.layer < 0 else self._cell(position)

    def _convolutions(self, positions: Iterable[Position]) -> list[Convolution]:
        return [convolution for position in positions for convolution in self.convolutions(position)]

    def _classifier(self, exit: int) -> list[Convolution]:
        return linear(self.settings.width(self.settings.exit_position(exit)), self.settings.num_classes)

    def _stem(self, position: Position) -> list[Convolution]:
        settings, inputs = self.settings, self.settings.inputs(position)
        width, side = settings.width(position), settings.side(position)
        if settings.stem == "cifar":
            if inputs:  # a vertical convolution
                return convolution_norm(settings.width(inputs[0]), width, side)
            return convolution_norm(settings.in_channels, width, side, 3)
        if inputs:
            return convolution_norm(width, width, side, 3)
        first = convolution_norm(settings.in_channels, width // 2, -(-settings.resolution // 2), 3)
        return [*first, *convolution_norm(width // 2, width, side, 3)]

    def _cell(self, position: Position) -> list[Convolution]:
        settings = self.settings
        channels, is_reduction = settings.cell_channels(position.layer), settings.is_reduction(position.layer)
        side = settings.side(position)
        found = self._cell_inputs(position, channels)
        for edges in self.genotype.cell(is_reduction=is_reduction):
            for operation, source in edges:
                stride = 2 if is_reduction and source < NUM_INPUTS else 1
                found += operation_convolutions(operation, channels, side, stride=stride)
        return found

    def _cell_inputs(self, position: Position, channels: int) -> list[Convolution]:
        """Return the horizontal and diagonal convolutions, all at the size of the previous layer."""
        settings = self.settings
        two_back, previous, *finer = settings.inputs(position)
        side, diagonal = settings.side(previous), channels // 2 if finer else 0
        found = convolution_norm(settings.width(two_back), channels, side)
        found += convolution_norm(settings.width(previous), channels - diagonal, side)
        return found + [part for below in finer for part in convolution_norm(settings.width(below), diagonal, side)]
