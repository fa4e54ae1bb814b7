from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from nasray.hardware.counter import count_macs
from nasray.models.anytime import ExitSequence
from nasray.models.darts_operations import FactorizedReduce
from nasray.models.multi_scale_network import DerivedCell, MultiScaleNetwork
from nasray.spaces.genotype import Genotype
from nasray.spaces.multi_scale import DARTS_V2, MultiScaleSettings, MultiScaleSpace, darts_cifar, darts_imagenet
from nasray.spaces.multi_scale_plan import MultiScalePlan


def num_parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def meta_network(settings, genotype=DARTS_V2):
    with torch.device("meta"):
        return MultiScaleNetwork(MultiScalePlan(genotype=genotype, settings=settings))


def random_network(settings, seed):
    space = MultiScaleSpace(settings)
    torch.manual_seed(seed)
    return MultiScaleNetwork(space.plan(space.random(np.random.default_rng(seed))))


@pytest.mark.parametrize(
    ("settings", "parameters", "macs", "with_auxiliary"),
    [
        (darts_cifar(), 3_349_342, 528_359_040, 3_825_768),
        (darts_imagenet(), 4_718_752, 529_911_552, 5_979_528),
    ],
)
def test_darts_networks_have_the_published_counts(settings, parameters, macs, with_auxiliary):
    network, shape = meta_network(settings), (1, 3, settings.resolution, settings.resolution)
    assert num_parameters(network) == parameters
    assert count_macs(network, shape) == macs
    network = meta_network(replace(settings, has_auxiliary=True))
    assert num_parameters(network) == with_auxiliary
    assert network.plan.parameters == parameters
    assert count_macs(network, shape) == macs


@pytest.mark.parametrize("scales", [1, 2, 3])
@pytest.mark.parametrize("nodes", [2, 4])
@pytest.mark.parametrize("resolution", [8, 13])
def test_every_exit_gives_logits_and_costs_what_the_plan_counts(scales, nodes, resolution):
    settings = MultiScaleSettings(
        num_nodes=nodes,
        scales=scales,
        layers=5,
        exits=3,
        channels=5,
        num_classes=7,
        in_channels=1,
        resolution=resolution,
    )
    network, shape = random_network(settings, 0), (2, 1, resolution, resolution)
    plan = network.plan
    assert [logits.shape for logits in network.all_exits(torch.randn(shape))] == [(2, 7)] * 3
    assert num_parameters(network) == plan.parameters
    for exit in (1, 2, 3):
        alone = network.exit_network(exit)
        assert num_parameters(alone) == plan.exit_parameters(exit)
        assert count_macs(alone, shape) == 2 * plan.exit_macs(exit)
        assert count_macs(ExitSequence(network, exit), shape) == 2 * plan.cumulative_macs(exit)


@torch.no_grad()
def test_one_scale_computes_what_darts_computes():
    """The forward pass of DARTS's published network, written out over the same modules."""
    torch.manual_seed(0)
    settings = MultiScaleSettings(layers=6, channels=4, resolution=8)
    network = MultiScaleNetwork(MultiScalePlan(genotype=DARTS_V2, settings=settings)).eval()
    x = torch.randn(2, 3, 8, 8)
    s0 = s1 = network.parts["stem_1_0"](x)
    for layer in range(6):
        cell = network.parts[f"cell_{layer}_0"]
        edges = DARTS_V2.cell(is_reduction=layer in (2, 4))
        states = [cell.enter.two_back(s0), cell.enter.horizontal(s1)]
        operations = iter(cell.operations)
        for first, second in edges:
            states.append(next(operations)(states[first.source]) + next(operations)(states[second.source]))
        s0, s1 = s1, torch.cat(states[2:], dim=1)
        assert isinstance(cell.enter.two_back, FactorizedReduce) == (layer in (3, 5))
        assert s1.shape == (2, 16 * 2 ** (layer >= 2) * 2 ** (layer >= 4), *(8 >> (layer >= 2) >> (layer >= 4),) * 2)
    expected = network.parts["exit_1"].linear(nn.AdaptiveAvgPool2d(1)(s1).flatten(1))
    torch.testing.assert_close(network(x), expected)


@torch.no_grad()
def test_a_cell_below_the_finest_reads_the_finer_scale_too():
    torch.manual_seed(0)
    network = random_network(MultiScaleSettings(num_nodes=2, scales=2, layers=3, channels=6, resolution=8), 1).eval()
    cell = network.parts["cell_0_1"]
    assert network.inputs["cell_0_1"] == ("stem_1_1", "stem_1_1", "stem_1_0")
    fine, coarse = torch.randn(1, 18, 8, 8), torch.randn(1, 18, 4, 4)
    first, second = cell.enter(coarse, coarse, fine)
    assert first.shape == second.shape == (1, 6, 4, 4)
    torch.testing.assert_close(second[:, :3], cell.enter.diagonal(fine))
    torch.testing.assert_close(second[:, 3:], cell.enter.horizontal(coarse))


def test_auxiliary_head_trains_with_the_network():
    settings = MultiScaleSettings(layers=3, channels=4, resolution=32, has_auxiliary=True)
    network = random_network(settings, 0)
    logits, auxiliary = network.with_auxiliary(torch.randn(2, 3, 32, 32))
    assert logits.shape == auxiliary.shape == (2, 10)
    auxiliary.sum().backward()
    assert all(weight.grad is not None for weight in network.parts["auxiliary"].parameters())
    assert "auxiliary" not in network.exit_network(1).parts
    with pytest.raises(ValueError, match="must be built with `has_auxiliary`, got one without"):
        random_network(replace(settings, has_auxiliary=False), 0).with_auxiliary(torch.randn(2, 3, 32, 32))


def test_drop_path_acts_in_training_only_and_spares_identities():
    settings = MultiScaleSettings(num_nodes=2, layers=3, channels=4, resolution=8)
    space, x = MultiScaleSpace(settings), torch.randn(64, 3, 8, 8)
    skips = MultiScaleNetwork(space.plan(space.smallest()))
    edges = [("skip_connect", 0), ("skip_connect", 1), ("skip_connect", 0), ("skip_connect", 2)]
    assert space.genotype(space.smallest()) == Genotype.of([*edges[:2], *edges[:2]], [*edges[:2], *edges[:2]])
    convolutions = MultiScaleNetwork(space.plan(space.largest()))
    for network, acts in ((skips, False), (convolutions, True)):
        cell = next(part for part in network.parts.values() if isinstance(part, DerivedCell))
        inputs = (torch.randn(64, 12, 8, 8),) * 2
        before = cell(*inputs)
        network.set_drop_path(0.5)
        torch.manual_seed(0)
        assert torch.equal(cell(*inputs), before) != acts
        network.eval()
        assert torch.equal(network(x), network(x))
    with pytest.raises(ValueError, match=r"`probability` must be in \[0, 1\), got 1"):
        skips.set_drop_path(1.0)


def test_search_weights_fit_without_learned_norms():
    plan = MultiScalePlan(genotype=DARTS_V2, settings=MultiScaleSettings(layers=3, channels=4, resolution=8))
    network = MultiScaleNetwork(plan, affine=False, has_pool_norm=True)
    cells = [part for part in network.parts.values() if isinstance(part, DerivedCell)]
    norms = [norm for cell in cells for norm in cell.modules() if isinstance(norm, nn.BatchNorm2d)]
    assert norms and not any(norm.affine for norm in norms)
    assert isinstance(network.parts["cell_1_0"].operations[0], nn.Sequential)
