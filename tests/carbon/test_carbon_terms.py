import numpy as np
import pytest
import torch

from nasray.carbon.carbon_terms import (
    LIFETIME_CARBON,
    TRAINING_CARBON,
    OperationLimit,
    budget_penalty,
    carbon_metrics,
    expected_carbon_g,
    product_reward,
    sum_reward,
)
from nasray.carbon.fu2021 import CarbonFactors

CARBON_EO = np.array([[1.0, 2.0, 4.0], [0.0, 3.0, 6.0]])


def test_carbon_is_energy_times_overhead_times_intensity() -> None:
    factors = CarbonFactors(intensity_g_per_kwh=369.473, pue=1.2)
    assert factors.carbon_g(3.6e6) == pytest.approx(1.2 * 369.473)


def test_lifetime_carbon_includes_the_training_and_each_place_has_its_factors() -> None:
    metrics = carbon_metrics(
        training=CarbonFactors(intensity_g_per_kwh=100.0, pue=1.5),
        training_energy_j=3.6e6,
        inference=CarbonFactors(intensity_g_per_kwh=400.0),
        energy_per_inference_j=0.36,
        num_inferences=1e7,
    )
    assert metrics == {"training_carbon_g": pytest.approx(150), "lifetime_carbon_g": pytest.approx(150 + 400)}
    assert set(metrics) == {TRAINING_CARBON.name, LIFETIME_CARBON.name}


def test_an_unknown_lifetime_is_left_out_and_a_partial_one_refused() -> None:
    training = CarbonFactors(intensity_g_per_kwh=100.0)
    assert set(carbon_metrics(training=training, training_energy_j=1.0)) == {"training_carbon_g"}
    with pytest.raises(ValueError, match="must be given together or not at all"):
        carbon_metrics(training=training, training_energy_j=1.0, num_inferences=5)
    with pytest.raises(ValueError, match="`num_inferences` must be"):
        carbon_metrics(
            training=training,
            training_energy_j=1.0,
            inference=training,
            energy_per_inference_j=1.0,
            num_inferences=-1,
        )


def test_the_product_is_mnasnets_reward() -> None:
    assert product_reward(0.75, 80, target_g=80) == 0.75
    assert product_reward(0.75, 160, target_g=80, weight=-0.07) == pytest.approx(0.75 * 2**-0.07)
    # About 5 % more accuracy for twice the cost is worth the same, as MnasNet chose its exponent.
    assert product_reward(0.75 * 1.05, 160, target_g=80) == pytest.approx(0.75, rel=2e-3)
    hard = {"weight": 0.0, "weight_above": -1.0}
    assert product_reward(0.75, 40, target_g=80, **hard) == 0.75
    assert product_reward(0.75, 160, target_g=80, **hard) == pytest.approx(0.375)


def test_the_sum_charges_a_price() -> None:
    assert sum_reward(0.75, 40, target_g=80, weight=0.1) == pytest.approx(0.70)
    assert sum_reward(0.75, 0, target_g=80, weight=0.1) == 0.75


def test_expected_carbon_is_the_mean_over_drawn_networks() -> None:
    probabilities_EO = np.array([[0.5, 0.25, 0.25], [0.2, 0.3, 0.5]])
    drawn = [
        probabilities_EO[0, first] * probabilities_EO[1, second] * (CARBON_EO[0, first] + CARBON_EO[1, second])
        for first in range(3)
        for second in range(3)
    ]
    assert expected_carbon_g(probabilities_EO, CARBON_EO) == pytest.approx(sum(drawn))


def test_the_penalty_has_the_gradient_of_a_finite_difference_above_the_budget_and_none_below() -> None:
    parameters = torch.tensor([[0.1, -0.4, 0.3], [0.0, 0.2, 0.5]], dtype=torch.float64, requires_grad=True)
    carbon_EO = torch.from_numpy(CARBON_EO)

    def penalty(values, budget_g=4.0):
        return budget_penalty(values.softmax(dim=1), carbon_EO, budget_g=budget_g)

    assert penalty(parameters).item() > 0
    assert torch.autograd.gradcheck(penalty, (parameters,))
    below = penalty(parameters, budget_g=100.0)
    assert below.item() == 0
    below.backward()
    assert not parameters.grad.any()


def test_descending_the_penalty_meets_the_budget() -> None:
    parameters = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    carbon_EO = torch.from_numpy(CARBON_EO)
    optimizer = torch.optim.SGD([parameters], lr=0.5)
    for _ in range(200):
        optimizer.zero_grad()
        budget_penalty(parameters.softmax(dim=1), carbon_EO, budget_g=2.5).backward()
        optimizer.step()
    expected = expected_carbon_g(parameters.softmax(dim=1), carbon_EO).item()
    assert expected_carbon_g(np.full((2, 3), 1 / 3), CARBON_EO) > 5
    assert expected == pytest.approx(2.5, abs=0.1)


def test_penalty_agrees_between_numpy_and_torch() -> None:
    probabilities_EO = np.array([[0.5, 0.25, 0.25], [0.2, 0.3, 0.5]])
    by_torch = budget_penalty(torch.from_numpy(probabilities_EO), torch.from_numpy(CARBON_EO), budget_g=2.0)
    assert budget_penalty(probabilities_EO, CARBON_EO, budget_g=2.0) == pytest.approx(by_torch.item())


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor])
def test_masks_of_operations_that_break_a_limit(kind) -> None:
    carbon_EO, macs_EO = kind(CARBON_EO.tolist()), kind([[10.0, 20.0, 10.0], [0.0, 0.0, 60.0]])

    def mask(**limits):
        return OperationLimit(**limits).broken(carbon_EO, macs_EO).tolist()

    assert mask(carbon_g=3.0) == [[False, False, True], [False, False, True]]
    assert mask(macs=15.0) == [[False, True, False], [False, False, True]]
    # The pooling of the second edge emits without a multiply-add; it has no ratio to break.
    assert mask(carbon_g_per_mac=0.1) == [[False, False, True], [False, False, False]]
    assert mask(carbon_g=5.0, macs=15.0) == [[False, True, False], [False, False, True]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: CarbonFactors(intensity_g_per_kwh=-1), "`intensity_g_per_kwh` must be"),
        (lambda: CarbonFactors(intensity_g_per_kwh=1, pue=0.5), "`pue` must be a number of at least 1"),
        (lambda: CarbonFactors(intensity_g_per_kwh=1).carbon_g(float("nan")), "`energy_j` must be"),
        (lambda: product_reward(0.7, 0, target_g=1), "`carbon_g` must be positive"),
        (lambda: product_reward(0.7, 1, target_g=0), "`target_g` must be a positive"),
        (lambda: product_reward(0.7, 1, target_g=1, weight=0.1), "must not be positive"),
        (lambda: product_reward(0.7, 1, target_g=1, weight_above=0.1), "must not be positive"),
        (lambda: sum_reward(0.7, 1, target_g=1, weight=-0.1), "`carbon_g` and `weight` must be at least 0"),
        (lambda: sum_reward(0.7, 1, target_g=-1, weight=0.1), "`target_g` must be a positive"),
        (lambda: budget_penalty(CARBON_EO, CARBON_EO, budget_g=0), "`budget_g` must be a positive"),
        (lambda: OperationLimit(), "must have a limit"),
        (lambda: OperationLimit(macs=-1), "must have a limit"),
        (lambda: OperationLimit(macs=1).broken(CARBON_EO), "`macs_EO` must be given"),
    ],
)
def test_wrong_figures_are_refused(call, message) -> None:
    with pytest.raises(ValueError, match=message):
        call()
