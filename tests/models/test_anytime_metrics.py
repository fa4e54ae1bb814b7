import numpy as np
import pytest

from nasray.models.anytime_metrics import anytime_curve, area_under_curve, expected_value, value_at_budget

MACS, ACCURACIES = (10.0, 30.0, 60.0), (0.5, 0.8, 0.7)


def test_the_last_exit_that_fits_answers():
    assert anytime_curve(MACS, ACCURACIES, [0, 9.9, 10, 29, 30, 60, 1e9]) == [0.0, 0.0, 0.5, 0.5, 0.8, 0.7, 0.7]
    assert value_at_budget(MACS, ACCURACIES, 5, unanswered=0.1) == 0.1


def test_expectation_is_the_weighted_sum_over_budgets():
    found = expected_value(MACS, ACCURACIES, [5, 20, 100], [0.25, 0.5, 0.25], unanswered=0.1)
    assert found == pytest.approx(0.25 * 0.1 + 0.5 * 0.5 + 0.25 * 0.7)


def test_expected_loss_is_the_mean_over_images_and_budgets():
    """Equation 4 written out: the mean over images of the mean over budgets."""
    generator = np.random.default_rng(0)
    losses_EN, budgets, weights = generator.random((3, 50)), [12.0, 35.0, 59.0, 70.0], [0.1, 0.4, 0.2, 0.3]
    exits = [sum(budget >= cost for cost in MACS) for budget in budgets]
    expected = np.mean(
        [sum(w * losses_EN[exit - 1, n] for w, exit in zip(weights, exits, strict=True)) for n in range(50)]
    )
    assert expected_value(MACS, losses_EN.mean(1).tolist(), budgets, weights) == pytest.approx(expected)


def test_area_in_closed_form():
    assert area_under_curve(MACS, ACCURACIES, max_macs=100) == pytest.approx((20 * 0.5 + 30 * 0.8 + 40 * 0.7) / 100)
    assert area_under_curve(MACS, ACCURACIES, min_macs=20, max_macs=40) == pytest.approx((10 * 0.5 + 10 * 0.8) / 20)
    assert area_under_curve(MACS, ACCURACIES, max_macs=5, unanswered=0.1) == pytest.approx(0.1)
    assert area_under_curve(MACS, (0.9,) * 3, min_macs=10, max_macs=60) == pytest.approx(0.9)


def test_area_is_the_expectation_over_uniform_budgets():
    budgets = (np.arange(1000) + 0.5) * 0.08
    expected = expected_value(MACS, ACCURACIES, budgets.tolist(), [1e-3] * 1000, unanswered=0.1)
    assert area_under_curve(MACS, ACCURACIES, max_macs=80, unanswered=0.1) == pytest.approx(expected)


def test_better_and_cheaper_exits_have_more_area():
    area = area_under_curve(MACS, ACCURACIES, max_macs=100)
    assert area_under_curve((5.0, 30.0, 60.0), ACCURACIES, max_macs=100) > area
    assert area_under_curve(MACS, (0.5, 0.8, 0.75), max_macs=100) > area


def test_what_is_no_curve_or_no_distribution_is_refused():
    with pytest.raises(ValueError, match=r"`macs` must ascend from exit to exit, got \[30, 10\]"):
        value_at_budget([30, 10], [1, 1], 20)
    with pytest.raises(ValueError, match="`values` must have one value for each of 2 exits, got 1"):
        value_at_budget([10, 30], [1], 20)
    with pytest.raises(ValueError, match="one for each of 2 budgets, got"):
        expected_value(MACS, ACCURACIES, [1, 2], [0.5])
    with pytest.raises(ValueError, match=r"sum to 1 .* got \[0.5, 0.6\]"):
        expected_value(MACS, ACCURACIES, [1, 2], [0.5, 0.6])
    with pytest.raises(ValueError, match=r"below `max_macs`, got 0\.0 and 0"):
        area_under_curve(MACS, ACCURACIES, max_macs=0)
