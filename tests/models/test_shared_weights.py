import pickle

import numpy as np
import pytest
import torch
from torch import nn

from nasray.models.shared_weights import SharedWeights
from nasray.spaces.elastic_space import ElasticSpace, choice


class Net(nn.Module):
    def __init__(self, width=choice(4, 8, 12), kernel=choice(3, 5, 7), depth=choice(1, 2, 3)):
        super().__init__()
        blocks, channels = [], 2
        for _ in range(depth):
            convolution = nn.Conv2d(channels, width, kernel, padding=kernel // 2)
            blocks.append(nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU()))
            channels = width
        self.blocks = nn.Sequential(*blocks)
        self.line = nn.Conv1d(width, 5, 1)
        self.classifier = nn.Linear(5, 3)

    def forward(self, images):
        return self.classifier(self.line(self.blocks(images).flatten(2)).mean(2))


@pytest.fixture
def shared():
    torch.manual_seed(0)
    return SharedWeights(ElasticSpace(Net))


def test_a_network_computes_with_its_part_of_the_weights(shared):
    generator, images = np.random.default_rng(0), torch.randn(3, 2, 9, 9)
    for _ in range(10):
        architecture = shared.space.random(generator)
        alone = shared.extract(architecture)
        torch.testing.assert_close(shared.eval().run(architecture, images), alone.eval()(images))
        kernel = architecture["kernel"]
        at = (7 - kernel) // 2
        first = shared.largest.blocks[0][0].weight[: architecture["width"], :2, at : at + kernel, at : at + kernel]
        assert torch.equal(alone.blocks[0][0].weight, first)
    whole = shared.extract(shared.space.largest())
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), shared.largest.parameters(), strict=True))


def test_gradients_reach_the_part_and_nothing_else(shared):
    shared.train().run(shared.space.smallest(), torch.randn(4, 2, 9, 9)).sum().backward()
    gradient = shared.largest.blocks[0][0].weight.grad
    assert gradient[:4, :, 2:5, 2:5].abs().sum() > 0
    assert not gradient[4:].any() and not gradient[:, :, :2].any()
    assert shared.largest.blocks[2][0].weight.grad is None


def test_training_parts_makes_all_networks_better(shared):
    images = torch.randn(60, 2, 9, 9)
    labels = (images[:, 0].mean((1, 2)) > 0).long()
    optimizer = torch.optim.Adam(shared.parameters(), lr=0.01)

    def loss(architecture):
        return nn.functional.cross_entropy(shared.run(architecture, images), labels)

    ends = [shared.space.smallest(), shared.space.largest()]
    before = [loss(end).item() for end in ends]
    generator = np.random.default_rng(1)
    for _ in range(60):
        optimizer.zero_grad()
        for architecture in [*ends, shared.space.random(generator)]:
            loss(architecture).backward()
        optimizer.step()
    assert all(loss(end).item() < 0.6 * first for end, first in zip(ends, before, strict=True))


def test_it_travels_to_another_process(shared):
    again = pickle.loads(pickle.dumps(shared))
    images, architecture = torch.randn(1, 2, 9, 9), shared.space.smallest()
    torch.testing.assert_close(again.eval().run(architecture, images), shared.eval().run(architecture, images))


class Renamed(nn.Module):
    def __init__(self, kind=choice("a", "b")):
        super().__init__()
        setattr(self, kind, nn.Linear(1, 1))


class Shrinking(nn.Module):
    def __init__(self, factor=choice(1, 2)):
        super().__init__()
        self.line = nn.Linear(8 // factor, 2)


def test_networks_that_are_no_parts_are_told():
    with pytest.raises(ValueError, match=r"must be parts of the largest one to share weights, but a\.bias is none"):
        SharedWeights(ElasticSpace(Renamed))
    with pytest.raises(ValueError, match=r"must not be larger than that of the largest network, got \(2, 8\)"):
        SharedWeights(ElasticSpace(Shrinking))
