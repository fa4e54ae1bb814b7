"""The report's section on energy."""

import json

from nasray.carbon.account import LocalAccount
from nasray.carbon.intensity import CarbonIntensity
from nasray.report.energy import energy


def account(tmp_path):
    with LocalAccount(CarbonIntensity(g_per_kwh=500.0, source="<test>"), pue=1.5, folder=tmp_path):
        sum(i * i for i in range(2_000_000))
    return json.loads((tmp_path / "energy.json").read_text())


def test_energy_is_shown_by_stage_and_node_with_its_factors(tmp_path) -> None:
    html = energy(account(tmp_path), {"break_even": ["It has paid for itself."]})
    assert "PUE 1.5" in html and "500 g CO2e/kWh, &lt;test&gt;" in html
    assert "It has paid for itself." in html
    assert "<h2>Energy and CO2</h2>" in html and "Every node" in html
    assert "estimated" in html or "attributed" in html or "measured" in html


def test_unknown_energy_is_a_dash_not_zero(tmp_path) -> None:
    value = account(tmp_path)
    for stage in value["stages"].values():
        stage.update(energy_j=None, carbon_g=None)
    html = energy(value, {})
    assert "an unknown amount of energy" in html
    assert "0 kWh" not in html.split("Every node")[0]


def test_a_run_without_an_account_has_no_section() -> None:
    assert energy(None, {}) is None
    assert energy({"nodes": {}}, {}) is None


def test_the_bill_stands_beside_what_was_used(tmp_path) -> None:
    bill = {"total": {"energy_j": 7.2e6, "hours": 0.5}, "calibration": "from 3 s"}
    assert "Announced before the search were 2 kWh and 30 min 0 s (from 3 s)." in energy(
        account(tmp_path), {"bill": bill}
    )
