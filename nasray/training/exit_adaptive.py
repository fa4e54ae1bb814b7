"""What a trained network comes to when each image leaves at the first exit that is sure of it.

Letters: E exits, N images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nasray.models.anytime_policies import thresholds_to_json
from nasray.models.anytime_thresholds import calibrate, exits_taken
from nasray.training.exit_evaluation import ExitEvaluation

NUM_BUDGETS = 5
"""Budgets that thresholds are calibrated for."""


def adaptive_results(
    holdout: ExitEvaluation, test: ExitEvaluation, *, exit_macs: Sequence[float], cumulative_macs: Sequence[float]
) -> list[dict[str, Any]]:
    """Calibrate thresholds on held-out images for several budgets, and apply them to the test images.

    The budgets stand evenly between the cost of exit 1 and that of the last exit alone, which is the last of them: what
    an image may cost in the mean.

    Args:
        holdout: Of images that the network was not trained on.
        test: Of the images to report.
        exit_macs: Multiply-adds of one image to each exit and to no other.
        cumulative_macs: Multiply-adds of one image that tries every exit up to each.

    Returns:
        For each budget, as JSON: `budget_macs`; `thresholds`, None where no image leaves; `shares`, `mean_macs` and
        `accuracy` with `holdout_` and `test_` in front. Nothing for a network with a single exit.

    Source: Huang et al. 2018 (MSDNet), Sec. 4.1 ("budgeted batch classification"). Deviation: that of `calibrate`.
    """
    if len(exit_macs) < 2:
        return []
    first, last = exit_macs[0], exit_macs[-1]
    budgets_macs = [first + (last - first) * number / NUM_BUDGETS for number in range(1, NUM_BUDGETS + 1)]
    return [_at_budget(holdout, test, cumulative_macs, budget_macs) for budget_macs in budgets_macs]


def _at_budget(
    holdout: ExitEvaluation, test: ExitEvaluation, cumulative_macs: Sequence[float], budget_macs: float
) -> dict[str, Any]:
    policy = calibrate(holdout.confidence_EN, cumulative_macs, budget_macs=budget_macs)
    found: dict[str, Any] = {
        "budget_macs": budget_macs,
        "thresholds": thresholds_to_json(policy.thresholds),
    }
    for split, evaluation in (("holdout", holdout), ("test", test)):
        exits_N = exits_taken(evaluation.confidence_EN, policy.thresholds)
        shares_E = np.bincount(exits_N, minlength=len(cumulative_macs) + 1)[1:] / evaluation.num_images
        found[f"{split}_shares"] = shares_E.tolist()
        found[f"{split}_mean_macs"] = float(shares_E @ np.asarray(cumulative_macs))
        found[f"{split}_accuracy"] = evaluation.accuracy_when_leaving(exits_N)
    return found
