import math
from itertools import pairwise

import numpy as np
import pytest

from nasray.models.anytime_thresholds import (
    calibrate,
    exits_taken,
    geometric_shares,
    solve_shares,
    thresholds_for_shares,
)

COSTS = (10.0, 25.0, 45.0, 80.0)


def test_geometric_shares_are_a_distribution_with_that_ratio():
    for log_ratio in (-50.0, -1.0, 0.0, 0.3, 50.0):
        shares = geometric_shares(log_ratio, 5)
        assert sum(shares) == pytest.approx(1)
        if abs(log_ratio) < 10:
            assert [b / a for a, b in pairwise(shares)] == pytest.approx([math.exp(log_ratio)] * 4)


@pytest.mark.parametrize("budget", [10.0, 10.001, 20.0, 40.0, 79.0, 80.0])
def test_shares_meet_the_budget(budget):
    shares = solve_shares(COSTS, budget=budget)
    assert np.dot(shares, COSTS) == pytest.approx(budget)
    assert solve_shares(COSTS, budget=1e9) == (0.0, 0.0, 0.0, 1.0)


def test_two_exits_have_a_closed_form():
    assert solve_shares((10.0, 30.0), budget=15.0) == pytest.approx((0.75, 0.25))


def by_hand(confidences, shares):
    """The published procedure, image by image, with the count rounded up over the exits so far."""
    num_exits, num_images = confidences.shape
    gone, thresholds = set(), []
    for exit in range(num_exits - 1):
        wanted = math.ceil(num_images * sum(shares[: exit + 1]) - 1e-9)
        threshold = math.inf
        for image in sorted(range(num_images), key=lambda image: -confidences[exit, image]):
            if image not in gone and len(gone) < wanted:
                gone.add(image)
                threshold = confidences[exit, image]
        gone |= {image for image in range(num_images) if confidences[exit, image] >= threshold}
        thresholds.append(threshold)
    return (*thresholds, 0.0)


@pytest.mark.parametrize("seed", range(5))
def test_thresholds_are_those_of_the_procedure_by_hand(seed):
    generator = np.random.default_rng(seed)
    confidences = generator.random((4, 57)).astype(np.float32).astype(np.float64)
    shares = generator.dirichlet(np.ones(4))
    thresholds = thresholds_for_shares(confidences, shares)
    assert thresholds == by_hand(confidences, shares)
    left = np.bincount(exits_taken(confidences, thresholds), minlength=5)[1:]
    assert left.sum() == 57
    assert np.all(left.cumsum() >= np.floor(57 * np.cumsum(shares)))


@pytest.mark.parametrize("budget", [10.0, 15.0, 33.0, 60.0, 80.0, 500.0])
def test_the_budget_is_kept_and_nearly_used_up(budget):
    confidences = np.random.default_rng(0).random((4, 400))
    policy = calibrate(confidences, COSTS, budget_macs=budget)
    spent = np.mean([COSTS[exit - 1] for exit in exits_taken(confidences, policy.thresholds)])
    assert policy.mean_macs == pytest.approx(spent)
    assert sum(policy.shares) == pytest.approx(1)
    assert min(budget, 80) - 0.5 <= policy.mean_macs <= budget + 1e-9


def test_images_that_are_equally_sure_leave_together():
    confidences = np.array([[0.9] * 6, [0.5] * 6])
    assert thresholds_for_shares(confidences, (0.5, 0.5)) == (0.9, 0.0)
    assert exits_taken(confidences, (0.9, 0.0)).tolist() == [1] * 6
    assert thresholds_for_shares(confidences, (0.0, 1.0)) == (math.inf, 0.0)


def test_budgets_and_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="`budget` must be at least 10, the first exit's cost, got 9"):
        solve_shares(COSTS, budget=9)
    with pytest.raises(ValueError, match=r"`cumulative_macs` must ascend from exit to exit, got \[10, 10\]"):
        solve_shares([10, 10], budget=10)
    with pytest.raises(ValueError, match=r"a row for each of 4 exits .* got shape \(3, 5\)"):
        calibrate(np.zeros((3, 5)), COSTS, budget_macs=20)
    with pytest.raises(ValueError, match="`confidences_EN` must be numbers, got NaN"):
        calibrate(np.full((4, 5), np.nan), COSTS, budget_macs=20)
