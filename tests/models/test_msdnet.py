import pytest
import torch
from torch.nn import functional as F

from nasray.hardware.counter import count_macs
from nasray.models.anytime import ExitSequence
from nasray.models.msdnet import MSDNet
from nasray.models.msdnet_plan import MSDNetPlan, MSDNetSettings

SMALL = MSDNetSettings(blocks=3, base=2, step=2, channels=4, growth=2, num_classes=5, in_channels=1, resolution=8)


def num_parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("num_classes", "parameters", "macs"), [(100, 3_067_960, 75_487_744), (10, 2_986_690, 75_407_104)]
)
def test_published_counts(num_classes, parameters, macs):
    plan = MSDNetPlan(MSDNetSettings(num_classes=num_classes))
    with torch.device("meta"):
        network = MSDNet(plan)
    assert plan.parameters == num_parameters(network) == parameters
    assert plan.macs == count_macs(ExitSequence(network, 7), (1, 3, 32, 32)) == macs


@pytest.mark.parametrize("settings", [SMALL, MSDNetSettings(blocks=2, scales=1, channels=4, resolution=9)])
def test_every_exit_gives_logits_and_costs_what_the_plan_counts(settings):
    plan = MSDNetPlan(settings)
    network, shape = MSDNet(plan), (2, settings.in_channels, settings.resolution, settings.resolution)
    found = network.all_exits(torch.randn(shape))
    assert [logits.shape for logits in found] == [(2, settings.num_classes)] * settings.blocks
    assert num_parameters(network) == plan.parameters
    for exit in range(1, settings.blocks + 1):
        alone = network.exit_network(exit)
        assert num_parameters(alone) == plan.exit_parameters(exit)
        assert count_macs(alone, shape) == 2 * plan.exit_macs(exit)
        assert count_macs(ExitSequence(network, exit), shape) == 2 * plan.cumulative_macs(exit)


def test_layers_and_scales_are_those_of_the_paper():
    settings = MSDNetSettings()
    assert settings.num_layers == 16
    assert settings.exit_layers == (4, 6, 8, 10, 12, 14, 16)
    assert [settings.finest(layer) for layer in range(1, 17)] == [0] * 6 + [1] * 6 + [2] * 4
    parts = {part.name: part for part in MSDNetPlan(settings).parts}
    assert parts["layer_7_1"].inputs == ("layer_6_0", "layer_6_1")
    assert parts["layer_8_1"].inputs == ("transition_7_1",)
    assert parts["exit_7"].inputs == ("layer_16_2",)
    # 16 + 7 x 6 channels at scale 0, halved by the transition: 29 of them, twice as many at scale 1.
    assert parts["transition_7_1"].branches[0][0].out_channels == 58


@torch.no_grad()
def test_a_layer_passes_its_input_on_and_adds_half_of_its_channels_from_the_finer_scale():
    torch.manual_seed(0)
    network = MSDNet(MSDNetPlan(SMALL)).eval()
    part = network.parts["layer_1_1"]
    fine, same = torch.randn(2, 4, 8, 8), torch.randn(2, 8, 4, 4)
    y = part(fine, same)
    assert y.shape == (2, 8 + 4, 4, 4)
    assert torch.equal(y[:, :8], same)
    norm = (1 + part.branches[0][0][1].eps) ** -0.5

    def branch(x, index, stride):
        inner, outer = part.branches[index]
        hidden = F.relu(F.conv2d(x, inner[0].weight) * norm)
        return F.relu(F.conv2d(hidden, outer[0].weight, stride=stride, padding=1) * norm)

    torch.testing.assert_close(y[:, 8:10], branch(fine, 0, 2))
    torch.testing.assert_close(y[:, 10:], branch(same, 1, 1))


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="`growth` must be from 1 to 1000000, got 0"):
        MSDNetSettings(growth=0)
    with pytest.raises(ValueError, match="`scales` must be at most the number of layers, 2, got 3"):
        MSDNetSettings(blocks=1, base=2)
