"""Confidence thresholds that make a batch of images fit a budget, calibrated on held-out images.

Letters: E exits, N images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Confidences = npt.NDArray[np.float64]
"""Confidence of each exit in its prediction for each image, (E, N)."""

_LOG_RATIO_BOUND = 60.0


@dataclass(frozen=True, kw_only=True)
class ExitPolicy:
    """Thresholds, and what they came to on the images they were calibrated on.

    Args:
        thresholds: Confidence from which an image leaves, for each exit; the last is 0, as all leave there.
        shares: Share of the held-out images that left at each exit.
        mean_macs: Multiply-adds spent on a held-out image, in the mean.
    """

    thresholds: tuple[float, ...]
    shares: tuple[float, ...]
    mean_macs: float


def calibrate(confidences_EN: Confidences, cumulative_macs: Sequence[float], *, budget_macs: float) -> ExitPolicy:
    """Find thresholds with which images cost no more than a budget in the mean, held-out images taken for typical.

    Args:
        confidences_EN: Of held-out images that the network was not trained on, (E, N).
        cumulative_macs: For each exit, the multiply-adds of an image that tried every exit up to it.
        budget_macs: Mean multiply-adds to spend on an image at most.

    Returns:
        A policy; its `mean_macs` is at most the budget.

    Raises:
        ValueError: If the shapes do not fit, or not even exit 1 fits the budget.

    Source: Huang et al. 2018 (MSDNet), Sec. 4.1: images leave at exit k with probability proportional to that of a
    geometric distribution, whose parameter is solved for the budget. Deviation: the number of images that leave at
    an exit is rounded up and not down, so that the budget is kept on the held-out images.
    """
    confidences_EN = _checked(confidences_EN, cumulative_macs)
    shares = solve_shares(cumulative_macs, budget=budget_macs)
    thresholds = thresholds_for_shares(confidences_EN, shares)
    exits_N = exits_taken(confidences_EN, thresholds)
    left = np.bincount(exits_N, minlength=len(thresholds) + 1)[1:] / len(exits_N)
    return ExitPolicy(thresholds=thresholds, shares=tuple(left.tolist()), mean_macs=float(left @ cumulative_macs))


def geometric_shares(log_ratio: float, num_exits: int) -> tuple[float, ...]:
    """Return the share of images for each exit, each exp(log_ratio) times that of the exit before; they sum to 1."""
    largest = max(0.0, log_ratio * (num_exits - 1))
    weights = [math.exp(log_ratio * index - largest) for index in range(num_exits)]
    return tuple(weight / sum(weights) for weight in weights)


def solve_shares(cumulative_macs: Sequence[float], *, budget: float) -> tuple[float, ...]:
    """Return geometric shares with which the mean cost is the budget, or all images at the last exit if they may.

    Args:
        cumulative_macs: Of each exit, ascending.
        budget: Mean cost to reach.

    Raises:
        ValueError: If the costs do not ascend, or the budget is below that of exit 1.
    """
    costs = list(cumulative_macs)
    if any(later <= earlier for earlier, later in pairwise(costs)):
        raise ValueError(f"`cumulative_macs` must ascend from exit to exit, got {costs}.")
    if budget < costs[0]:
        raise ValueError(f"`budget` must be at least {costs[0]:,.6g}, the first exit's cost, got {budget:,.6g}.")
    if budget >= costs[-1]:
        return (0.0,) * (len(costs) - 1) + (1.0,)
    if budget == costs[0]:
        return (1.0,) + (0.0,) * (len(costs) - 1)
    low, high = -_LOG_RATIO_BOUND, _LOG_RATIO_BOUND
    for _ in range(100):
        middle = (low + high) / 2
        shares = geometric_shares(middle, len(costs))
        if sum(share * cost for share, cost in zip(shares, costs, strict=True)) > budget:
            high = middle
        else:
            low = middle
    return geometric_shares(low, len(costs))


def thresholds_for_shares(confidences_EN: Confidences, shares: Sequence[float]) -> tuple[float, ...]:
    """Return thresholds with which at least these shares of the images have left after each exit.

    The most confident of those still there leave. As many more leave as are exactly as confident as the last of them.

    Args:
        confidences_EN: Of held-out images, (E, N).
        shares: Of each exit; they sum to 1.
    """
    num_exits, num_images = confidences_EN.shape
    remains_N = np.ones(num_images, dtype=bool)
    thresholds = []
    for exit in range(num_exits - 1):
        # What rounding makes leave too early is made up for at the next exits.
        wanted = math.ceil(num_images * sum(shares[: exit + 1]) - 1e-9) - int((~remains_N).sum())
        remaining = np.sort(confidences_EN[exit, remains_N])[::-1]
        threshold = float(remaining[min(wanted, len(remaining)) - 1]) if wanted > 0 and len(remaining) else math.inf
        thresholds.append(threshold)
        remains_N &= confidences_EN[exit] < threshold
    return (*thresholds, 0.0)


def exits_taken(confidences_EN: Confidences, thresholds: Sequence[float]) -> npt.NDArray[np.intp]:
    """Return the exit at which each image leaves, (N,), counted from 1."""
    leaves_EN = confidences_EN >= np.asarray(thresholds)[:, None]
    leaves_EN[-1] = True
    first_N: npt.NDArray[np.intp] = leaves_EN.argmax(0)
    return first_N + 1


def _checked(confidences_EN: Confidences, cumulative_macs: Sequence[float]) -> Confidences:
    found = np.asarray(confidences_EN, dtype=np.float64)
    if found.ndim != 2 or found.shape[0] != len(cumulative_macs) or found.shape[1] == 0:
        raise ValueError(
            f"`confidences_EN` must have a row for each of {len(cumulative_macs)} exits and a column for each image, "
            f"got shape {found.shape}."
        )
    if np.isnan(found).any():
        raise ValueError("`confidences_EN` must be numbers, got NaN. The network has diverged.")
    return found
