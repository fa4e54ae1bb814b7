"""Random cells and MSDNets of about the cost of a network."""

from dataclasses import replace

import numpy as np
import pytest

from nasray.models.msdnet_plan import MSDNetPlan, MSDNetSettings
from nasray.spaces.multi_scale import MultiScaleSpace
from nasray.spaces.multi_scale_layout import MultiScaleSettings
from nasray.tune.ms_ranas_rivals import (
    MOST_RANDOM,
    MSDNET_TOLERANCE,
    TOLERANCE,
    first_share,
    msdnet_exit_macs,
    random_plans,
    scaled_msdnet,
)

LAYOUT = MultiScaleSettings(num_nodes=2, scales=3, layers=7, exits=6, channels=8, in_channels=1, resolution=8)
PAPER = MultiScaleSettings(num_nodes=2, scales=3, layers=7, exits=6, channels=56)
SHARES = (0.12, 0.3, 0.5, 0.65, 0.8, 1.0)
"""Of the last exit's cost: what exits of found networks cost."""


@pytest.fixture(scope="module")
def plan():
    space = MultiScaleSpace(LAYOUT)
    return space.plan(space.random(np.random.default_rng(1)))


def test_random_rivals_are_different_and_of_about_the_cost(plan):
    rivals = random_plans(plan, 5, generator=np.random.default_rng(0))
    assert len({rival.genotype for rival in rivals}) == 5
    assert plan not in rivals
    assert all(abs(rival.macs / plan.macs - 1) <= TOLERANCE for rival in rivals)
    assert random_plans(plan, 5, generator=np.random.default_rng(0)) == rivals


def test_the_nearest_rivals_are_taken_where_none_is_within_the_tolerance():
    space = MultiScaleSpace(LAYOUT)
    largest = space.plan(space.largest())
    (rival,) = random_plans(largest, 1, generator=np.random.default_rng(0), tolerance=0.0)
    generator = np.random.default_rng(0)
    drawn = [space.plan(space.random(generator)).macs for _ in range(500)]
    assert max(drawn) <= rival.macs < largest.macs


def test_as_many_random_rivals_as_can_be_asked_for_are_found_for_the_rarest_network():
    space = MultiScaleSpace(replace(LAYOUT, scales=1, layers=3, exits=1))
    largest = space.plan(space.largest())
    assert len(set(random_plans(largest, MOST_RANDOM, generator=np.random.default_rng(0)))) == MOST_RANDOM


@pytest.mark.parametrize("macs", [187e6, 200e6, 220e6, 238.5e6, 300e6])
def test_the_paper_layout_keeps_the_published_blocks_and_a_cheap_first_exit(macs):
    rival = scaled_msdnet(PAPER, [share * macs for share in SHARES])
    settings = rival.settings
    assert (settings.base, settings.step, settings.classifier_channels) == (4, 2, 128)
    assert settings.channels / settings.growth == pytest.approx(16 / 6, rel=0.25)
    costs = msdnet_exit_macs(rival)
    assert costs == sorted(set(costs))
    assert costs[-1] == pytest.approx(macs, rel=0.03)
    assert first_share(costs) < 0.3  # 0.48 with blocks of a single layer


def test_the_published_network_is_found_again():
    published = MSDNetPlan(MSDNetSettings(blocks=6))
    assert scaled_msdnet(PAPER, msdnet_exit_macs(published)) == published


@pytest.mark.parametrize(("exits", "share"), [(2, 0.35), (4, 0.25), (6, 0.2)])
def test_small_networks_get_an_msdnet_with_a_cheap_first_exit_and_few_parameters(exits, share):
    space = MultiScaleSpace(replace(LAYOUT, exits=exits))
    for seed in range(3):
        plan = space.plan(space.random(np.random.default_rng(seed)))
        macs = [plan.exit_macs(exit) for exit in range(1, exits + 1)]
        rival = scaled_msdnet(plan.settings, macs)
        costs = msdnet_exit_macs(rival)
        assert costs == sorted(set(costs))
        assert costs[-1] == pytest.approx(macs[-1], rel=1.06 * MSDNET_TOLERANCE)
        assert first_share(costs) < share
        assert (rival.settings.scales, rival.settings.blocks) == (3, exits)
        assert rival.parameters < 5 * plan.parameters  # with published classifiers 12 times as many


@pytest.mark.parametrize(("resolution", "macs"), [(8, 2e6), (8, 20e6), (32, 2e6), (32, 20e6)])
def test_msdnet_is_scaled_to_the_cost(resolution, macs):
    rival = scaled_msdnet(replace(LAYOUT, resolution=resolution), [share * macs for share in SHARES])
    assert msdnet_exit_macs(rival)[-1] == pytest.approx(macs, rel=0.11)


def test_classifiers_are_no_narrower_than_the_classes_are_many():
    layout = replace(LAYOUT, num_classes=100, exits=4)
    rival = scaled_msdnet(layout, [50e3, 190e3, 260e3, 390e3])
    assert rival.settings.classifier_channels == 128
