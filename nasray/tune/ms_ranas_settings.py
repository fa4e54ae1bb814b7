"""Settings of an MS-RANAS run, and the presets that fill them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from typing import Any, Literal

from nasray.data import ImageData
from nasray.differentiable.config import SearchConfig
from nasray.spaces.multi_scale_layout import MultiScaleSettings
from nasray.training.config import TrainingConfig

CostKind = Literal["macs", "latency", "energy"]
COSTS = ("macs", "latency", "energy")
"""What a search can be charged for: multiply-adds in closed form, or a table of latencies or energies measured here."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to search: all that a search differs in from the others of its run, but the seed."""

    scales: int
    exits: int
    cutout_px: int
    cost_weight: float

    @property
    def label(self) -> str:
        """What people read: only letters, digits, dots and spaces."""
        scales = "1 scale" if self.scales == 1 else f"{self.scales} scales"
        exits = "1 exit" if self.exits == 1 else f"{self.exits} exits"
        return f"{scales}, {exits}, cutout {self.cutout_px}, cost weight {self.cost_weight:g}"

    def trial_name(self, seed: int) -> str:
        """Return the name of the variant's trial with a seed: letters, digits, dots and dashes."""
        return f"s{self.scales}-e{self.exits}-c{self.cutout_px}-w{self.cost_weight:g}-seed{seed}"


@dataclass(frozen=True, kw_only=True)
class MSRanasSettings:
    """Everything that decides what a run computes; where it runs is not in here.

    A search is made for every combination of scales, exits, cutout and cost weight, with every seed.

    Args:
        num_nodes: Intermediate nodes of a cell, 2 or 4.
        layers: Layers of cells, in search and final training.
        channels: C of the first layer in the search.
        final_channels: C of the first layer in the final training; None for that of the search.
        scales: Scales of a search.
        exits: Exits of a search; None for one after every layer but the first.
        cutouts_px: Side of the square that is cut out of training images in a search; 0 cuts nothing.
        cost_weights: Weight of the expected cost beside the cross entropy; 0 searches for accuracy alone.
        cost: What is charged for.
        cost_target: What is free of charge, in multiply-adds, ms or mJ; None charges for all.
        halving: Of so many searches that reach a third of their epochs, and so many times that, one goes on; None lets
            all run to their end.
        search: Recipe of the searches.
        final: Recipe of the found networks and what they are compared with.
        final_scales: Scales in the final training; None for those of the search.
        final_exits: Exits in the final training; None for those of the search.
        final_cutout_px: Cutout of the final training; None for that of the search.
        drop_path: Probability to which drop path rises in the final training.
        has_auxiliary: Whether a final network with one exit trains with an auxiliary head.
        num_random: Random architectures of about the cost of each found network.
        has_msdnet: Whether an MSDNet of about the cost of the found networks is trained.
        latency_device: Where latencies and energies are measured, cpu (one thread) or cuda.
        max_train: Most training images to use; None for all.

    Raises:
        ValueError: If a number is out of range or a value is repeated.
    """

    num_nodes: int = 2
    layers: int = 7
    channels: int = 16
    final_channels: int | None = None
    scales: tuple[int, ...] = (3,)
    exits: tuple[int | None, ...] = (None,)
    cutouts_px: tuple[int, ...] = (16,)
    cost_weights: tuple[float, ...] = (0.0,)
    cost: CostKind = "macs"
    cost_target: float | None = None
    halving: float | None = None
    search: SearchConfig = field(default_factory=SearchConfig)
    final: TrainingConfig
    final_scales: int | None = None
    final_exits: int | None = None
    final_cutout_px: int | None = None
    drop_path: float = 0.0
    has_auxiliary: bool = False
    num_random: int = 1
    has_msdnet: bool = True
    latency_device: str = "cpu"
    max_train: int | None = None

    def __post_init__(self) -> None:
        for name in ("scales", "exits", "cutouts_px", "cost_weights"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ValueError(f"`{name}` must be at least one value, none twice, got {list(values)}.")
        if self.cost not in COSTS:
            raise ValueError(f"`cost` must be one of {', '.join(COSTS)}, got {self.cost!r}.")
        for name, numbers in (("cost-weight", self.cost_weights), ("cutout", self.cutouts_px)):
            if not all(0 <= number < math.inf for number in numbers):
                raise ValueError(f"`{name}` must be finite and at least 0, got {list(numbers)}.")
        if not 0 <= self.drop_path < 1:
            raise ValueError(f"`drop-path` must be in [0, 1), got {self.drop_path}. 0 switches drop path off.")
        if self.halving is not None and not 1 < self.halving < math.inf:
            raise ValueError(f"`halving` must be above 1, got {self.halving}. With 3, one of three searches goes on.")
        if self.num_random < 0:
            raise ValueError(f"`random` must be at least 0, got {self.num_random}. 0 trains no random architecture.")

    @property
    def variants(self) -> tuple[Variant, ...]:
        """Every way to search, in the order of the options."""
        exits = [self.layers - 1 if exit is None else exit for exit in self.exits]
        return tuple(
            Variant(scales=scales, exits=exit, cutout_px=cutout_px, cost_weight=weight)
            for scales, exit, cutout_px, weight in product(self.scales, exits, self.cutouts_px, self.cost_weights)
        )

    def search_layout(self, variant: Variant, data: ImageData) -> MultiScaleSettings:
        """Return the layout of a variant's relaxed network.

        Raises:
            ValueError: If the numbers do not fit each other.
        """
        return self._layout(data, scales=variant.scales, exits=variant.exits, channels=self.channels)

    def final_layout(self, variant: Variant, data: ImageData) -> MultiScaleSettings:
        """Return the layout in which what a variant finds is trained.

        Raises:
            ValueError: If the numbers do not fit each other.
        """
        layout = self._layout(
            data,
            scales=self.final_scales or variant.scales,
            exits=self.final_exits or variant.exits,
            channels=self.final_channels or self.channels,
        )
        return replace(layout, has_auxiliary=self.has_auxiliary and layout.exits == 1)

    def final_cutout(self, variant: Variant) -> int:
        """Return the cutout with which what a variant finds is trained, in pixels."""
        return variant.cutout_px if self.final_cutout_px is None else self.final_cutout_px

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON."""
        lists = {name: list(getattr(self, name)) for name in ("scales", "exits", "cutouts_px", "cost_weights")}
        return asdict(self) | lists | {"search": _json(asdict(self.search))}

    def _layout(self, data: ImageData, *, scales: int, exits: int, channels: int) -> MultiScaleSettings:
        return MultiScaleSettings(
            num_nodes=self.num_nodes,
            scales=scales,
            layers=self.layers,
            exits=exits,
            channels=channels,
            num_classes=data.num_classes,
            in_channels=data.channels,
            resolution=data.resolution,
        )


def _json(values: dict[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def sgd_recipe(*, epochs: int, batch_size: int, learning_rate: float = 0.025) -> TrainingConfig:
    """Return the final training of DARTS: SGD, cosine to 0, weight decay 3e-4, gradients clipped at 5.

    Source: Liu et al. 2019 (DARTS), Sec. 3.1 and appendix A.2. Deviation: none.
    """
    return TrainingConfig(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        reference_batch=batch_size,
        optimizer="sgd",
        schedule="cosine",
        weight_decay=3e-4,
        ema_decay=0.0,
        gradient_clip=5.0,
    )


def _quick() -> MSRanasSettings:
    """A few minutes on two cores; rates are raised so that few steps on few images go somewhere."""
    return MSRanasSettings(
        channels=8,
        exits=(4,),
        cutouts_px=(0,),
        search=SearchConfig(epochs=15, batch_size=64, learning_rate=0.05, alpha_learning_rate=6e-3),
        final=sgd_recipe(epochs=30, batch_size=64, learning_rate=0.05),
        num_random=2,
        max_train=5000,
    )


def _paper_cifar10() -> MSRanasSettings:
    """The search and training behind Fig. 9: three scales, seven layers, two nodes, cutout, six exits.

    The paper follows DARTS in all else: 50 epochs of search at batch 64 and 16 channels, 600 of training at batch 96,
    drop path up to 0.2. Its final number of channels, chosen so that the network has about the parameters of MSDNet, is
    not published; with 56 most genotypes come near it (2.0M to 3.3M, MSDNet has 2.99M).
    """
    return MSRanasSettings(
        final_channels=56, search=SearchConfig(order=2), final=sgd_recipe(epochs=600, batch_size=96), drop_path=0.2
    )


def _ablation() -> MSRanasSettings:
    """The searches behind Fig. 4: five layers, four nodes, with and without cutout, early exits and more scales.

    What they find is trained with one scale and one exit, without cutout; for Fig. 5, give --final-scales and
    --final-exits.
    """
    return replace(
        _paper_cifar10(),
        num_nodes=4,
        layers=5,
        final_channels=None,
        scales=(1, 2, 3),
        exits=(1, None),
        cutouts_px=(0, 16),
        final_scales=1,
        final_exits=1,
        final_cutout_px=0,
        num_random=0,
        has_msdnet=False,
    )


PRESETS: dict[str, Callable[[], MSRanasSettings]] = {
    "quick": _quick,
    "paper-cifar10": _paper_cifar10,
    "paper-cifar100": _paper_cifar10,  # the same recipe: classes and images come with the data
    "ablation": _ablation,
}
