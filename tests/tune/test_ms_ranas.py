"""Parts of an MS-RANAS run that need no Ray: settings, what is trained, costs."""

import json
import pickle
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from nasray.records import RunDirectory
from nasray.spaces.genotype import DARTS_V2, Genotype
from nasray.tune.ms_ranas import MSRanasRun
from nasray.tune.ms_ranas_costs import cost_terms
from nasray.tune.ms_ranas_networks import trained_networks
from nasray.tune.ms_ranas_presets import PRESETS
from nasray.tune.ms_ranas_rivals import MOST_RANDOM


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
    with pytest.raises(ValueError, match="`random` must be at most 1,000, got 1,001"):
        MSRanasRun(replace(quick, num_random=MOST_RANDOM + 1), digits, seeds=[0])
    with pytest.raises(ValueError, match="`inference-budget` must be positive numbers"):
        MSRanasRun(quick, digits, seeds=[0], budgets_macs=(1e6, 0))
    with pytest.raises(ValueError, match="`data` must hold out images"):
        MSRanasRun(quick, replace(digits, holdout=digits.holdout.subset(torch.arange(0))), seeds=[0])


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
    assert (groups.count("found"), groups.count("random"), groups.count("msdnet")) == (3, 6, 3)
    assert len({network.name for network in networks}) == len(networks)
    assert {network.job.drop_path for network in networks if network.group == "msdnet"} == {0.0}
    assert {network.job.drop_path for network in networks if network.group != "msdnet"} == {0.1}


def test_each_cost_weight_has_an_msdnet_of_its_cost_and_equal_ones_are_trained_once(digits):
    settings = replace(PRESETS["quick"](), cost_weights=(0.0, 0.5, 1.0), num_random=0)
    cells = {
        operation: [(operation, source) for source in (0, 1, 0, 1)] for operation in ("sep_conv_5x5", "max_pool_3x3")
    }
    dear, cheap = (Genotype.of(edges, edges).to_json() for edges in cells.values())
    first, second, third = settings.variants
    found = {variant.trial_name(0): {"genotype": cheap} for variant in (second, third)}
    found[first.trial_name(0)] = {"genotype": dear}
    networks = trained_networks(settings, digits, seeds=[0], found=found)
    ours, rivals = ([network for network in networks if network.group == group] for group in ("found", "msdnet"))
    assert [rival.rival_of for rival in rivals] == [(first.label,), (second.label, third.label)]
    assert ours[0].job.plan.macs > 1.5 * ours[1].job.plan.macs
    for rival, mine in zip(rivals, ours[:2], strict=True):
        assert rival.job.plan.exit_macs(4) == pytest.approx(mine.job.plan.macs, rel=0.11)


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
