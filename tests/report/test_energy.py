"""The report's section on energy."""

import json

import pytest

from nasray.carbon.account import LocalAccount
from nasray.carbon.intensity import CarbonIntensity
from nasray.report.energy import energy, node_parts, total_energy_j
from nasray.report.sections import Figures


def account(tmp_path):
    with LocalAccount(CarbonIntensity(g_per_kwh=500.0, source="<test>"), pue=1.5, folder=tmp_path):
        sum(i * i for i in range(2_000_000))
    return json.loads((tmp_path / "energy.json").read_text())


def test_energy_is_shown_by_stage_and_node_with_its_factors(tmp_path) -> None:
    figures = Figures()
    html = energy(account(tmp_path), {}, figures)
    assert "PUE 1.5" in html and "500 g CO2e/kWh, &lt;test&gt;" in html
    assert "<h2>Energy and CO2</h2>" in html and "Every node" in html
    assert "estimated" in html or "attributed" in html or "measured" in html
    assert [trace["name"] for trace in figures.drawn[0]["data"]] == ["trials", "overhead", "other", "idle"]


def test_bars_add_up_to_the_node(tmp_path) -> None:
    value = account(tmp_path)
    for part in node_parts(value):
        node = value["nodes"][part.node]["domains"][part.domain]
        if part.node_j is None:
            assert part.trials_j is part.overhead_j is None
            continue
        assert part.trials_j + part.overhead_j == pytest.approx(node["trials_j"])
        parts = (part.trials_j, part.overhead_j, part.other_j, part.idle_j)
        assert sum(parts) == pytest.approx(part.node_j)


def test_hatching_tells_the_quality(tmp_path) -> None:
    value = account(tmp_path)
    name, domains = next((node, content["domains"]) for node, content in value["nodes"].items())
    for number, quality in enumerate(("measured", "attributed", "estimated")):
        domains[f"d{number}"] = {**next(iter(domains.values())), "node_j": 1.0, "quality": quality}
    figures = Figures()
    energy(value, {}, figures)
    trace = figures.drawn[0]["data"][0]
    patterns = dict(zip(trace["y"], trace["marker"]["pattern"]["shape"], strict=True))
    assert [patterns[f"{name[:8]} d{n} ({q})"] for n, q in enumerate(("measured", "attributed", "estimated"))] == [
        "",
        "/",
        "x",
    ]


def test_unknown_energy_is_a_dash_not_zero(tmp_path) -> None:
    value = account(tmp_path)
    for stage in value["stages"].values():
        stage.update(energy_j=None, carbon_g=None)
    html = energy(value, {}, Figures())
    assert "an unknown amount of energy" in html
    assert "0 kWh" not in html.split("Every node")[0]
    assert total_energy_j(value) is None


def test_a_run_without_an_account_has_no_section() -> None:
    assert energy(None, {}, Figures()) is None
    assert energy({"nodes": {}}, {}, Figures()) is None
    assert total_energy_j(None) is None
