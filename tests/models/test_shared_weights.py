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


class Tokens(nn.Module):
    """Tensors of three dimensions that are no kernels, and stacked matrices."""

    def __init__(self, dim=choice(8, 16), tokens=choice(5, 9)):
        super().__init__()
        self.tokens = tokens
        self.embed = nn.Linear(1, dim)
        self.positions = nn.Parameter(torch.randn(1, tokens, dim))
        self.attention = nn.MultiheadAttention(dim, 2, batch_first=True)
        self.memory = nn.LSTM(dim, dim, batch_first=True)
        self.classifier = nn.Linear(dim, 3)

    def forward(self, images):
        values = self.embed(images.flatten(1)[:, : self.tokens, None]) + self.positions
        values = self.attention(values, values, values, need_weights=False)[0]
        return self.classifier(self.memory(values)[0].mean(1))


def test_only_kernels_are_cut_from_the_middle_and_stacked_matrices_each_by_itself():
    torch.manual_seed(0)
    shared = SharedWeights(ElasticSpace(Tokens))
    small, large = shared.extract(shared.space.smallest()), shared.largest
    assert torch.equal(small.positions, large.positions[:, :5, :8])
    for name in ("in_proj_weight", "in_proj_bias"):
        for part, whole in zip(*(getattr(net.attention, name).chunk(3) for net in (small, large)), strict=True):
            assert torch.equal(part, whole[:8, :8] if whole.ndim == 2 else whole[:8])
    for part, whole in zip(*(net.memory.weight_hh_l0.chunk(4) for net in (small, large)), strict=True):
        assert torch.equal(part, whole[:8, :8])
    images = torch.randn(4, 1, 4, 4)
    torch.testing.assert_close(shared.eval().run(shared.space.smallest(), images), small.eval()(images))
    shared.train().run(shared.space.smallest(), images).sum().backward()
    keys = large.attention.in_proj_weight.grad.chunk(3)[1]
    assert keys[:8, :8].abs().sum() > 0 and not keys[8:].any() and not keys[:, 8:].any()


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


class Tied(nn.Module):
    """Names one weight twice, computes while it is made, and has buffers of its own."""

    def __init__(self, width=choice(4, 8), depth=choice(1, 2)):
        super().__init__()
        rates = [rate.item() for rate in torch.linspace(0, 0.0, depth)]
        self.layers = nn.Sequential(*(nn.Sequential(nn.Dropout(rate), nn.Linear(2, 2)) for rate in rates))
        self.code, self.decode = nn.Linear(2, width, bias=False), nn.Linear(2, width)
        self.decode.weight = self.code.weight
        self.register_buffer("ramp", torch.linspace(0, 1, width), persistent=False)
        self.register_buffer("offset", torch.zeros(width))
        self.scale = torch.full((), 3.0)

    def forward(self, x):
        return self.scale * self.decode(self.layers(x)) + self.code(x) * self.ramp + self.offset


class TiedOnMeta(Tied):
    """The same without values of tensors while it is made, but with a plain tensor and a buffer that have them."""

    def __init__(self, width=choice(4, 8)):
        nn.Module.__init__(self)
        self.layers, self.code, self.decode = nn.Identity(), nn.Linear(2, width, bias=False), nn.Linear(2, width)
        self.decode.weight = self.code.weight
        self.register_buffer("ramp", torch.linspace(0, 1, width), persistent=False)
        self.register_buffer("offset", torch.zeros(width))
        self.scale = torch.full((), 3.0)


class OnlyTied(nn.Module):
    """Nothing but a tied weight, so that it can be made without values."""

    def __init__(self, width=choice(4, 8)):
        super().__init__()
        self.code, self.decode = nn.Linear(2, width, bias=False), nn.Linear(2, width)
        self.decode.weight = self.code.weight

    def forward(self, x):
        return self.code(x) * self.decode(x)


@pytest.mark.parametrize("network", [Tied, TiedOnMeta, OnlyTied])
def test_tied_weights_and_buffers_of_its_own_are_no_hindrance(network):
    torch.manual_seed(0)
    shared = SharedWeights(ElasticSpace(network))
    images = torch.randn(5, 2)
    for architecture in shared.space.enumerate(4):
        alone = shared.extract(architecture).eval()
        assert alone.decode.weight is alone.code.weight
        assert torch.equal(alone.code.weight, shared.largest.code.weight[: architecture["width"]])
        if network is not OnlyTied:  # a buffer that no state dict has is as the constructor makes it
            assert torch.equal(alone.ramp, torch.linspace(0, 1, architecture["width"]))
        torch.testing.assert_close(shared.eval().run(architecture, images), alone(images))
        fresh = network(**architecture.choices).eval()
        fresh.load_state_dict(alone.state_dict())
        torch.testing.assert_close(fresh(images), alone(images))
    shared.run(shared.space.smallest(), images).sum().backward()
    alone = shared.extract(shared.space.smallest())
    alone.eval()(images).sum().backward()
    torch.testing.assert_close(shared.largest.code.weight.grad[:4], alone.code.weight.grad)
    assert not shared.largest.code.weight.grad[4:].any()


def test_networks_that_are_kept_to_compute_with_hold_no_weights():
    shared = SharedWeights(ElasticSpace(Tied))
    (shell,) = shared._shells.values()
    assert all(parameter.is_meta for parameter in shell.parameters())
    assert shell.decode.weight is shell.code.weight


def test_random_numbers_are_drawn_for_the_largest_network_alone():
    torch.manual_seed(0)
    Tied(width=8, depth=2)
    expected = torch.rand(3)
    torch.manual_seed(0)
    SharedWeights(ElasticSpace(Tied))
    assert torch.equal(torch.rand(3), expected)


class Refusing(nn.Module):
    def __init__(self, width=choice(4, 8)):
        super().__init__()
        if width == 4:
            raise RuntimeError("too narrow")


def test_networks_that_cannot_be_made_are_told_at_once():
    with pytest.raises(ValueError, match=r"{'width': 4} raised RuntimeError: too narrow"):
        SharedWeights(ElasticSpace(Refusing))
