"""Settings of an MS-RANAS run."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from typing import Any, Literal

from nasray.data import ImageData
from nasray.differentiable.config import SearchConfig
from nasray.spaces.multi_scale_layout import MultiScaleSettings
from nasray.training.config import TrainingConfig

CostKind = Literal["macs", "latency", "energy"]
COSTS: dict[CostKind, str] = {"macs": "macs", "latency": "latency_ms", "energy": "energy_mj"}
"""What a search can be charged for, and its metric: multiply-adds in closed form, or what was measured here."""


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
        return f"{scales}, {exits}, cutout {self.cutout_px}, cost weight {_short(self.cost_weight)}"

    def trial_name(self, seed: int) -> str:
        """Return the name of the variant's trial with a seed: letters, digits, dots and dashes."""
        return f"s{self.scales}-e{self.exits}-c{self.cutout_px}-w{_short(self.cost_weight)}-seed{seed}"


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
        cost_target: What the network derived in the search's layout may take, in multiply-adds, ms or mJ, all exits
            together; it is charged for what is above. None charges for all.
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
        if self.cost_target is not None and not (0 < self.cost_target < math.inf and any(self.cost_weights)):
            raise ValueError(
                f"`cost-target` must be a positive number and come with a cost weight, got {self.cost_target}. "
                "Add --cost-weight 1."
            )
        finals = {variant.exits if self.final_exits is None else self.final_exits for variant in self.variants}
        if self.has_auxiliary and 1 not in finals:
            raise ValueError(
                "`auxiliary` must be left out if all final networks have several exits, which do its work."
            )
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
            scales=variant.scales if self.final_scales is None else self.final_scales,
            exits=variant.exits if self.final_exits is None else self.final_exits,
            channels=self.channels if self.final_channels is None else self.final_channels,
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


def _short(number: float) -> str:
    """Return a number as short as it can be told apart from any other."""
    text = f"{number:g}"
    return text if float(text) == number else repr(number)


def _json(values: dict[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
