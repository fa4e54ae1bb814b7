import numpy as np
import pytest

from nasray.architecture import Architecture
from nasray.spaces.mobile_networks import NETWORKS, mobile_space
from nasray.spaces.published_networks import published_networks, table_8, table_9


def test_published_networks_have_published_parameters():
    for network in published_networks():
        if network.parameters is not None:
            assert network.plan.parameters == network.parameters, network.name
            assert network.plan.macs == pytest.approx(network.macs, rel=1e-4)


def test_tables_of_netadaptv2_have_known_macs():
    plans = {network.name: network.plan for network in published_networks()}
    assert plans["netadaptv2-table8"].macs == 223_056_000
    assert plans["netadaptv2-table9"].macs == 311_295_744


def test_tables_are_members_of_their_spaces():
    for name, architecture in (("netadaptv2-latency", table_8()), ("netadaptv2-mac", table_9())):
        space = mobile_space(name, num_classes=1000)
        assert space.check(architecture) == architecture


def test_removed_block_of_table_8_is_gone():
    plan = mobile_space("netadaptv2-latency", num_classes=1000).plan(table_8())
    assert [block.spec.name for block in plan.blocks if block.is_removed] == ["b12"]


@pytest.mark.parametrize(
    ("channels", "limit", "filters", "expected"),
    [
        (4, 4, 4, 4), (4, 4, 1, 4), (4, 4, 0, 4),  # case 1: C = T
        (4, 6, 6, 6), (4, 6, 5, 5), (4, 6, 2, 4), (4, 6, 0, 4),  # case 2: C < T
        (4, 2, 2, 2), (4, 2, 1, 2), (4, 2, 0, 2),  # case 3: C > T
        (4, 2, 4, 4), (4, 2, 3, 3),  # case 4: T below the initial filters
        (4, None, 0, 4), (4, None, 7, 7), (4, 0, 3, 3),
    ],
)  # fmt: skip
def test_bypass_rule_gives_max_of_bypass_and_filters(channels, limit, filters, expected):
    from nasray.spaces.network_plan import LayerPlan
    from nasray.spaces.network_spec import LayerSpec

    spec = LayerSpec(name="c", kind="conv", filters=8, bypass_limit=limit)
    plan = LayerPlan(spec=spec, name="b.c", in_channels=channels, filters=filters, kernel=1, in_size=8)
    assert plan.out_channels == expected


def test_canonical_gives_equal_networks_one_id():
    space = mobile_space("mobile-8", num_classes=10)
    choices = dict(space.largest().choices) | {"b03.expand.width": 16}
    full = space.canonical(choices)
    narrow = space.canonical(choices | {"b03.depthwise.width": 16})
    assert full["b03.depthwise.width"] == 16
    assert full.arch_id == narrow.arch_id


def test_canonical_rejects_foreign_choices():
    space = mobile_space("mobile-8", num_classes=10)
    with pytest.raises(ValueError, match="must be one of"):
        space.canonical(dict(space.largest().choices) | {"stem.conv.width": 7})
    with pytest.raises(ValueError, match="must name each of its choices"):
        space.canonical({"stem.conv.width": 8})
    with pytest.raises(ValueError, match="must belong to space"):
        space.check(Architecture.of("other", {}))


@pytest.mark.parametrize("name", NETWORKS)
def test_balanced_draws_every_option_almost_equally_often(name):
    space = mobile_space(name, num_classes=10)
    count = 20
    drawn = dict.fromkeys(space.choices["stem.conv.width"], 0)
    for architecture in space.balanced(count, np.random.default_rng(0)):
        drawn[architecture["stem.conv.width"]] += 1
    assert max(drawn.values()) - min(drawn.values()) <= 1


def test_width_options_are_uniform_from_zero_to_full():
    assert mobile_space("netadaptv2-latency", num_classes=10).choices["b18.expand.width"] == tuple(range(0, 1025, 128))
    assert len(mobile_space("netadaptv2-mac", num_classes=10).choices["b18.expand.width"]) == 11


def test_unknown_network_lists_the_known_ones():
    with pytest.raises(ValueError, match="mobile-32"):
        mobile_space("mobile-33", num_classes=10)


@pytest.mark.parametrize("value", [None, 3, {}, {"space": 1, "choices": {}}, {"space": "../x", "choices": {}}])
def test_architecture_refuses_malformed_json(value):
    with pytest.raises(ValueError, match=r"."):
        Architecture.from_json(value)


def test_architecture_survives_json():
    architecture = table_9()
    again = Architecture.from_json(architecture.to_json())
    assert again == architecture
    assert again.arch_id == architecture.arch_id
