"""Parts of an MS-RANAS run that need no Ray: settings, rivals, comparisons."""

import json
import pickle
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch

from nasray.models.anytime_budget import ExitCosts
from nasray.records import RunDirectory
from nasray.spaces.genotype import DARTS_V2
from nasray.spaces.multi_scale import MultiScaleSpace
from nasray.spaces.multi_scale_layout import MultiScaleSettings
from nasray.tune.ms_ranas import MSRanasRun
from nasray.tune.ms_ranas_costs import cost_terms
from nasray.tune.ms_ranas_networks import trained_networks
from nasray.tune.ms_ranas_presets import PRESETS
from nasray.tune.ms_ranas_results import best_of_each, compare, exit_rows
from nasray.tune.ms_ranas_rivals import TOLERANCE, random_plans, scaled_msdnet

LAYOUT = MultiScaleSettings(num_nodes=2, scales=3, layers=7, exits=6, channels=8, in_channels=1, resolution=8)


@pytest.fixture(scope="module")
def plan():
    space = MultiScaleSpace(LAYOUT)
    return space.plan(space.random(np.random.default_rng(1)))


def test_a_variant_for_every_combination():
    settings = replace(PRESETS["ablation"](), cost_weights=(0.0, 0.1))
    variants = settings.variants
    assert len(variants) == 3 * 2 * 2 * 2
    assert len({variant.trial_name(0) for variant in variants}) == len(variants)
    assert {variant.exits for variant in variants} == {1, 4}


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_fit_and_are_json_and_pickle(preset, digits):
    settings = PRESETS[preset]()
    assert json.loads(json.dumps(settings.to_json())) == settings.to_json()
    assert pickle.loads(pickle.dumps(settings)) == settings
    data = replace(digits, resolution=32)
    for variant in settings.variants:
        assert settings.search_layout(variant, data).exits == variant.exits
        settings.final_layout(variant, data)


def test_the_final_layout_may_differ_from_the_searched_one(digits):
    settings = PRESETS["ablation"]()
    for variant in settings.variants:
        final = settings.final_layout(variant, digits)
        assert (final.scales, final.exits, settings.final_cutout(variant)) == (1, 1, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scales": (3, 3)}, "`scales` must be at least one value, none twice"),
        ({"cost": "joule"}, "`cost` must be one of macs, latency"),
        ({"cost_weights": (-1.0,)}, "`cost-weight` must be finite"),
        ({"cutouts_px": (-1,)}, "`cutout` must be finite"),
        ({"drop_path": 1.0}, "`drop-path` must be in"),
        ({"num_random": -1}, "`random` must be at least 0"),
    ],
)
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        replace(PRESETS["quick"](), **options)


def test_a_run_refuses_what_does_not_fit(digits):
    quick = PRESETS["quick"]()
    with pytest.raises(ValueError, match="`exits` must not repeat"):
        MSRanasRun(replace(quick, exits=(None, 6)), digits, seeds=[0])
    with pytest.raises(ValueError, match="`seeds` must be different"):
        MSRanasRun(quick, digits, seeds=[1, 1])
    with pytest.raises(ValueError, match="`target` must be above"):
        MSRanasRun(replace(quick, cost_weights=(1.0,), cost_target=10.0), digits, seeds=[0])
    with pytest.raises(ValueError, match="`cutout` must be below 8"):
        MSRanasRun(PRESETS["paper-cifar10"](), digits, seeds=[0])
    with pytest.raises(ValueError, match="`exits` must be from 1 to 6"):
        MSRanasRun(replace(quick, exits=(7,)), digits, seeds=[0])


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


@pytest.mark.parametrize("resolution", [8, 32])
def test_msdnet_is_scaled_to_the_cost(resolution):
    layout = replace(LAYOUT, resolution=resolution)
    for macs in (2e6, 20e6):
        rival = scaled_msdnet(layout, macs)
        costs = [rival.exit_macs(exit) for exit in range(1, 7)]
        assert costs == sorted(set(costs))
        assert costs[-1] == pytest.approx(macs, rel=0.15)
        assert rival.settings.scales == 3 and rival.settings.blocks == 6


def test_msdnet_of_the_published_size_is_found_again():
    layout = replace(LAYOUT, in_channels=3, resolution=32, exits=6)
    published = scaled_msdnet(layout, 60e6).settings
    assert (published.base, published.step) == (4, 2)
    assert published.channels / published.growth == pytest.approx(16 / 6, rel=0.1)


def test_every_found_network_gets_its_rivals(digits):
    settings = replace(
        PRESETS["quick"](), num_nodes=4, layers=4, exits=(3,), channels=4, num_random=2, scales=(1, 2), drop_path=0.1
    )
    found = {
        variant.trial_name(seed): {"genotype": DARTS_V2.to_json()} for variant in settings.variants for seed in (0, 1)
    }
    del found[settings.variants[1].trial_name(1)]  # a budget left it out
    networks = trained_networks(settings, digits, seeds=[0, 1], found=found)
    groups = [network.group for network in networks]
    assert (groups.count("found"), groups.count("random"), groups.count("msdnet")) == (3, 6, 4)
    assert len({network.name for network in networks}) == len(networks)
    assert {network.job.drop_path for network in networks if network.group == "msdnet"} == {0.0}
    assert {network.job.drop_path for network in networks if network.group != "msdnet"} == {0.1}


def row(group, seed, accuracies, macs=(100, 200), variant="v"):
    costs = ExitCosts(macs=macs, cumulative_macs=macs, parameters=macs)
    return {
        "name": f"{group}-{variant}-{seed}-{accuracies}",
        "group": group,
        "variant": variant,
        "seed": seed,
        "cutout_px": 0,
        "settings": {"scales": 3},
        "area_under_curve": accuracies[-1],
        "exits": exit_rows(costs, accuracies),
    }


def test_differences_by_hand():
    rows = [
        row("found", 0, (0.5, 0.9)),
        row("found", 1, (0.6, 0.8)),
        row("random", 0, (0.5, 0.7)),
        row("random", 0, (0.3, 0.9)),
        row("random", 1, (0.6, 0.9), macs=(120, 220)),
        row("msdnet", 0, (0.9, 1.0), macs=(150, 200)),
    ]
    random, msdnet = compare(rows, num_classes=10)
    assert (random["rival"], msdnet["rival"]) == ("random", "msdnet")
    assert random["differences"]["last_exit"]["values"] == pytest.approx([0.1, -0.1])
    assert random["differences"]["last_exit"]["mean"] == pytest.approx(0)
    assert random["differences"]["last_exit"]["std"] == pytest.approx(np.std([0.1, -0.1], ddof=1))
    # Budgets to 220: 100 guesses, 100 at exit 1, 20 at exit 2.
    ours = [(100 * 0.1 + 100 * first + 20 * last) / 220 for first, last in ((0.5, 0.9), (0.6, 0.8))]
    first = np.mean([(100 * 0.1 + 100 * a + 20 * b) / 220 for a, b in ((0.5, 0.7), (0.3, 0.9))])
    second = (120 * 0.1 + 100 * 0.6) / 220
    assert random["differences"]["all_budgets"]["values"] == pytest.approx([ours[0] - first, ours[1] - second])
    # Everyone answers from 120 on.
    answered = (80 * 0.6 + 20 * 0.8) / 100 - 0.6
    assert random["differences"]["answered_budgets"]["values"][1] == pytest.approx(answered)
    assert random["macs_ratio"] == pytest.approx((200 + 200 + 220) / 3 / 200)
    # Only seed 0 has an MSDNet; from 150 on.
    assert msdnet["differences"]["answered_budgets"]["values"] == pytest.approx([0.5 - 0.9])
    assert msdnet["differences"]["last_exit"]["std"] is None


def test_networks_with_one_exit_of_one_cost_are_compared_too():
    rows = [row("found", 0, (0.8,), macs=(100,)), row("random", 0, (0.7,), macs=(100,))]
    (found,) = compare(rows, num_classes=10)
    assert found["differences"]["answered_budgets"]["mean"] == pytest.approx(0.1)


def test_rivals_of_another_layout_are_left_out():
    other = row("msdnet", 0, (0.1, 0.2)) | {"settings": {"scales": 2}}
    assert compare([row("found", 0, (0.5, 0.9)), other], num_classes=10) == []


def test_the_best_of_each_kind_is_exported():
    rows = [row("found", 0, (0.5, 0.9)), row("found", 1, (0.6, 0.8)), row("random", 0, (0.5, 0.7))]
    assert best_of_each(rows, ("found", "msdnet")) == [rows[0]["name"]]


class StagesOfAFolder:
    """What a run's stages offer to a table: the run directory, and a place for its time."""

    def __init__(self, folder):
        self.run = RunDirectory.create(
            folder, method="ms-ranas", preset="quick", configuration={}, seed=0, data={}, resume=False
        )

    def timed(self, stage, device):
        return nullcontext()


@pytest.mark.parametrize(("cost", "unit"), [("latency", "latency_ms"), ("energy", "energy_mj")])
def test_costs_are_measured_once_and_charged_the_same_after_a_break(cost, unit, digits, tmp_path, monkeypatch):
    small = replace(PRESETS["quick"](), layers=3, exits=(2,), scales=(1,), channels=4)
    settings = replace(small, cost=cost, cost_weights=(0.0, 0.5, 1.0))
    run, stages = MSRanasRun(settings, digits, seeds=[0]), StagesOfAFolder(tmp_path / "run")
    first = cost_terms(settings, run.search_layouts, stages)
    assert [term.weight for term in first.values()] == [0.5, 1.0]  # without a weight nothing is charged
    monkeypatch.setattr(f"nasray.tune.ms_ranas_costs.{cost}_table", None)  # a second measurement would fail
    again = cost_terms(settings, run.search_layouts, stages)
    for one, other in zip(first.values(), again.values(), strict=True):
        assert one.table.unit == other.table.unit == unit
        assert torch.equal(one.table.normal, other.table.normal)
        assert one.table.fixed == other.table.fixed > 0
    assert bool(stages.run.run["notices"]) == (cost == "energy")  # how good the energies are


def test_variants_that_differ_at_all_have_names_of_their_own():
    settings = replace(PRESETS["quick"](), cost_weights=(0.0, 0.1234567, 0.1234568))
    names, labels = {v.trial_name(0) for v in settings.variants}, {v.label for v in settings.variants}
    assert len(names) == len(labels) == 3
    assert "s3-e4-c0-w0-seed0" in names and "3 scales, 4 exits, cutout 0, cost weight 0.1234567" in labels
