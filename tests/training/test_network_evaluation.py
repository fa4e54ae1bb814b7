"""Candidates that are trained from scratch."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from nasray.data import load_image_data
from nasray.models.build import InfeasibleArchitectureError, build_network
from nasray.spaces.cell import CellSpace
from nasray.spaces.chain import ChainSpace
from nasray.spaces.elastic_space import ElasticSpace, choice
from nasray.spaces.mobile_networks import mobile_space
from nasray.training.config import TrainingConfig
from nasray.training.network_evaluation import NetworkEvaluationConfig, NetworkEvaluator
from nasray.training.trainer import DivergedError, Trainer

SPACE = ChainSpace(num_classes=10, in_channels=1, resolution=8)
CONFIG = NetworkEvaluationConfig(
    training=TrainingConfig(epochs=2, batch_size=64, learning_rate=0.15, ema_decay=0.9), timing_repeats=1
)


@pytest.fixture(scope="module")
def data():
    digits = load_image_data(None)
    rows = torch.arange(256)
    return replace(digits, train=digits.train.subset(rows), test=digits.test.subset(rows[:100]))


def simple_chain():
    genes = SPACE.smallest().choices | {"00.kind": "conv", "00.filters": 16}
    return SPACE.canonical(genes)


def test_a_network_is_trained_and_measured(data) -> None:
    evaluation = NetworkEvaluator(SPACE, data, CONFIG)(simple_chain())
    assert evaluation.status == "ok"
    metrics = evaluation.metrics
    assert metrics["accuracy"] > 0.3
    assert metrics["parameters"] == SPACE.plan(simple_chain()).parameters
    assert metrics["macs"] == SPACE.plan(simple_chain()).macs
    assert metrics["inference_time_s"] > 0
    assert evaluation.seconds > metrics["inference_time_s"]


def test_the_same_seed_gives_the_same_accuracy(data) -> None:
    evaluator = NetworkEvaluator(SPACE, data, CONFIG)
    first, second = evaluator(simple_chain()), evaluator(simple_chain())
    assert first.metrics["accuracy"] == second.metrics["accuracy"]
    assert first.metrics["test_accuracy"] == second.metrics["test_accuracy"]


def test_a_warm_up_changes_no_result(data) -> None:
    cold, warm = NetworkEvaluator(SPACE, data, CONFIG), NetworkEvaluator(SPACE, data, CONFIG)
    warm.warm_up()
    for evaluator in (cold, warm):
        torch.manual_seed(7)
        evaluator.found = evaluator(simple_chain()).metrics
    assert warm.found["accuracy"] == cold.found["accuracy"]
    assert warm.found["test_accuracy"] == cold.found["test_accuracy"]


class Destroyed(torch.nn.Module):
    """Its loss is finite while it is trained; what it says afterwards is no number, and 0 would be right mostly."""

    def __init__(self, width=choice(2, 3)):
        super().__init__()
        self.layer = torch.nn.Linear(64, 10)
        self.width = width

    def forward(self, images):
        logits = self.layer(images.flatten(1))
        return logits if self.training else logits * torch.nan


def test_a_network_whose_outputs_are_no_numbers_has_failed(data) -> None:
    mostly_zeros = replace(data.holdout, labels_N=torch.zeros_like(data.holdout.labels_N))
    space = ElasticSpace(Destroyed)
    evaluation = NetworkEvaluator(space, replace(data, holdout=mostly_zeros), CONFIG)(space.smallest())
    assert evaluation.status == "failed"
    assert "diverged" in str(evaluation.reason) and "not numbers (NaN)" in str(evaluation.reason)


def test_what_cannot_be_built_is_infeasible_with_its_reason(data) -> None:
    space = ChainSpace(num_classes=10, in_channels=1, resolution=8, max_parameters=10)
    evaluation = NetworkEvaluator(space, data, CONFIG)(space.random(np.random.default_rng(0)))
    assert evaluation.status == "infeasible"
    assert "parameters" in str(evaluation.reason)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("no room"), MemoryError("no room"), DivergedError("nan")])
def test_expected_failures_become_evaluations(data, monkeypatch, error) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(Trainer, "run_epoch", fail)
    evaluation = NetworkEvaluator(SPACE, data, CONFIG)(simple_chain())
    assert evaluation.status == ("failed" if isinstance(error, DivergedError) else "infeasible")
    assert evaluation.reason == ("diverged: nan" if isinstance(error, DivergedError) else "out of memory: no room")


def test_programming_errors_come_out(data, monkeypatch) -> None:
    monkeypatch.setattr(Trainer, "run_epoch", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError, match="division"):
        NetworkEvaluator(SPACE, data, CONFIG)(simple_chain())


@pytest.mark.parametrize(
    "space",
    [
        SPACE,
        CellSpace(in_channels=1, resolution=8, num_cells=1),
        mobile_space("mobile-8", num_classes=10, in_channels=1),
    ],
    ids=lambda space: space.name,
)
def test_every_space_builds_networks(space) -> None:
    architecture = space.random(np.random.default_rng(2))
    network = build_network(space, architecture).eval()
    assert network(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    assert sum(p.numel() for p in network.parameters()) == space.plan(architecture).parameters


def test_building_what_is_too_large_is_refused() -> None:
    space = ChainSpace(num_classes=10, in_channels=1, resolution=8, max_macs=1)
    with pytest.raises(InfeasibleArchitectureError, match="over `max_macs` = 1"):
        build_network(space, simple_chain_of(space))


def simple_chain_of(space: ChainSpace):
    return space.canonical(space.smallest().choices | {"00.kind": "conv"})
