"""Shared weights of somebody's own network: they learn, and candidates are judged with their part of them."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from nasray.data import load_image_data
from nasray.spaces.chain import ChainSpace
from nasray.spaces.elastic_space import ElasticSpace, choice
from nasray.training.config import TrainingConfig
from nasray.training.jobs import Place
from nasray.training.network_evaluation import NetworkEvaluationConfig
from nasray.training.shared import SharedEvaluator, SharedJob, ordered_dropout


class Net(nn.Module):
    def __init__(self, width=choice(6, 12), depth=choice(1, 2)):
        super().__init__()
        widths = [1] + [width] * depth
        layers = [nn.Sequential(nn.Conv2d(a, b, 3, 2, 1), nn.ReLU()) for a, b in itertools.pairwise(widths)]
        self.layers, self.norm = nn.Sequential(*layers), nn.BatchNorm1d(width)
        self.classifier = nn.Linear(width, 10)

    def forward(self, images):
        return self.classifier(self.norm(self.layers(images).amax((2, 3))))


SPACE = ElasticSpace(Net)
RECIPE = TrainingConfig(epochs=8, batch_size=64, learning_rate=0.15, decay_epochs=1, warmup_epochs=0.5, ema_decay=0.9)
CONFIG = NetworkEvaluationConfig(training=RECIPE, timing_repeats=1)


@pytest.fixture(scope="module")
def data():
    return load_image_data(None)


@pytest.fixture(scope="module")
def weights(data):
    running = SharedJob(space=SPACE, training=RECIPE).start(data, Place())
    while not running.is_finished:
        running.run_epoch()
    return running.weights()


def test_every_network_has_learned(data, weights):
    evaluate = SharedEvaluator(SPACE, data, CONFIG, weights=weights)
    found = {network: evaluate(network).metrics for network in SPACE.enumerate(4)}
    accuracies = [metrics["accuracy"] for metrics in found.values()]
    assert accuracies == sorted(accuracies)  # as those of networks that are trained alone
    assert accuracies[0] > 0.25 and accuracies[-1] > 0.6
    assert evaluate(SPACE.largest()).metrics["accuracy"] == found[SPACE.largest()]["accuracy"]  # nothing was changed
    fresh = SharedJob(space=SPACE, training=RECIPE).start(data, Place()).weights()
    assert SharedEvaluator(SPACE, data, CONFIG, weights=fresh)(SPACE.largest()).metrics["accuracy"] < 0.2


def test_what_is_exported_goes_on_from_the_shared_weights(data, weights):
    evaluate = SharedEvaluator(SPACE, data, CONFIG, weights=weights)
    trained, images = evaluate.trained(SPACE.smallest()), data.holdout
    shared = evaluate(SPACE.smallest()).metrics["accuracy"]
    batches = list(evaluate._batches(images, 256))
    right = sum(int((trained(x).argmax(1) == y).sum()) for x, y in batches)
    assert right / len(images) > shared


def test_a_step_sums_to_the_mean_loss_over_the_batch():
    torch.manual_seed(0)
    shared = SharedJob(space=SPACE, training=RECIPE).start(load_image_data(None, max_train=60), Place()).trainer.model
    images, labels = torch.randn(10, 1, 8, 8), torch.arange(10)
    loss = ordered_dropout(shared, np.random.default_rng(1), num_networks=3)(images, labels, lambda value: value)
    networks = SPACE.balanced(3, np.random.default_rng(1))
    parts = zip(networks, images.tensor_split(3), labels.tensor_split(3), strict=True)
    expected = sum(nn.functional.cross_entropy(shared.run(a, x), y, reduction="sum") for a, x, y in parts) / 10
    torch.testing.assert_close(loss, expected.detach())
    gradients = [parameter.grad.clone() for parameter in shared.parameters() if parameter.grad is not None]
    shared.zero_grad()
    expected.backward()
    again = [parameter.grad for parameter in shared.parameters() if parameter.grad is not None]
    torch.testing.assert_close(gradients, again, rtol=1e-4, atol=1e-6)


def test_only_elastic_spaces_share(data):
    with pytest.raises(ValueError, match="`space` must be an ElasticSpace to share weights, got ChainSpace"):
        SharedEvaluator(ChainSpace(num_classes=10, in_channels=1, resolution=8), data, CONFIG)


class TiedNet(nn.Module):
    """Convolves with one weight twice, and fades channels by a buffer that no state dict has."""

    def __init__(self, width=choice(6, 12), depth=choice(1, 2)):
        super().__init__()
        self.widen = nn.Conv2d(1, width, 3, 2, 1)
        self.layers = nn.Sequential(*(nn.Conv2d(width, width, 3, 1, 1) for _ in range(depth)))
        self.again = nn.Conv2d(width, width, 3, 1, 1)
        self.again.weight = self.layers[0].weight
        self.slope = torch.linspace(0, 0.1, 3)[1].item()
        self.register_buffer("fade", torch.linspace(1, 0.5, width).view(-1, 1, 1), persistent=False)
        self.norm, self.classifier = nn.BatchNorm1d(width), nn.Linear(width, 10)

    def forward(self, images):
        maps = self.again(self.layers(self.widen(images)) * self.fade)
        return self.classifier(self.norm(nn.functional.leaky_relu(maps, self.slope).amax((2, 3))))


def test_tied_weights_travel_from_training_to_evaluation(data):
    space = ElasticSpace(TiedNet)
    few = load_image_data(None, max_train=120)
    recipe = TrainingConfig(epochs=1, batch_size=16, learning_rate=0.15, ema_decay=0.9)
    running = SharedJob(space=space, training=recipe).start(few, Place())
    running.run_epoch()
    config = NetworkEvaluationConfig(training=recipe, timing_repeats=1)
    evaluate = SharedEvaluator(space, few, config, weights=running.weights())
    for network in space.enumerate(4):
        assert evaluate(network).status == "ok"
        trained = evaluate.trained(network)
        assert trained.again.weight is trained.layers[0].weight
