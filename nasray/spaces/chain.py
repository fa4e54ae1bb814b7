"""Search space of layer chains: slots that are on or off, first on maps, then on vectors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from nasray.architecture import Architecture, Choice
from nasray.spaces.chain_plan import ChainLayer, ChainPlan, chain_layers
from nasray.spaces.chain_slot import FEATURE_GENES, HEAD_GENES, USED_GENES, ChainSlot
from nasray.spaces.space import SearchSpace

_MAX_SLOTS = 100

Pair = tuple[str, Choice]
NamedSlots = list[tuple[str, ChainSlot]]
"""Slots that are on, each with its number."""


class ChainSpace(SearchSpace):
    """All chains of up to 32 layers and a linear classifier.

    The first 16 slots hold convolutions, inception modules, pools, activations and dropout; the last 16 linear
    (inner-product) layers, activations and dropout. Choices are `slot.gene`; `slot.kind` says which of the slot's
    other genes are read (`USED_GENES`), "off" turns the slot off. Any combination is a genome. The canonical form
    moves the slots that are on to the front of their half, fits kernels to the maps they meet, and resets what makes
    no difference, so that spellings of one network share an `arch_id`. Layers that repeat each other's work, as two
    ReLUs in a row, stay. The name holds the resolution, since what fits depends on it.

    Not every network can be trained: `plan` says so of one that exceeds a limit, as the `largest` may.

    Source: Young et al. 2019, Sec. III-A (32 layers, kinds of layers, on and off) and Sec. IV (sequences whose shapes
    fit, rectangular kernels). Deviation: the paper gives no ranges, so options are ours (kernels to 7 x 7, while the
    paper mentions 20 x 3); so is the repair of kernels, the padding of (kernel - 1) // 2 or none, and flattening
    between the halves; batch norm follows convolutions unless switched off, since networks then learn
    in fewer epochs.

    Args:
        num_classes: Outputs of the classifier.
        in_channels: Channels of the input image.
        resolution: Side of the square input image, in pixels.
        num_feature_slots: Slots of the first half, before flattening.
        num_head_slots: Slots of the second half.
        batch_norm: Whether batch norm follows every convolution, in inception modules too. A network with it cannot
            train on a batch of one image.
        max_parameters: Largest number of learned numbers of a feasible network; guards flattening of large maps.
        max_macs: Largest number of multiply-adds of a feasible network.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int,
        resolution: int,
        num_feature_slots: int = 16,
        num_head_slots: int = 16,
        batch_norm: bool = True,
        max_parameters: int = 50_000_000,
        max_macs: int = 2_000_000_000,
    ) -> None:
        for setting, value, minimum in (
            ("num_classes", num_classes, 2),
            ("in_channels", in_channels, 1),
            ("resolution", resolution, 1),
            ("num_feature_slots", num_feature_slots, 1),
            ("num_head_slots", num_head_slots, 0),
            ("max_parameters", max_parameters, 1),
            ("max_macs", max_macs, 1),
        ):
            if value < minimum:
                raise ValueError(f"`{setting}` must be at least {minimum}, got {value}.")
        if num_feature_slots + num_head_slots > _MAX_SLOTS:
            raise ValueError(
                f"`num_feature_slots` + `num_head_slots` must be at most {_MAX_SLOTS}, "
                f"got {num_feature_slots} + {num_head_slots}."
            )
        self.name = f"chain-{resolution}" if batch_norm else f"chain-{resolution}-no-norm"
        self.num_classes, self.in_channels, self.resolution = num_classes, in_channels, resolution
        self.batch_norm, self.max_parameters, self.max_macs = batch_norm, max_parameters, max_macs
        numbers = [f"{index:02d}" for index in range(num_feature_slots + num_head_slots)]
        self.feature_slots, self.head_slots = tuple(numbers[:num_feature_slots]), tuple(numbers[num_feature_slots:])

    @cached_property
    def choices(self) -> Mapping[str, tuple[Choice, ...]]:
        """Options of each gene, ascending in what they cost, sorted by name."""
        genes = dict.fromkeys(self.feature_slots, FEATURE_GENES) | dict.fromkeys(self.head_slots, HEAD_GENES)
        return {f"{slot}.{gene}": genes[slot][gene] for slot in genes for gene in sorted(genes[slot])}

    def canonical(self, choices: Mapping[str, Choice]) -> Architecture:
        """Return the one architecture that stands for these choices.

        Slots that are on move to the front of their half; kernels are clipped to what fits; genes without effect take
        the value that `ChainSlot` names.

        Raises:
            ValueError: If a choice is missing, unknown, or not among its options.
        """
        features, head, _ = self._fitted(self._normalised(choices))
        genome = dict(self._blank)
        for number, slot in (*features, *head):
            for gene in ("kind", *USED_GENES[slot.kind]):
                name = f"{number}.{gene}"
                genome[name] = self._pairs[name][getattr(slot, gene)]
        return Architecture(self.name, tuple(genome.values()))

    def random(self, generator: np.random.Generator) -> Architecture:
        """Draw how many slots are on, fewer rather than many, then the rest.

        In the first half it is the smaller of two uniform numbers from 1 to all, in the second the smallest of three
        from 0 to all: deep chains of random layers seldom learn. Kinds of the slots that are on and all other
        genes are uniform. A pool that changes nothing where it stands is turned off by the
        canonical form. Not every architecture drawn is feasible.
        """
        # Few calls for all genes: drawing them one by one takes many times as long.
        indices = generator.integers(0, self._num_options).tolist()
        kinds = generator.integers(1, [len(self.choices[name]) for name in self._kinds]).tolist()
        depth = generator.integers(1, len(self.feature_slots) + 1, size=2).min()
        head_depth = generator.integers(0, len(self.head_slots) + 1, size=3).min()
        genes = {name: options[index] for (name, options), index in zip(self.choices.items(), indices, strict=True)}
        is_active = [index < depth for index in range(len(self.feature_slots))]
        is_active += [index < head_depth for index in range(len(self.head_slots))]
        for name, kind, is_on in zip(self._kinds, kinds, is_active, strict=True):
            genes[name] = self.choices[name][kind if is_on else 0]
        return self.canonical(genes)

    def plan(self, architecture: Architecture) -> ChainPlan:
        """Return the concrete network of an architecture of this space, canonical or not.

        The network is that of the canonical form; what had to be changed for it stands in `repairs`, which names the
        slots of the given genome. A network over a limit has an `infeasible_reason`.

        Raises:
            ValueError: If the architecture belongs to another space or is no genome of this one.
        """
        if architecture.space != self.name:
            raise ValueError(f"`architecture` must belong to space {self.name!r}, got {architecture.space!r}.")
        features, head, repairs = self._fitted(self._normalised(dict(architecture.items)))
        in_shape = (self.in_channels, self.resolution, self.resolution)
        layers = chain_layers(
            features, head, in_shape=in_shape, num_classes=self.num_classes, has_batch_norm=self.batch_norm
        )
        return ChainPlan(layers=layers, in_shape=in_shape, repairs=repairs, infeasible_reason=self._excess(layers))

    @cached_property
    def _pairs(self) -> dict[str, dict[Choice, Pair]]:
        """Name and value of each gene's options, by value; shared by all architectures to save memory."""
        return {name: {option: (name, option) for option in options} for name, options in self.choices.items()}

    @cached_property
    def _blank(self) -> dict[str, Pair]:
        """The genome with every slot off, sorted by name."""
        off = ChainSlot()
        return {name: pairs[getattr(off, name.partition(".")[2])] for name, pairs in self._pairs.items()}

    @cached_property
    def _kinds(self) -> list[str]:
        """Name of each slot's kind."""
        return [f"{number}.kind" for number in (*self.feature_slots, *self.head_slots)]

    @cached_property
    def _num_options(self) -> list[int]:
        return [len(options) for options in self.choices.values()]

    def _normalised(self, choices: Mapping[str, Choice]) -> Mapping[str, Any]:
        """Return the choices, checked, with each value as its option is spelled."""
        try:
            if len(choices) == len(self._pairs):
                return {name: pairs[choices[name]][1] for name, pairs in self._pairs.items()}
        except (KeyError, TypeError):
            pass
        return super().canonical(choices).choices  # says what is wrong

    def _fitted(self, genes: Mapping[str, Any]) -> tuple[NamedSlots, NamedSlots, tuple[str, ...]]:
        """Return the slots of both halves that remain, renumbered from the front, and what was repaired."""
        features: list[ChainSlot] = []
        repairs: list[str] = []
        size = (self.resolution, self.resolution)
        for number, slot in self._active(genes, self.feature_slots):
            fitted = slot.fitted(size)
            if fitted is not slot:
                repairs.extend(_repairs(number, slot, fitted))
            if fitted.kind != "off":
                features.append(fitted)
                size = fitted.out_size(size)
        head = [slot for _, slot in self._active(genes, self.head_slots)]
        return _numbered(self.feature_slots, features), _numbered(self.head_slots, head), tuple(repairs)

    @staticmethod
    def _active(genes: Mapping[str, Any], numbers: Iterable[str]) -> NamedSlots:
        """Return the slots that are on, without their idle genes."""
        return [
            (number, ChainSlot(kind=kind, **{gene: genes[f"{number}.{gene}"] for gene in USED_GENES[kind]}))
            for number in numbers
            if (kind := genes[f"{number}.kind"]) != "off"
        ]

    def _excess(self, layers: tuple[ChainLayer, ...]) -> str | None:
        """Return which limit a network exceeds."""
        parameters, macs = sum(layer.parameters for layer in layers), sum(layer.macs for layer in layers)
        if parameters > self.max_parameters:
            return f"{parameters} parameters, over `max_parameters` = {self.max_parameters}"
        return f"{macs} macs, over `max_macs` = {self.max_macs}" if macs > self.max_macs else None


def _numbered(numbers: tuple[str, ...], slots: list[ChainSlot]) -> NamedSlots:
    """Give the slots that are on the first numbers of their half."""
    return list(zip(numbers, slots, strict=False))


def _repairs(number: str, slot: ChainSlot, fitted: ChainSlot) -> list[str]:
    """Say what fitting changed that would not have computed the same."""
    if fitted.kind == "off":
        return [] if slot.kernel == (1, 1) else [f"slot {number}: pool of a single pixel left out"]
    if fitted.kernel == slot.kernel:
        return []
    before, after = ("x".join(map(str, kernel)) for kernel in (slot.kernel, fitted.kernel))
    return [f"slot {number}: {slot.kind} {before} clipped to {after}"]
