"""The flat operations must add up to what each plan counts, and the formulas to figures worked out by hand."""

import numpy as np
import pytest

from nasray.hardware.operations import operations
from nasray.hardware.survey_equations import (
    survey_conv_flops,
    survey_conv_parameters,
    survey_figures,
    survey_flops,
    survey_linear_flops,
    survey_linear_parameters,
    survey_parameters,
)
from nasray.spaces.cell import CellSpace
from nasray.spaces.chain import ChainSpace
from nasray.spaces.mobile_networks import mobile_space

SPACES = [
    mobile_space("mobile-32", num_classes=10),
    mobile_space("netadaptv2-latency", num_classes=7, resolution=64),
    mobile_space("mobilenet-v1", num_classes=5, resolution=32),
    CellSpace(merge_isomorphic=False, num_cells=2, resolution=9),
    ChainSpace(num_classes=4, in_channels=3, resolution=12),
    ChainSpace(num_classes=4, in_channels=1, resolution=12, batch_norm=False),
]


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_operations_add_up_to_the_counts_of_the_plan(space):
    generator = np.random.default_rng(0)
    for architecture in [space.smallest(), space.largest(), *(space.random(generator) for _ in range(20))]:
        plan = space.plan(architecture)
        found = list(operations(plan))
        assert sum(operation.macs for operation in found) == plan.macs
        assert sum(operation.parameters for operation in found) == plan.parameters
        assert all(operation.elements > 0 for operation in found)


def test_survey_equations_have_the_values_worked_out_by_hand():
    # 2 * 8 * 6 * (3 * 9 + 1) * 16; 2 * (64 - 1) * 10; 3 * 9 * 16 + 16; 64 * 10 + 10
    assert survey_conv_flops(height=8, width=6, in_channels=3, kernel=3, out_channels=16) == 43_008
    assert survey_linear_flops(inputs=64, outputs=10) == 1_260
    assert survey_conv_parameters(in_channels=3, kernel=3, out_channels=16) == 448
    assert survey_conv_parameters(in_channels=3, kernel=3, out_channels=16, has_bias=False) == 432
    assert survey_linear_parameters(inputs=64, outputs=10) == 650


def test_survey_differs_from_the_counter_exactly_as_its_docstring_says():
    plan = SPACES[0].plan(SPACES[0].largest())
    layers = {layer.name: layer for layer in survey_figures(plan)}
    planned = {layer.name: layer for layer in plan.layers()}
    for name, layer in layers.items():
        own = planned[name]
        if own.spec.kind == "conv":
            pixels = own.in_size**2
            assert layer.survey_flops == 2 * layer.macs * own.spec.stride**2 + 2 * pixels * own.filters
            assert layer.parameters - layer.survey_parameters == 2 * own.filters * own.spec.has_batch_norm
    classifier = layers["classifier.linear"] if "classifier.linear" in layers else list(layers.values())[-1]
    assert classifier.survey_flops == 2 * classifier.macs - 2 * 10
    assert survey_flops(plan) == sum(layer.survey_flops for layer in survey_figures(plan))
    assert survey_parameters(plan) < plan.parameters


def test_survey_takes_a_depthwise_convolution_as_one_channel_per_group():
    plan = SPACES[0].plan(SPACES[0].largest())
    depthwise = next(layer for layer in plan.layers() if layer.spec.kind == "depthwise")
    found = next(layer for layer in survey_figures(plan) if layer.name == depthwise.name)
    expected = 2 * depthwise.in_size**2 * (depthwise.kernel**2 + 1) * depthwise.filters
    assert found.survey_flops == expected
