"""How a network is trained: the recipe's numbers, checked when they are given."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """One recipe, for supernet and final training alike.

    Args:
        epochs: Passes over the training images.
        batch_size: Images per optimizer step, over all workers together.
        learning_rate: Rate at a batch of `reference_batch` images; it scales linearly with the batch.
        reference_batch: Images per step for which the rate is meant.
        optimizer: RMSProp, or stochastic gradient descent with momentum.
        schedule: The rate falls in steps by `decay`, or along a cosine to `last_rate` at the end.
        last_rate: Rate at the end of the cosine, scaled as the first one.
        decay: Factor on the rate every `decay_epochs`.
        decay_epochs: Epochs between two decays; fractions are allowed, so that short runs decay within an epoch.
        warmup_epochs: Epochs over which the rate rises from 0.
        momentum: Of the optimizer.
        weight_decay: L2 penalty.
        ema_decay: Decay per step of the averaged weights, which are the ones evaluated; 0 switches averaging off.
        label_smoothing: Share of the label spread over all classes.
        survival: Probability that a residual branch survives in training (stochastic depth); 1 keeps all.
        gradient_clip: Largest norm of the gradient; 0 for none.

    Raises:
        ValueError: If a number is out of range.

    Source: Yang et al. 2021, Sec. 4.1.1 (RMSProp, 1e-5, 0.064 x 0.963 every 3 epochs at 1,024, EMA 0.9998); dropout
    0.2 belongs to the network; gradient descent and cosine: Liu et al. 2019 (DARTS), appendix A. Deviation: the
    smoothing constant 0.9 and epsilon 1e-3 of RMSProp are MobileNetV3's (Howard et al. 2019, Sec. 6.1), as the paper
    names none.
    """

    epochs: int
    batch_size: int
    learning_rate: float = 0.064
    reference_batch: int = 1024
    optimizer: Literal["rmsprop", "sgd"] = "rmsprop"
    schedule: Literal["steps", "cosine"] = "steps"
    last_rate: float = 0.0
    decay: float = 0.963
    decay_epochs: float = 3.0
    warmup_epochs: float = 0.0
    momentum: float = 0.9
    weight_decay: float = 1e-5
    ema_decay: float = 0.9998
    label_smoothing: float = 0.0
    survival: float = 1.0
    gradient_clip: float = 0.0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1:
            raise ValueError(f"`epochs` and `batch_size` must be at least 1, got {self.epochs} and {self.batch_size}.")
        if not self.learning_rate > 0 or self.reference_batch < 1:
            raise ValueError(
                f"`learning_rate` and `reference_batch` must be positive, got {self.learning_rate} and "
                f"{self.reference_batch}."
            )
        if self.optimizer not in ("rmsprop", "sgd") or self.schedule not in ("steps", "cosine"):
            raise ValueError(
                f"`optimizer` must be rmsprop or sgd and `schedule` steps or cosine, got {self.optimizer!r} and "
                f"{self.schedule!r}."
            )
        if not 0 <= self.last_rate <= self.learning_rate:
            raise ValueError(f"`last_rate` must be from 0 to `learning_rate`, got {self.last_rate}.")
        if not (0 < self.decay <= 1 and self.decay_epochs > 0):
            raise ValueError(f"`decay` must be in (0, 1], got {self.decay}, and `decay_epochs` positive.")
        if not (0 <= self.ema_decay < 1 and 0 <= self.label_smoothing < 1 and 0 < self.survival <= 1):
            raise ValueError("`ema_decay` and `label_smoothing` must be in [0, 1), `survival` in (0, 1].")

    def rate(self, epoch: float) -> float:
        """Return the learning rate at an epoch (fractions allowed): warm-up, and decay in steps or along a cosine."""
        if self.schedule == "steps":
            rate = self.learning_rate * self.decay ** int(epoch / self.decay_epochs)
        else:
            height = (1 + math.cos(math.pi * min(1.0, epoch / self.epochs))) / 2
            rate = self.last_rate + (self.learning_rate - self.last_rate) * height
        rate *= self.batch_size / self.reference_batch
        return rate * min(1.0, epoch / self.warmup_epochs) if self.warmup_epochs else rate
