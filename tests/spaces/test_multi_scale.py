from dataclasses import replace

import numpy as np
import pytest

from nasray.architecture import Architecture
from nasray.spaces.multi_scale import DARTS_V2, MultiScaleSettings, MultiScaleSpace, darts_cifar, darts_imagenet
from nasray.spaces.multi_scale_layout import Position
from nasray.spaces.multi_scale_plan import MultiScalePlan
from nasray.strategies.variation import crossover, mutate

SMALL = MultiScaleSettings(num_nodes=2, scales=2, layers=4, exits=2, channels=4, resolution=8)


@pytest.mark.parametrize(
    ("settings", "parameters", "macs"),
    [(darts_cifar(), 3_349_342, 528_359_040), (darts_imagenet(), 4_718_752, 529_911_552)],
)
def test_published_counts_of_darts(settings, parameters, macs):
    plan = MultiScaleSpace(settings).plan(MultiScaleSpace(settings).architecture(DARTS_V2))
    assert (plan.parameters, plan.macs) == (parameters, macs)
    assert plan.exit_macs(1) == plan.cumulative_macs(1) == macs
    assert plan.exit_parameters(1) == parameters


def test_one_scale_is_the_layout_of_darts():
    settings = darts_cifar()
    assert settings.reductions == (6, 13)
    assert settings.exit_layers == (19,)
    assert settings.positions == tuple(Position(layer, 0) for layer in range(-1, 20))
    assert settings.inputs(Position(0, 0)) == (Position(-1, 0), Position(-1, 0))
    assert settings.inputs(Position(1, 0)) == (Position(-1, 0), Position(0, 0))
    assert settings.inputs(Position(5, 0)) == (Position(3, 0), Position(4, 0))
    imagenet = darts_imagenet()
    assert imagenet.inputs(Position(0, 0)) == (Position(-2, 0), Position(-1, 0))
    assert [imagenet.side(Position(layer, 0)) for layer in (-2, -1, 0, 4, 9)] == [56, 28, 28, 14, 7]


def test_scales_halve_and_cells_read_the_finer_scale():
    settings = MultiScaleSettings(scales=3, layers=7, exits=6)
    assert settings.exit_layers == (1, 2, 3, 4, 5, 6)
    assert settings.reductions == (2, 4)
    assert [settings.side(Position(0, scale)) for scale in range(3)] == [32, 16, 8]
    assert [settings.side(Position(4, scale)) for scale in range(3)] == [8, 4, 2]
    assert settings.inputs(Position(3, 2)) == (Position(1, 2), Position(2, 2), Position(2, 1))
    assert settings.inputs(Position(-1, 2)) == (Position(-1, 1),)
    assert settings.exit_position(1) == Position(1, 2)
    stems = [Position(-1, 0), Position(-1, 1), Position(-1, 2)]
    assert settings.needed(1) == (*stems, Position(0, 1), Position(0, 2), Position(1, 2))
    # The finest scales of the last layers feed no classifier.
    assert not {Position(6, 0), Position(6, 1), Position(5, 0)} & set(settings.positions)


@pytest.mark.parametrize(("exits", "layers"), [(1, (9,)), (2, (1, 9)), (3, (1, 5, 9)), (9, tuple(range(1, 10)))])
def test_exits_are_spread_evenly_without_the_first_layer(exits, layers):
    assert MultiScaleSettings(layers=10, exits=exits).exit_layers == layers


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_nodes": 3}, r"`num_nodes` must be one of \(2, 4\), got 3"),
        ({"scales": 4}, "`scales` must be from 1 to 3, got 4"),
        ({"layers": 2}, "`layers` must be at least 3, got 2"),
        ({"channels": 2}, "`channels` must be at least 4, got 2"),
        ({"exits": 4}, "`exits` must be from 1 to 3, got 4. There is one exit at most after each"),
        ({"stem": "digits"}, "`stem` must be one of cifar, imagenet, got 'digits'"),
        ({"stem": "imagenet"}, "`scales` must be 1 with the stem 'imagenet', got 2"),
        ({"has_auxiliary": True}, "`has_auxiliary` must be False with several exits, got 2"),
        ({"has_auxiliary": True, "exits": 1}, "unless the second reduction gives 8 to 10 pixels a side, got 1"),
    ],
)
def test_settings_out_of_range_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **change)


def test_exits_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match="`exit` must be from 1 to 2, got 0"):
        SMALL.exit_position(0)


@pytest.mark.parametrize("nodes", [2, 4])
def test_architectures_and_genotypes_are_the_same_thing(nodes):
    space, generator = MultiScaleSpace(replace(SMALL, num_nodes=nodes)), np.random.default_rng(0)
    architecture = space.random(generator)
    for _ in range(20):
        genotype = space.genotype(architecture)
        assert space.architecture(genotype) == architecture
        assert Architecture.from_json(architecture.to_json()) == architecture
        assert space.plan(architecture) == MultiScalePlan(genotype=genotype, settings=space.settings)
        other = mutate(space, architecture, generator)
        assert space.genotype(other) != genotype
        architecture = crossover(space, other, space.random(generator), generator)


def test_options_are_ordered_by_cost():
    space = MultiScaleSpace(replace(SMALL, channels=8))
    costs = {"first": [], "second": []}
    for place, found in costs.items():
        for operation in space.operations:
            choices = {**space.smallest().choices, f"normal_2_{place}": operation}
            found.append(space.plan(space.canonical(choices)).macs)
        assert found == sorted(found)
    assert space.plan(space.smallest()).macs < space.plan(space.largest()).macs


def test_costs_rise_with_the_exit():
    space = MultiScaleSpace(replace(SMALL, exits=3))
    plan = space.plan(space.largest())
    macs = [plan.exit_macs(exit) for exit in (1, 2, 3)]
    cumulative = [plan.cumulative_macs(exit) for exit in (1, 2, 3)]
    assert macs == sorted(macs) and cumulative == sorted(cumulative)
    assert cumulative[0] == macs[0]
    assert all(every >= alone for every, alone in zip(cumulative, macs, strict=True))


def test_what_does_not_fit_the_space_is_refused():
    space = MultiScaleSpace(SMALL)
    with pytest.raises(ValueError, match="`genotype` must have 2 nodes in a cell, got 4"):
        space.architecture(DARTS_V2)
    with pytest.raises(ValueError, match="`genotype` must have 2 nodes in a cell as the settings say, got 4"):
        MultiScalePlan(genotype=DARTS_V2, settings=SMALL)
    with pytest.raises(ValueError, match=r"`operations` must be different ones of none, .* got \['conv'\]"):
        MultiScaleSpace(SMALL, operations=["conv"])
    with pytest.raises(ValueError, match="`operations` must be different ones of"):
        MultiScaleSpace(SMALL, operations=[])
    narrow = MultiScaleSpace(SMALL, operations=["skip_connect", "sep_conv_3x3"])
    with pytest.raises(ValueError, match=r"`normal_2_first` must be one of .*'skip_connect', 'sep_conv_3x3'"):
        narrow.canonical({**narrow.smallest().choices, "normal_2_first": "none"})
    with pytest.raises(ValueError, match="must belong to space 'multi_scale', got 'cell'"):
        space.plan(Architecture("cell", ()))
