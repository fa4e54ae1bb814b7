import pytest
import torch
from torch import nn

from nasray.models.anytime import IMAGE, AnytimeNetwork, ExitSequence
from nasray.models.anytime_adaptive import adaptive_predict, confidence
from nasray.models.msdnet import MSDNet
from nasray.models.msdnet_plan import MSDNetPlan, MSDNetSettings
from nasray.models.multi_scale_network import MultiScaleNetwork
from nasray.spaces.multi_scale import DARTS_V2, MultiScaleSettings
from nasray.spaces.multi_scale_plan import MultiScalePlan


def multi_scale():
    settings = MultiScaleSettings(scales=3, layers=6, exits=4, channels=4, in_channels=1, resolution=8)
    return MultiScaleNetwork(MultiScalePlan(genotype=DARTS_V2, settings=settings))


def msdnet():
    return MSDNet(MSDNetPlan(MSDNetSettings(blocks=4, base=2, channels=4, growth=2, in_channels=1, resolution=8)))


def build(family):
    torch.manual_seed(0)
    network = family()
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)
    return network.eval()


def watch(network):
    """Record the batch size of every convolution and linear layer that runs, by its name."""
    ran = {}

    def hook(name):
        return lambda module, inputs, output: ran.setdefault(name, []).append(len(output))

    for name, module in network.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(hook(name))
    return ran


FAMILIES = pytest.mark.parametrize("family", [multi_scale, msdnet])


@FAMILIES
def test_an_exit_runs_its_own_parts_and_no_others(family):
    network, x = build(family), torch.randn(2, 1, 8, 8)
    expected = [logits.detach() for logits in network.all_exits(x)]
    ran = watch(network)
    for exit in range(1, 5):
        ran.clear()
        torch.testing.assert_close(network.predict(x, exit=exit), expected[exit - 1])
        parts = {name.split(".")[1] for name in ran}
        assert all(sizes == [2] for sizes in ran.values())  # each once
        wanted = set(network.needed([f"exit_{exit}"]))
        weighted = {part for part in wanted if any(True for _ in network.parts[part].parameters())}
        assert parts == weighted
        assert not parts & {f"exit_{other}" for other in range(1, 5) if other != exit}


def test_the_first_exit_leaves_deeper_layers_and_finer_scales_alone():
    network = build(multi_scale)
    ran = watch(network)
    network.predict(torch.randn(1, 1, 8, 8), exit=1)
    parts = {name.split(".")[1] for name in ran}
    assert parts == {"stem_1_0", "stem_1_1", "stem_1_2", "cell_0_1", "cell_0_2", "cell_1_2", "exit_1"}


@FAMILIES
def test_every_exit_of_a_full_pass_is_that_exit_alone(family):
    network, x = build(family), torch.randn(3, 1, 8, 8)
    ran = watch(network)
    found = network.all_exits(x)
    assert all(sizes == [3] for sizes in ran.values())
    assert torch.equal(network(x), found[-1])
    for exit in range(1, 5):
        torch.testing.assert_close(network.exit_network(exit)(x), found[exit - 1])
        sequence = ExitSequence(network, exit)(x)
        assert len(sequence) == exit
        torch.testing.assert_close(sequence[-1], found[exit - 1])


@FAMILIES
def test_features_are_let_go_when_nothing_reads_them_any_more(family):
    network = build(family)
    walk = network.walk(torch.randn(2, 1, 8, 8), network.exits)
    held = []
    for exit, _ in enumerate(walk, start=1):
        done = set(network.needed(network.exits[:exit]))
        later = set(network.needed(network.exits[exit:])) - done
        read = {source for part in later for source in network.inputs[part]} & (done | {IMAGE})
        assert set(walk._features) == read | set(network.exits[:exit])
        held.append(len(read))
    assert held[-1] == 0 < held[0]


@FAMILIES
@torch.no_grad()
def test_confident_images_leave_and_only_the_others_go_on(family):
    network, x = build(family), torch.randn(12, 1, 8, 8)
    every = torch.stack(network.all_exits(x))
    sure = torch.stack([confidence(logits) for logits in every])
    thresholds = [float(sure[0].sort().values[8]), float(sure[1].median()), 2.0]
    ran = watch(network)
    result = adaptive_predict(network, x, thresholds)
    expected = [
        next((exit for exit in (1, 2, 3) if sure[exit - 1, image] >= thresholds[exit - 1] - 1e-7), 4)
        for image in range(12)
    ]
    assert result.exit_B.tolist() == expected
    assert len(set(expected)) == 3 and 3 not in expected
    for image, exit in enumerate(expected):
        torch.testing.assert_close(result.logits_BK[image], every[exit - 1, image], atol=1e-5, rtol=1e-4)
    remaining = {exit: sum(other >= exit for other in expected) for exit in range(1, 5)}
    for exit in range(1, 5):
        assert ran[f"parts.exit_{exit}.linear"] == [remaining[exit]]


def test_nothing_more_runs_once_all_images_have_left():
    network, x = build(multi_scale), torch.randn(4, 1, 8, 8)
    ran = watch(network)
    result = adaptive_predict(network, x, [1.1, 0.0, 0.0])
    assert result.exit_B.tolist() == [2] * 4
    assert not {"exit_3", "exit_4", "cell_5_2"} & {name.split(".")[1] for name in ran}
    torch.testing.assert_close(result.logits_BK, network.predict(x, exit=2))


def test_what_makes_no_sense_is_refused():
    network, x = build(multi_scale), torch.randn(1, 1, 8, 8)
    with pytest.raises(ValueError, match="`exit` must be from 1 to 4, got 5"):
        network.predict(x, exit=5)
    with pytest.raises(ValueError, match="`exit` must be from 1 to 4, got 0"):
        ExitSequence(network, 0)
    with pytest.raises(ValueError, match="`thresholds` must have 3 or 4 values, got 1"):
        adaptive_predict(network, x, [0.5])
    with pytest.raises(ValueError, match="must be in eval mode and `x_BCHW` hold an image"):
        adaptive_predict(network, x[:0], [0.5] * 3)
    with pytest.raises(ValueError, match=r"must be in eval mode to predict, got training mode. Call `eval\(\)`"):
        network.train().predict(x, exit=1)
    with pytest.raises(ValueError, match="Part 'a' must read only parts before it or 'image', got 'b'"):
        AnytimeNetwork({"a": nn.Identity(), "b": nn.Identity()}, {"a": ("b",), "b": (IMAGE,)}, ["b"])
    with pytest.raises(ValueError, match=r"`exits` must name at least one part and only parts, got \['c'\]"):
        AnytimeNetwork({"a": nn.Identity()}, {"a": (IMAGE,)}, ["c"])
