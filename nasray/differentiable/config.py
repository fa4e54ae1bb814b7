"""How a differentiable search is run: the recipe's numbers, checked when they are given."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from nasray.differentiable.collapse import CollapseMonitor
from nasray.differentiable.relaxation import RELAXATIONS, Relaxation


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """The recipe of DARTS.

    Args:
        epochs: Passes over the weights' part of the training images.
        batch_size: Images of each of a step's two batches.
        order: 1 or 2, the approximation of the architecture's gradient.
        learning_rate: Of the weights in the first epoch; it falls along a cosine.
        final_learning_rate: Where the cosine would arrive after the last epoch.
        momentum: Of the weights' SGD.
        weight_decay: L2 penalty of the weights.
        gradient_clip: Largest norm of the weights' gradient; 0 for none.
        alpha_learning_rate: Of the architecture parameters' Adam.
        alpha_betas: Of the same.
        alpha_weight_decay: L2 penalty of the architecture parameters.
        frozen_epochs: Epochs at the beginning in which weights train alone; against cells of poolings and skip
            connections, which need no training to look good.
        weights_share: Share of the training images on which weights are trained; architecture parameters get the rest.
        relaxation: "softmax" or "gumbel".
        temperatures: Of the Gumbel-softmax in the first and in the last epoch, geometric between.
        monitor: Watches for collapse; None watches nothing.
        stops_at_collapse: Whether the search ends when the monitor warns.

    Raises:
        ValueError: If a number is out of range.

    Source: Liu et al. 2019 (DARTS), Sec. 3.1.1 and appendix A.1; Xu et al. 2020 (PC-DARTS), Sec. 4.2, for
    `frozen_epochs` (15 of 50 there). Deviation: none in the defaults but the monitor, which DARTS lacks and which only
    warns.
    """

    epochs: int = 50
    batch_size: int = 64
    order: int = 1
    learning_rate: float = 0.025
    final_learning_rate: float = 0.001
    momentum: float = 0.9
    weight_decay: float = 3e-4
    gradient_clip: float = 5.0
    alpha_learning_rate: float = 3e-4
    alpha_betas: tuple[float, float] = (0.5, 0.999)
    alpha_weight_decay: float = 1e-3
    frozen_epochs: int = 0
    weights_share: float = 0.5
    relaxation: Relaxation = "softmax"
    temperatures: tuple[float, float] = (5.0, 0.1)
    monitor: CollapseMonitor | None = field(default_factory=CollapseMonitor)
    stops_at_collapse: bool = False

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 2:
            raise ValueError(
                f"`epochs` must be at least 1 and `batch_size` at least 2, got {self.epochs} and {self.batch_size}."
            )
        if self.order not in (1, 2):
            raise ValueError(f"`order` must be 1 or 2, got {self.order}.")
        if not (self.learning_rate > 0 and self.alpha_learning_rate > 0):
            raise ValueError(
                "`learning_rate` and `alpha_learning_rate` must be positive, got "
                f"{self.learning_rate} and {self.alpha_learning_rate}."
            )
        if not 0 <= self.final_learning_rate <= self.learning_rate:
            raise ValueError(
                f"`final_learning_rate` must be from 0 to `learning_rate`, got {self.final_learning_rate}."
            )
        if not (0 <= self.momentum < 1 and all(0 <= beta < 1 for beta in self.alpha_betas)):
            raise ValueError(
                f"`momentum` and `alpha_betas` must be in [0, 1), got {self.momentum} and {self.alpha_betas}."
            )
        if min(self.weight_decay, self.alpha_weight_decay, self.gradient_clip) < 0:
            raise ValueError("`weight_decay`, `alpha_weight_decay` and `gradient_clip` must not be negative.")
        if not 0 <= self.frozen_epochs < self.epochs:
            raise ValueError(
                f"`frozen_epochs` must be from 0 to {self.epochs - 1}, below `epochs`, got {self.frozen_epochs}. "
                "A third of the epochs is usual."
            )
        if not 0 < self.weights_share < 1:
            raise ValueError(f"`weights_share` must be in (0, 1), got {self.weights_share}. DARTS takes 0.5.")
        if self.relaxation not in RELAXATIONS:
            raise ValueError(f"`relaxation` must be one of {', '.join(RELAXATIONS)}, got {self.relaxation!r}.")
        if min(self.temperatures) <= 0:
            raise ValueError(f"`temperatures` must be positive, got {self.temperatures}.")
        if self.stops_at_collapse and self.monitor is None:
            raise ValueError("`monitor` must be given for `stops_at_collapse`, got None.")

    def rate(self, epoch: int) -> float:
        """Return the weights' learning rate in an epoch, counted from 0."""
        share = (1 + math.cos(math.pi * epoch / self.epochs)) / 2
        return self.final_learning_rate + (self.learning_rate - self.final_learning_rate) * share

    def temperature(self, epoch: int) -> float:
        """Return the temperature of the Gumbel-softmax in an epoch, counted from 0."""
        first, last = self.temperatures
        return float(first * (last / first) ** (epoch / max(1, self.epochs - 1)))
