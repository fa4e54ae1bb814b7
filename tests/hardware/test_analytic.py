import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nasray.architecture import Architecture
from nasray.hardware.analytic import Macs, Memory, Parameters, peak_activation_bytes, weight_bytes
from nasray.hardware.counter import count_macs
from nasray.models.plain import PlainBlock, PlainNetwork
from nasray.models.supernet import Supernet
from nasray.spaces.mobile import MobileSpace
from nasray.spaces.mobile_networks import NETWORKS, mobile_space
from nasray.spaces.published_networks import published_networks


def meta_network(space: MobileSpace, architecture: Architecture) -> PlainNetwork:
    with torch.device("meta"):
        return PlainNetwork(space.plan(architecture)).eval()


def input_shape(space: MobileSpace, batch_size: int = 1) -> tuple[int, int, int, int]:
    return batch_size, space.spec.in_channels, space.spec.resolution, space.spec.resolution


def some_architectures(space: MobileSpace) -> list[Architecture]:
    generator = np.random.default_rng(0)
    return [space.smallest(), space.largest(), *(space.random(generator) for _ in range(2))]


def hooked_peak_bytes(network: PlainNetwork, x_BCHW: Tensor) -> int:
    """Watch the sizes of the real tensors: a second way to the peak."""
    live = [0]

    def watch(block: PlainBlock, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        layers = list(block.children())
        seen = [sizes[layer] for layer in layers]
        for index, (before, after) in enumerate(seen):
            live.append(before + after + (inputs[0].nbytes if block.has_residual and index else 0))
        if block.has_residual and layers:
            live.append(inputs[0].nbytes + seen[-1][1] + output.nbytes)

    sizes: dict[nn.Module, tuple[int, int]] = {}
    for block in network.blocks.values():
        for layer in block.children():
            layer.register_forward_hook(lambda m, x, y: sizes.__setitem__(m, (x[0].nbytes, y.nbytes)))
        block.register_forward_hook(watch)
    network(x_BCHW)
    return max(live)


@pytest.mark.parametrize("name", NETWORKS)
def test_analytic_counts_equal_those_of_torch(name: str) -> None:
    space = mobile_space(name, num_classes=10)
    for architecture in some_architectures(space):
        network = meta_network(space, architecture)
        assert Macs(space)(architecture).value == count_macs(network, input_shape(space))
        assert Parameters(space)(architecture).value == sum(p.numel() for p in network.parameters())


def test_analytic_counts_equal_those_of_an_extracted_network() -> None:
    space = mobile_space("mobile-8", num_classes=10)
    supernet = Supernet(space)
    for architecture in some_architectures(space):
        network = supernet.extract(architecture)
        assert Macs(space)(architecture).value == count_macs(network, input_shape(space))
        assert Parameters(space)(architecture).value == sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("published", published_networks(), ids=lambda published: published.name)
def test_analytic_counts_equal_those_of_torch_on_published_networks(published) -> None:
    with torch.device("meta"):
        network = PlainNetwork(published.plan)
    assert count_macs(network, (1, 3, 224, 224)) == published.plan.macs
    assert sum(p.numel() for p in network.parameters()) == published.plan.parameters


def test_count_macs_counts_the_batch_and_leaves_the_module_alone() -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.Flatten(), nn.Linear(8 * 16, 5)).train()
    assert count_macs(module, (2, 3, 4, 4)) == 2 * (8 * 3 * 9 * 16 + 8 * 16 * 5)
    assert module.training
    assert module[0].weight.device.type == "cpu"


@pytest.mark.parametrize("name", ["mobile-8", "mobile-32", "netadaptv2-latency"])
def test_weight_bytes_equal_parameters_and_buffers(name: str) -> None:
    space = mobile_space(name, num_classes=10)
    for architecture in some_architectures(space):
        network = meta_network(space, architecture)
        stored = [*network.parameters(), *network.buffers()]
        assert weight_bytes(space.plan(architecture)) == sum(tensor.nbytes for tensor in stored)


@pytest.mark.parametrize("name", ["mobile-8", "mobile-32"])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_peak_activation_bytes_equal_the_largest_live_tensors(name: str, batch_size: int) -> None:
    space = mobile_space(name, num_classes=10)
    for architecture in some_architectures(space):
        network = meta_network(space, architecture)
        x_BCHW = torch.empty(input_shape(space, batch_size), device="meta")
        expected = hooked_peak_bytes(network, x_BCHW)
        assert peak_activation_bytes(space.plan(architecture), batch_size) == expected


def test_memory_is_weights_and_activations_and_says_the_batch_size() -> None:
    space = mobile_space("mobile-8", num_classes=10)
    plan = space.plan(space.largest())
    memory = Memory(space, batch_size=4)(space.largest())
    assert memory.value == weight_bytes(plan) + 4 * peak_activation_bytes(plan)
    assert (memory.unit, memory.quality) == ("bytes", "predicted")
    assert "batch size 4" in memory.source


def test_memory_refuses_an_empty_batch() -> None:
    with pytest.raises(ValueError, match="`batch_size` must be at least 1, got 0"):
        Memory(mobile_space("mobile-8", num_classes=10), batch_size=0)
