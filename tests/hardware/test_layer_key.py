from itertools import product

import numpy as np
import pytest

from nasray.hardware.layer_key import LayerKey, network_keys, required_keys
from nasray.spaces.mobile import MobileSpace
from nasray.spaces.mobile_networks import NETWORKS, mobile_space


def test_required_keys_are_exactly_those_of_all_networks(tiny_space: MobileSpace) -> None:
    names = list(tiny_space.choices)
    reached = set()
    for values in product(*tiny_space.choices.values()):
        architecture = tiny_space.canonical(dict(zip(names, values, strict=True)))
        reached.update(network_keys(tiny_space.plan(architecture)))
    assert set(required_keys(tiny_space)) == reached


@pytest.mark.parametrize("name", NETWORKS)
def test_required_keys_hold_every_random_network(name: str) -> None:
    space, generator = mobile_space(name, num_classes=10), np.random.default_rng(0)
    required = set(required_keys(space))
    for architecture in [space.smallest(), space.largest(), *(space.random(generator) for _ in range(30))]:
        assert required.issuperset(network_keys(space.plan(architecture)))


def test_required_keys_are_sorted_and_unique() -> None:
    keys = required_keys(mobile_space("mobile-8", num_classes=10))
    assert keys == sorted(set(keys))


def test_a_key_plans_the_layer_that_it_stands_for(tiny_space: MobileSpace) -> None:
    space = tiny_space
    for plan in (space.plan(space.random(np.random.default_rng(seed))) for seed in range(20)):
        keys = [key for key in network_keys(plan) if key.kind != "residual"]
        for key, layer in zip(keys, plan.layers(), strict=True):
            again = key.plan()
            assert (again.out_channels, again.out_size) == (layer.out_channels, layer.out_size)
            assert (again.macs, again.parameters if again.filters else 0) == (
                layer.macs,
                layer.parameters if layer.filters else 0,
            )


def test_a_removed_layer_has_one_key_whatever_its_kernel_and_activation(tiny_space: MobileSpace) -> None:
    choices = dict(tiny_space.largest().choices) | {"b03.depthwise.width": 0, "b03.expand.width": 0}
    keys = list(network_keys(tiny_space.plan(tiny_space.canonical(choices))))
    assert LayerKey("conv", 4, 0, bypass_end=4, stride=2, in_size=4) in keys


def test_a_removed_block_needs_nothing(tiny_space: MobileSpace) -> None:
    plan = tiny_space.plan(tiny_space.smallest())
    assert plan.blocks[1].is_removed
    assert "residual" not in {key.kind for key in network_keys(plan)}
