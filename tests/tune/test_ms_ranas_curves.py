"""Networks of a run over all budgets, and against each other."""

from dataclasses import replace

import numpy as np
import pytest

from nasray.models.anytime_budget import ExitCosts
from nasray.tune.ms_ranas_comparison import compare
from nasray.tune.ms_ranas_curves import best_of_each, evaluation, with_curves
from nasray.tune.ms_ranas_results import exit_costs, exit_rows


def row(group, seed, accuracies, macs=(100, 200), variant="v", holdout=None):
    costs = ExitCosts(macs=macs, cumulative_macs=macs, parameters=tuple(each // 10 for each in macs))
    return {
        "name": f"{group}-{variant}-{seed}-{accuracies}",
        "group": group,
        "variant": variant,
        "rival_of": [] if group == "found" else [variant],
        "seed": seed,
        "arch_id": "a",
        "parameters": sum(macs) ** (2 if group == "msdnet" else 1),  # with what only early exits need
        "exits": exit_rows(costs, holdout or accuracies, accuracies),
    }


def test_differences_by_hand():
    rows = [
        row("found", 0, (0.5, 0.9)),
        row("found", 1, (0.6, 0.8)),
        row("random", 0, (0.5, 0.7)),
        row("random", 0, (0.3, 0.9)),
        row("random", 1, (0.6, 0.9), macs=(120, 220)),
        row("msdnet", 0, (0.9, 1.0), macs=(150, 200)),
    ]
    random, msdnet = compare(rows, num_classes=10)
    assert (random["rival"], msdnet["rival"]) == ("random", "msdnet")
    assert random["differences"]["last_exit"]["values"] == pytest.approx([0.1, -0.1])
    assert random["differences"]["last_exit"]["mean"] == pytest.approx(0)
    assert random["differences"]["last_exit"]["std"] == pytest.approx(np.std([0.1, -0.1], ddof=1))
    # Budgets to 220: 100 guesses, 100 at exit 1, 20 at exit 2.
    ours = [(100 * 0.1 + 100 * first + 20 * last) / 220 for first, last in ((0.5, 0.9), (0.6, 0.8))]
    first = np.mean([(100 * 0.1 + 100 * a + 20 * b) / 220 for a, b in ((0.5, 0.7), (0.3, 0.9))])
    second = (120 * 0.1 + 100 * 0.6) / 220
    assert random["differences"]["all_budgets"]["values"] == pytest.approx([ours[0] - first, ours[1] - second])
    # Everyone answers from 120 on.
    answered = (80 * 0.6 + 20 * 0.8) / 100 - 0.6
    assert random["differences"]["answered_budgets"]["values"][1] == pytest.approx(answered)
    assert random["macs_ratio"] == pytest.approx((200 + 200 + 220) / 3 / 200)
    # As the table has it: of the last exit, not of the whole module.
    assert random["parameters_ratio"] == pytest.approx((20 + 20 + 22) / 3 / 20)
    assert msdnet["parameters_ratio"] == 1
    assert random["first_exit_share"] == pytest.approx({"found": 0.5, "rival": (0.5 + 0.5 + 120 / 220) / 3})
    # Only seed 0 has an MSDNet; from 150 on.
    assert msdnet["differences"]["answered_budgets"]["values"] == pytest.approx([0.5 - 0.9])
    assert msdnet["differences"]["last_exit"]["std"] is None


def test_networks_with_one_exit_of_one_cost_are_compared_too():
    rows = [row("found", 0, (0.8,), macs=(100,)), row("random", 0, (0.7,), macs=(100,))]
    (found,) = compare(rows, num_classes=10)
    assert found["differences"]["answered_budgets"]["mean"] == pytest.approx(0.1)


def test_a_network_is_compared_with_its_own_rivals_alone():
    shared = row("msdnet", 0, (0.1, 0.2), variant="w") | {"rival_of": ["v", "w"]}
    other = row("msdnet", 0, (0.9, 0.9), variant="x")
    (found,) = compare([row("found", 0, (0.5, 0.9)), shared, other], num_classes=10)
    assert found["num_rivals"] == 1
    assert found["differences"]["last_exit"]["mean"] == pytest.approx(0.7)


def test_areas_of_networks_of_different_costs_have_the_same_range():
    """A network with the same accuracies at a tenth of the cost is better, over its own range it would be equal."""
    rows = [row("found", 0, (0.5, 0.9), macs=(10, 20)), row("found", 1, (0.5, 0.9), macs=(100, 200))]
    (cheap, dear), budgets = with_curves(rows, num_classes=10)
    assert budgets == {"area_max_macs": 250.0, "expected_macs": None, "expected_range_macs": [10, 200]}
    assert cheap["test_area_under_curve"] == pytest.approx((10 * 0.1 + 10 * 0.5 + 230 * 0.9) / 250)
    assert dear["test_area_under_curve"] == pytest.approx((100 * 0.1 + 100 * 0.5 + 50 * 0.9) / 250)
    assert cheap["holdout_area_under_curve"] == cheap["test_area_under_curve"]
    # Uniform from 10 to 200, with steps between budgets.
    assert cheap["expected_test_accuracy"] == pytest.approx((10 * 0.5 + 180 * 0.9) / 190, abs=1e-3)
    assert dear["expected_test_accuracy"] == pytest.approx((90 * 0.1 + 100 * 0.5) / 190, abs=1e-3)
    (_, dear), budgets = with_curves(rows, num_classes=10, budgets_macs=(50, 150, 200, 200))
    assert budgets["expected_macs"] == [50, 150, 200, 200]
    assert dear["expected_test_accuracy"] == pytest.approx((0.1 + 0.5 + 0.9 + 0.9) / 4)


def test_networks_are_chosen_by_held_out_images_and_the_test_images_say_nothing():
    rows = [
        row("found", 0, (0.5, 0.9), holdout=(0.5, 0.7)),
        row("found", 1, (0.6, 0.8), holdout=(0.6, 0.8)),
        row("random", 0, (0.5, 0.7)),
    ]
    found, _ = with_curves(rows, num_classes=10)
    assert [one["is_best"] for one in found] == [False, True, True]
    assert best_of_each(found, ("found", "msdnet")) == [rows[1]["name"]]
    metrics = evaluation(found[0])["metrics"]
    assert (metrics["holdout_accuracy"], metrics["test_accuracy"]) == (0.7, 0.9)
    assert metrics["holdout_area_under_curve"] < metrics["test_area_under_curve"]


def test_networks_with_a_single_exit_are_chosen_by_its_accuracy():
    rows = [row("found", 0, (0.5,), macs=(99,)), row("found", 1, (0.9,), macs=(100,))]
    found, _ = with_curves(rows, num_classes=10)
    assert [one["is_best"] for one in found] == [False, True]


def test_costs_come_back_from_rows():
    costs = ExitCosts(
        macs=(1, 2), cumulative_macs=(1, 3), parameters=(5, 6), latency_ms=(0.1, 0.2), energy_j=(0.5, 1.0)
    )
    assert exit_costs(exit_rows(costs, (0.1, 0.2), (0.1, 0.2))) == costs
    partly = exit_costs(exit_rows(replace(costs, energy_j=(0.5, float("nan"))), (0.1, 0.2), (0.1, 0.2)))
    assert partly == replace(costs, energy_j=None)
