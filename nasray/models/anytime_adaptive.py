"""Inference in which every image of a batch leaves at the first exit that is sure of it.

Tensor letters: B images, R images that remain, C channels, H and W height and width, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nasray.models.anytime import AnytimeNetwork


@dataclass(frozen=True)
class AdaptiveResult:
    """Predictions for a batch whose images left at different exits.

    Args:
        logits_BK: Of the exit at which each image left.
        exit_B: That exit, counted from 1.
    """

    logits_BK: Tensor
    exit_B: Tensor


@torch.inference_mode()
def adaptive_predict(network: AnytimeNetwork, x_BCHW: Tensor, thresholds: Sequence[float]) -> AdaptiveResult:
    """Let every image leave at the first exit that is confident of it; only the others are computed any further.

    Args:
        network: In eval mode.
        x_BCHW: Images, at least one.
        thresholds: For each exit but the last, the confidence (largest softmax probability) from which images leave;
            a value for the last exit, if given, is ignored, as all that are left leave there.

    Raises:
        ValueError: If the number of thresholds does not fit, there is no image, or the network is in training mode.

    Source: Huang et al. 2018 (MSDNet), Sec. 3 and 4.1 ("budgeted batch classification"). Deviation: none.
    """
    num_exits = network.num_exits
    if len(thresholds) not in (num_exits - 1, num_exits):
        raise ValueError(f"`thresholds` must have {num_exits - 1} or {num_exits} values, got {len(thresholds)}.")
    if network.training or len(x_BCHW) == 0:
        raise ValueError("`network` must be in eval mode and `x_BCHW` hold an image. Call `eval()` or pass images.")
    logits_BK: Tensor | None = None
    exit_B = torch.empty(len(x_BCHW), dtype=torch.long, device=x_BCHW.device)
    place_R = torch.arange(len(x_BCHW), device=x_BCHW.device)  # the images that remain
    walk = network.walk(x_BCHW, network.exits)
    for exit, found_RK in enumerate(walk, start=1):
        if logits_BK is None:
            logits_BK = found_RK.new_empty(len(x_BCHW), found_RK.shape[1])
        leaves_R = torch.ones_like(place_R, dtype=torch.bool)
        if exit < num_exits:
            leaves_R = confidence(found_RK) >= thresholds[exit - 1]
        logits_BK[place_R[leaves_R]] = found_RK[leaves_R]
        exit_B[place_R[leaves_R]] = exit
        if bool(leaves_R.all()):
            break
        if bool(leaves_R.any()):
            stays_R = ~leaves_R
            place_R = place_R[stays_R]
            walk.keep(stays_R)
    assert logits_BK is not None
    return AdaptiveResult(logits_BK, exit_B)


def confidence(logits_BK: Tensor) -> Tensor:
    """Return the largest softmax probability of each image, (B,)."""
    return logits_BK.float().softmax(1).amax(1)
