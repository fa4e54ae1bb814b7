"""How well each exit of a network does on a split, and how sure of itself it is.

Letters: E exits, N images.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from nasray.models.anytime import AnytimeNetwork
from nasray.models.anytime_adaptive import confidence
from nasray.training.evaluate import check_outputs


@dataclass(frozen=True)
class ExitEvaluation:
    """What the exits of a network made of a split, all in the order of its images.

    Args:
        correct_EN: Whether each exit is right about each image.
        confidence_EN: Its largest softmax probability, for `nasray.models.anytime_thresholds.calibrate`.
        loss_E: Mean cross entropy of each exit.
    """

    correct_EN: npt.NDArray[np.bool_]
    confidence_EN: npt.NDArray[np.float64]
    loss_E: npt.NDArray[np.float64]

    @property
    def accuracies(self) -> tuple[float, ...]:
        """Accuracy of each exit, a fraction."""
        return tuple(self.correct_EN.mean(1).tolist())

    @property
    def num_images(self) -> int:
        """Images of the split."""
        return int(self.correct_EN.shape[1])

    def accuracy_when_leaving(self, exits_N: npt.NDArray[np.intp]) -> float:
        """Return the accuracy if each image leaves at its exit.

        Args:
            exits_N: Exits counted from 1, as of `nasray.models.anytime_thresholds.exits_taken`.
        """
        return float(self.correct_EN[exits_N - 1, np.arange(self.num_images)].mean())


@torch.inference_mode()
def evaluate_exits(network: AnytimeNetwork, batches: Iterable[tuple[Tensor, Tensor]]) -> ExitEvaluation:
    """Run all exits on a split; the network's mode is left alone.

    Args:
        network: In eval mode.
        batches: Images (B, C, H, W) and labels (B).

    Raises:
        DivergedError: If an output of an exit is no number.
        ValueError: If there is no image.
    """
    correct, confidences, losses = [], [], []
    for images, labels in batches:
        logits = [found.float() for found in network.all_exits(images)]
        correct.append(torch.stack([found.argmax(1) == labels for found in logits]).cpu())
        confidences.append(torch.stack([confidence(found) for found in logits]).cpu())
        losses.append(torch.stack([F.cross_entropy(found, labels, reduction="none") for found in logits]).cpu())
    if not correct or correct[0].shape[1] == 0:
        raise ValueError("`batches` must hold at least one image to evaluate on, got none.")
    loss_E = torch.cat(losses, 1).double().mean(1).numpy()
    check_outputs(float(loss_E.sum()))
    return ExitEvaluation(torch.cat(correct, 1).numpy(), torch.cat(confidences, 1).double().numpy(), loss_E)
