"""Accuracy of a network, and which batch-norm statistics it is taken with.

Tensor letters: B images, C channels, H and W height and width.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from nasray.models.plain import PlainNetwork
from nasray.training.trainer import DivergedError

NormPolicy = Literal["running", "batch", "recalibrated"]
"""Statistics of an extracted sub-network: the supernet's running ones, those of each evaluated batch, or ones taken
anew from training images."""

NORM_POLICIES: tuple[NormPolicy, ...] = ("running", "batch", "recalibrated")


@torch.inference_mode()
def evaluate(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, float]:
    """Return `accuracy` (fraction), `loss` (mean cross entropy) and `num_images`; the model's mode is left alone.

    Raises:
        DivergedError: If an output is no number: the largest of those would count as the first class.
        ValueError: If there is no image.
    """
    correct, loss, count = 0.0, 0.0, 0
    for images, labels in batches:
        logits = model(images).float()
        loss += float(F.cross_entropy(logits, labels, reduction="sum"))
        correct += float((logits.argmax(1) == labels).sum())
        count += len(labels)
    if count == 0:
        raise ValueError("`batches` must hold at least one image to evaluate on, got none.")
    check_outputs(loss)
    return {"accuracy": correct / count, "loss": loss / count, "num_images": count}


def check_outputs(loss: float) -> None:
    """Refuse outputs of a network by the loss that they sum up to, which is NaN if one of them is.

    Raises:
        DivergedError: If it is NaN.
    """
    if math.isnan(loss):
        raise DivergedError("The network's outputs are not numbers (NaN). Lower the learning rate.")


@torch.inference_mode()
def recalibrate(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Replace the running statistics of every batch norm by their mean over the given batches.

    Dropout stays off; weights are untouched.
    """
    norms = batch_norms(model)
    momenta = [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative mean
        norm.train()
    for images, _ in batches:
        model(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()


def evaluate_subnet(
    network: PlainNetwork,
    holdout: Iterable[tuple[Tensor, Tensor]],
    *,
    policy: NormPolicy,
    calibration: Sequence[tuple[Tensor, Tensor]] = (),
) -> dict[str, float]:
    """Return the accuracy and loss of a network extracted from a supernet.

    Args:
        network: Extracted; its batch norms are changed.
        holdout: Images to compare sub-networks on, not trained on.
        policy: Which batch-norm statistics to use.
        calibration: Training images for `recalibrated`.

    Raises:
        ValueError: If `recalibrated` has no images, or the policy is unknown.
    """
    network.eval()
    if policy == "recalibrated":
        if not calibration:
            raise ValueError("`calibration` must hold training images for the policy 'recalibrated', got none.")
        recalibrate(network, calibration)
    elif policy == "batch":
        for norm in batch_norms(network):
            norm.track_running_stats = False
            norm.running_mean = norm.running_var = None
    elif policy != "running":
        raise ValueError(f"`policy` must be one of {', '.join(NORM_POLICIES)}, got {policy!r}.")
    metrics = evaluate(network, holdout)
    return {"accuracy": metrics["accuracy"], "loss": metrics["loss"]}


def batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """Return the batch-norm layers of a model, those that keep statistics."""
    norms = (module for module in model.modules() if isinstance(module, _BatchNorm))
    return [norm for norm in norms if norm.track_running_stats]
