import numpy as np
import pytest
import torch
from torch import nn

from nasray.models.supernet import Supernet
from nasray.spaces.mobile_networks import mobile_space

RESOLUTIONS = {"mobile-8": 8, "mobile-32": 32, "mobilenet-v1": 32, "netadaptv2-latency": 33, "netadaptv2-mac": 32}


def trained_looking(space):
    """A supernet whose batch norms are not the identity, so that a wrong slice shows."""
    torch.manual_seed(0)
    supernet = Supernet(space).eval()
    for module in supernet.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
    return supernet


def sampled(space, count, generator):
    """Random architectures; half of them with blocks removed and layers emptied."""
    for index in range(count):
        choices = dict(space.random(generator).choices)
        if index % 2:
            removed = generator.choice(sorted({name.split(".")[0] for name in choices}), 2)
            choices |= {name: 0 for name in choices if name.split(".")[0] in removed and name.endswith("width")}
        yield space.canonical(choices)


def relative(a, b):
    return ((a - b).abs().max() / b.abs().max().clamp(min=1)).item()


COUNTS = {"mobile-8": 120, "mobile-32": 60, "mobilenet-v1": 10, "netadaptv2-latency": 6, "netadaptv2-mac": 4}


@pytest.mark.parametrize(("name", "count"), COUNTS.items())
@torch.no_grad()
def test_extract_equals_activate_and_masks(name, count):
    space = mobile_space(name, num_classes=10, resolution=RESOLUTIONS[name])
    supernet = trained_looking(space)
    images = torch.randn(2, 3, RESOLUTIONS[name], RESOLUTIONS[name])
    seen = {"width 0": False, "removed": False, "wide branch": False, "wide input": False, "kernels": set()}
    for architecture in sampled(space, count, np.random.default_rng(0)):
        plan = space.plan(architecture)
        seen["width 0"] |= any(layer.filters == 0 for layer in plan.layers())
        for block in plan.blocks:
            seen["removed"] |= block.is_removed
            if block.spec.has_residual and block.layers:
                seen["wide branch"] |= block.layers[-1].out_channels > block.in_channels
                seen["wide input"] |= block.layers[-1].out_channels < block.in_channels
        seen["kernels"] |= {layer.kernel for layer in plan.layers() if layer.spec.kind == "depthwise"}
        supernet.activate(architecture)
        active = supernet(images)
        network = supernet.extract(architecture)
        assert relative(network(images), active) < 1e-5
        assert relative(supernet.forward_masked(images, [architecture] * 2), active) < 1e-5
        assert sum(p.numel() for p in network.parameters()) == plan.parameters
    assert seen["width 0"]
    if name in ("mobile-8", "mobile-32"):
        assert all(seen.values())
        assert seen["kernels"] == {3, 5}


@torch.no_grad()
def test_masked_forward_gives_each_image_its_own_subnet():
    space = mobile_space("mobile-8", num_classes=10, in_channels=3)
    supernet = trained_looking(space)
    images = torch.randn(9, 3, 8, 8)
    architectures = list(sampled(space, 9, np.random.default_rng(1)))
    together = supernet.forward_masked(images, architectures)
    for index, architecture in enumerate(architectures):
        supernet.activate(architecture)
        assert relative(together[index : index + 1], supernet(images[index : index + 1])) < 1e-5


def test_masked_gradients_equal_the_mean_of_subnets_in_eval_mode():
    space = mobile_space("mobile-8", num_classes=10, in_channels=3)
    supernet = trained_looking(space)
    images, architectures = torch.randn(4, 3, 8, 8), list(sampled(space, 4, np.random.default_rng(2)))
    supernet.forward_masked(images, architectures).square().sum().backward()
    masked = {name: p.grad.clone() for name, p in supernet.named_parameters() if p.grad is not None}
    supernet.zero_grad()
    for index, architecture in enumerate(architectures):
        supernet.activate(architecture)
        supernet(images[index : index + 1]).square().sum().backward()
    for name, parameter in supernet.named_parameters():
        if parameter.grad is not None:
            assert torch.allclose(masked[name], parameter.grad, rtol=1e-3, atol=1e-4 * masked[name].abs().max()), name


def test_masked_forward_wants_one_architecture_per_image():
    space = mobile_space("mobile-8", num_classes=10, in_channels=3)
    with pytest.raises(ValueError, match="one for each of 2 images"):
        Supernet(space).forward_masked(torch.zeros(2, 3, 8, 8), [space.largest()])


def test_extract_copies_weights():
    space = mobile_space("mobile-8", num_classes=10, in_channels=3)
    supernet = Supernet(space)
    network = supernet.extract(space.largest())
    before = {name: value.clone() for name, value in supernet.state_dict().items()}
    for value in network.state_dict().values():
        value.zero_()
    assert all(torch.equal(before[name], value) for name, value in supernet.state_dict().items())


def test_removed_block_is_the_identity():
    space = mobile_space("mobile-8", num_classes=10, in_channels=3)
    choices = dict(space.largest().choices) | {f"b03.{layer}.width": 0 for layer in ("expand", "depthwise", "project")}
    supernet = trained_looking(space)
    plan = space.plan(space.canonical(choices)).blocks[2]
    x = torch.randn(1, 16, 8, 8)
    assert torch.equal(supernet.blocks["b03"](x, plan), x)
