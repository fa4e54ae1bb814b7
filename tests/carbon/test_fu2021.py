"""Fu et al. 2021: equations, figures, and measured trainings that follow the same identities."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nasray.carbon.fu2021 import PAPER, US_AVERAGE_G_PER_KWH, Factors, carbon_kg, energy_wh, strubell_lb
from nasray.carbon.fu2021_figures import figure_3, figure_4, left_out
from nasray.carbon.fu2021_gpus import GPU_POWERS, GpuPower, gpu_power_w
from nasray.carbon.fu2021_training import (
    HAND_MADE,
    PublishedEstimate,
    equation_3,
    lifetime_trainings,
    training_hours,
    trainings_carbon_t,
)
from nasray.carbon.nas_costs import SearchMethod
from nasray.carbon.nas_costs_published import PUBLISHED_METHODS


def data(name):
    if "NASRAY_DATA" not in os.environ:
        pytest.skip("NASRAY_DATA does not name a folder of real data")
    path = Path(os.environ["NASRAY_DATA"]) / name
    if not path.is_file():
        pytest.skip(f"NASRAY_DATA has no {name}")
    return path


def test_an_hour_of_a_v100() -> None:
    assert energy_wh(1) == pytest.approx(548.55, rel=1e-12)
    assert carbon_kg(energy_wh(1)) == pytest.approx(0.38782485, rel=1e-12)
    assert carbon_kg(1.0) == pytest.approx(0.707e-3, rel=1e-12)


def test_measured_energy_takes_the_same_way_as_gpu_hours() -> None:
    assert PAPER.carbon_g(345 * 3600) == pytest.approx(387.82485, rel=1e-12)


def test_the_papers_intensity_is_far_above_the_average() -> None:
    assert PAPER.intensity_g_per_kwh / US_AVERAGE_G_PER_KWH == pytest.approx(1.91, abs=0.005)


def test_a_training_of_resnet_by_equation_1() -> None:
    hours = training_hours(40)
    assert hours == pytest.approx(166.67, abs=0.005)
    assert energy_wh(hours) == pytest.approx(91_425)
    assert carbon_kg(energy_wh(hours)) == pytest.approx(64.637, abs=5e-4)


def test_equation_3_gives_the_papers_resnet_and_is_flagged() -> None:
    estimate = equation_3(3.8e9, training_hours(40), 3.6e6)
    assert estimate.published_kg / 1000 == pytest.approx(325.16, abs=0.005)
    assert estimate.published_kg / 1000 == pytest.approx(326.6, rel=0.005)
    assert not estimate.is_consistent
    assert "not an energy" in estimate.explanation
    with pytest.raises(TypeError, match="is_consistent"):
        PublishedEstimate(published_wh=1, published_kg=1, is_consistent=True)
    with pytest.raises(TypeError, match="unsupported operand"):
        estimate + 1.0


def test_trainings_of_resnet_are_rounded_in_the_paper() -> None:
    resnet = HAND_MADE["ResNet"]
    assert lifetime_trainings(resnet.citations) == 3.65e6
    assert resnet.trainings == pytest.approx(3.65e6, rel=0.015)


def test_figure_4_has_both_equations_for_resnet_and_nothing_made_up() -> None:
    rows = {row.name: row for row in figure_4()}
    assert {name: row.printed_t for name, row in rows.items()} == {"GoogLeNet": 65.1, "VGG": 181.7, "ResNet": 326.6}
    assert rows["ResNet"].trainings_t == pytest.approx(64.637475e-3 * 3.6e6)
    assert rows["ResNet"].published.published_kg == pytest.approx(325_160, abs=5)
    assert all(rows[name].trainings_t is None and rows[name].published is None for name in ("VGG", "GoogLeNet"))


def test_figure_3_dwarfs_the_search_and_follows_flops_only_by_equation_3() -> None:
    resnet, *searched = figure_3(PUBLISHED_METHODS)
    by_name = {row.name: row for row in searched}
    assert resnet.search_t is None
    assert resnet.total_t == pytest.approx(64_637.475)
    assert set(by_name) == {
        "ProxylessNAS",
        "Once-for-All",
        "BigNAS",
        "NetAdaptV2 (latency)",
        "NSGANetV2-m",
        "NetAdaptV2 (MACs)",
    }
    for row in searched:
        assert row.trainings_t == pytest.approx(1.5 * resnet.trainings_t)
        assert row.total_t == row.trainings_t + row.search_t
        assert row.search_t < 1e-4 * row.trainings_t
    ratio = by_name["Once-for-All"].published.published_kg / resnet.published.published_kg
    assert ratio == pytest.approx(230e6 / 3.8e9 * 60 / 40)


def test_what_is_left_out_is_said() -> None:
    sentences = left_out([SearchMethod(name="A", source="b"), SearchMethod(name="C", source="b", gpu_hours=3)])
    assert sentences == [
        "The table of searches and Fig. 2 without A: no GPU hours known.",
        "Fig. 2 without C: no ImageNet accuracy known.",
        "Fig. 3 without C: no multiply-adds known.",
        "Fig. 4 by equation 1 or 3 without GoogLeNet, VGG: no citations or FLOPs known.",
    ]


def test_other_factors_scale() -> None:
    own = Factors(pue=1.0, intensity_g_per_kwh=100.0, cpu_power_w=0.0)
    assert energy_wh(10, gpu_power_w=250, factors=own) == 2500
    assert carbon_kg(2500, factors=own) == pytest.approx(0.25)
    assert trainings_carbon_t(10, 1000, factors=own) == pytest.approx(0.3)


def test_gpu_types() -> None:
    assert gpu_power_w("v100 ") == gpu_power_w(None) == 300
    assert gpu_power_w("Mine", {**GPU_POWERS, "Mine": GpuPower(power_w=90, source="label")}) == 90
    with pytest.raises(ValueError, match=r"`gpu_type` must be one of V100, .*got 'Voodoo'"):
        gpu_power_w("Voodoo")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Factors(pue=0.9), "`pue` must be a number of at least 1"),
        (lambda: Factors(pue=float("nan")), "`pue` must be a number of at least 1"),
        (lambda: Factors(intensity_g_per_kwh=-1), "`intensity_g_per_kwh` must be"),
        (lambda: Factors(cpu_power_w=float("inf")), "`cpu_power_w` must be"),
        (lambda: energy_wh(-1), "`gpu_hours` must be"),
        (lambda: energy_wh(1, gpu_power_w=float("nan")), "`gpu_power_w` must be"),
        (lambda: strubell_lb(-1), "`gpu_hours` must be"),
        (lambda: GpuPower(power_w=0, source="x"), "`power_w` must be a positive"),
        (lambda: training_hours(0), "`minutes_per_epoch` and `epochs` must be positive"),
        (lambda: equation_3(-1, 1), "`macs`, `gpu_hours_each`"),
        (lambda: lifetime_trainings(-1), "`citations` and"),
    ],
)
def test_wrong_figures_are_refused(call, message) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.data
def test_measured_trainings_follow_the_same_identities_row_by_row() -> None:
    runs = pd.read_parquet(data("ecnas/ecnas_runs.parquet"))
    assert len(runs) == 2805
    # A GPU of the mean power for an hour each second: eq. 1 with the measured powers in the place of the rated ones.
    expected_kwh = [
        energy_wh(1 / 3600, gpu_power_w=gpu_j, factors=Factors(cpu_power_w=cpu_j)) / 1000
        for gpu_j, cpu_j in zip(runs["gpu_energy_J"], runs["cpu_energy_J"], strict=True)
    ]
    np.testing.assert_allclose(runs["total_energy_kWh"], expected_kwh, rtol=2e-4)
    expected_g = [
        1000 * carbon_kg(kwh * 1000, factors=Factors(intensity_g_per_kwh=intensity))
        for kwh, intensity in zip(runs["total_energy_kWh"], runs["avg_intensity_gCO2_per_kWh"], strict=True)
    ]
    np.testing.assert_allclose(runs["total_co2eq_g"], expected_g, rtol=1e-4)


@pytest.mark.data
def test_listed_gpu_powers_are_those_of_their_source() -> None:
    table = pd.read_csv(data("co2_tables/mlco2_gpus.csv")).set_index("name")["tdp_watts"]
    spelled = {"A100 PCIe": "A100 PCIe 40/80GB", "A100 SXM4": "A100 SXM4 80 GB", "P100": "Tesla P100"}
    spelled |= {"P40": "Tesla P40"}
    for name, power in GPU_POWERS.items():
        if power.source.startswith("mlco2"):
            assert power.power_w == float(table[spelled.get(name, name)])
