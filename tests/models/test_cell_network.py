import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nasray.hardware.counter import count_macs
from nasray.models.cell_network import Cell, CellNetwork
from nasray.spaces.cell import CellSpace
from nasray.spaces.cell_forms import EDGES

SETTINGS = [
    {},
    {"num_classes": 7, "in_channels": 1, "resolution": 8, "num_cells": 1, "channels": 4},
    {"resolution": 30},
]


def num_parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def trained_looking(module):
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)
    return module.eval()


@pytest.mark.parametrize("settings", SETTINGS)
def test_network_has_what_the_plan_counts(settings):
    space, generator = CellSpace(merge_isomorphic=False, **settings), np.random.default_rng(0)
    shape = (2, space.in_channels, space.resolution, space.resolution)
    for architecture in [space.smallest(), space.largest(), *(space.random(generator) for _ in range(5))]:
        plan = space.plan(architecture)
        network = CellNetwork(plan)
        assert num_parameters(network) == plan.parameters
        assert count_macs(network, shape) == 2 * plan.macs
        assert network(torch.randn(shape)).shape == (2, space.num_classes)


@torch.no_grad()
def test_cell_computes_the_sum_over_edges():
    torch.manual_seed(0)
    operations = ("nor_conv_3x3", "avg_pool_3x3", "none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3")
    cell, x = trained_looking(Cell(operations, 4)), torch.randn(2, 4, 5, 5)

    def convolution(name, value):
        _, conv, norm = cell.edges[name]
        padded = F.pad(F.relu(value), (conv.kernel_size[0] // 2,) * 4)
        columns = F.unfold(padded, conv.kernel_size)
        y = (conv.weight.flatten(1) @ columns).unflatten(2, (5, 5))
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        return (y - norm.running_mean[:, None, None]) * scale[:, None, None] + norm.bias[:, None, None]

    ones = torch.ones(4, 1, 3, 3)
    pooled = F.conv2d(x, ones, padding=1, groups=4) / F.conv2d(torch.ones_like(x), ones, padding=1, groups=4)
    first = convolution("0_1", x)
    second = pooled + first
    third = convolution("1_3", first) + convolution("2_3", second)
    torch.testing.assert_close(cell(x), third, rtol=1e-4, atol=1e-4)


def test_cell_of_nothing_is_zero():
    x = torch.randn(1, 4, 3, 3)
    assert torch.equal(Cell(("none",) * len(EDGES), 4)(x), torch.zeros_like(x))


@torch.no_grad()
def test_edges_without_effect_do_not_change_the_network():
    """A cell and its representative give equal logits once the convolutions that both have are given equal weights."""
    plain, merged = (CellSpace(merge_isomorphic=flag, resolution=8, num_cells=1, channels=4) for flag in (False, True))
    choices = dict.fromkeys(plain.choices, "nor_conv_3x3") | {"edge_1_3": "none", "edge_1_2": "none"}
    cheap, dear = merged.canonical(choices), plain.canonical(choices)
    assert cheap["edge_0_1"] == "none"
    network = trained_looking(CellNetwork(plain.plan(dear)))
    smaller = CellNetwork(merged.plan(cheap)).eval()
    state = network.state_dict()
    smaller.load_state_dict({name: state[name] for name in smaller.state_dict()})
    assert num_parameters(smaller) < num_parameters(network)
    images = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(smaller(images), network(images))


@pytest.mark.data
def test_networks_have_the_parameters_of_the_table():
    if "NASRAY_DATA" not in os.environ:
        pytest.skip("NASRAY_DATA does not name a folder of real data")
    path = Path(os.environ["NASRAY_DATA"]) / "nasbench201" / "nasbench201.parquet"
    if not path.is_file():
        pytest.skip(f"NASRAY_DATA has no {path.parent.name}/{path.name}")
    space = CellSpace(merge_isomorphic=False)
    for _, row in pd.read_parquet(path).sample(10, random_state=1).iterrows():
        network = CellNetwork(space.plan(space.from_arch_str(row["arch_str"])))
        assert num_parameters(network) == round(row["c10_params_M"] * 1e6)
        assert count_macs(network, (1, 3, 32, 32)) + 10 == round(row["c10_flops_M"] * 1e6)
