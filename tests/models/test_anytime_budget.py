import pytest
import torch
from torch import nn

from nasray.hardware.counter import count_macs
from nasray.models.anytime import IMAGE, AnytimeNetwork
from nasray.models.anytime_budget import AnytimePredictor, ExitCosts, measure_exits


class Constant(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, x):
        return torch.full((len(x), 1), float(self.value))


def network():
    parts = {"exit_1": Constant(1), "exit_2": Constant(2), "exit_3": Constant(3)}
    return AnytimeNetwork(parts, dict.fromkeys(parts, (IMAGE,)), list(parts)).eval()


COSTS = ExitCosts(
    macs=(10, 20, 30), cumulative_macs=(10, 25, 40), parameters=(1, 2, 3), latency_ms=(1.0, 3.0, 2.0), batch_size=2
)


@pytest.mark.parametrize(
    ("option", "exit"),
    [
        ({"exit": 2}, 2),
        ({"budget_macs": 10}, 1),
        ({"budget_macs": 29.9}, 2),
        ({"budget_macs": 1e9}, 3),
        ({"latency_ms": 1.5}, 1),
        ({"latency_ms": 2.5}, 3),  # timings may be out of order: the best exit that fits
    ],
)
def test_the_last_exit_within_the_budget_predicts(option, exit):
    found = AnytimePredictor(network(), COSTS).predict(torch.zeros(2, 1), **option)
    assert found.tolist() == [[exit], [exit]]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({}, "Exactly one of `exit`, .* must be given, got none"),
        ({"exit": 1, "budget_macs": 10}, "Exactly one .* got exit, budget_macs"),
        ({"budget_macs": 9}, "`budget_macs` must be at least 10, the cheapest exit's, got 9"),
        ({"latency_ms": 0.5}, "`latency_ms` must be at least 1, the cheapest exit's, got 0.5"),
        ({"energy_j": 1}, "`costs` must hold what `energy_j` is compared with, got None"),
        ({"exit": 4}, "`exit` must be from 1 to 3, got 4"),
    ],
)
def test_budgets_that_cannot_be_kept_are_refused(option, message):
    with pytest.raises(ValueError, match=message):
        AnytimePredictor(network(), COSTS).predict(torch.zeros(2, 1), **option)


def test_without_thresholds_no_mean_can_be_kept():
    with pytest.raises(ValueError, match=r"`mean_macs` must be at least .* of which there is none, got 50"):
        AnytimePredictor(network(), COSTS).predict_within_mean(torch.zeros(2, 1), mean_macs=50)


def test_latency_holds_for_the_batch_it_was_measured_on():
    predictor = AnytimePredictor(network(), COSTS)
    with pytest.raises(ValueError, match="`latency_ms` was measured for batches of 2, got 3 images"):
        predictor.predict(torch.zeros(3, 1), latency_ms=5)
    assert predictor.predict(torch.zeros(3, 1), budget_macs=20).tolist() == [[2]] * 3
    with pytest.raises(ValueError, match="`name` must be one of budget_macs, latency_ms, energy_j, got 'time'"):
        predictor.exit_within("time", 1)


def test_costs_are_measured_on_each_exit_alone():
    parts = {"a": nn.Linear(4, 4), "exit_1": nn.Linear(4, 2), "b": nn.Linear(4, 8), "exit_2": nn.Linear(8, 2)}
    inputs = {"a": (IMAGE,), "exit_1": ("a",), "b": ("a",), "exit_2": ("b",)}
    two = AnytimeNetwork(parts, inputs, ["exit_1", "exit_2"]).eval()
    costs = measure_exits(
        two,
        macs=lambda module: count_macs(module, (1, 4)),
        latency_ms=lambda module: float(len(module.parts)),
        energy_j=lambda module: 0.5 * len(module.parts),
        batch_size=3,
    )
    assert costs == ExitCosts(
        macs=(16 + 8, 16 + 32 + 16),
        cumulative_macs=(16 + 8, 16 + 8 + 32 + 16),
        parameters=(20 + 10, 20 + 40 + 18),
        latency_ms=(2.0, 3.0),
        energy_j=(1.0, 1.5),
        batch_size=3,
    )
    assert measure_exits(two, macs=lambda module: 1).latency_ms is None


def test_costs_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"one value for each exit, got \[1, 2\] values"):
        ExitCosts(macs=(1, 2), cumulative_macs=(1,), parameters=(1, 2))
    with pytest.raises(ValueError, match="`batch_size` must be at least 1, got 0"):
        ExitCosts(macs=(1,), cumulative_macs=(1,), parameters=(1,), batch_size=0)
    with pytest.raises(ValueError, match="`costs` must be of 3 exits, got 1"):
        AnytimePredictor(network(), ExitCosts(macs=(1,), cumulative_macs=(1,), parameters=(1,)))
