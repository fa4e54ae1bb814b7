"""When the search of a found network has paid for itself."""

import pytest

from nasray.carbon.lifetime import BASELINE_MACS
from nasray.tune.payback import paybacks, with_energy

ROWS = [
    {"label": "initial", "macs": 2e6, "latency_ms": 4.0},
    {"label": "small", "macs": 1e6, "latency_ms": 1.0},
    {"label": "slow", "macs": 1e6, "latency_ms": 5.0},
]


def test_energy_is_estimated_from_latency_unless_it_was_measured() -> None:
    rows = with_energy(
        [*ROWS, {"label": "measured", "latency_ms": 1.0, "energy_mj": 7.0, "energy_quality": "measured"}], 10.0
    )
    assert [row["energy_mj"] for row in rows] == [40.0, 10.0, 50.0, 7.0]
    assert [row["energy_quality"] for row in rows] == ["estimated"] * 3 + ["measured"]
    assert with_energy(ROWS, None) == ROWS


def test_the_initial_network_is_what_is_replaced() -> None:
    small, slow = paybacks(with_energy(ROWS, 10.0), search_j=300.0, baseline="initial")
    assert (small.outcome, small.uses) == ("after", 10_000)  # 30 mJ saved each time
    assert slow.outcome == "never"


def test_a_known_network_costs_its_macs() -> None:
    small, _ = paybacks(with_energy(ROWS, 10.0), search_j=1e6, baseline="ResNet-50")
    per_inference_j = 0.04 / 2e6 * BASELINE_MACS["ResNet-50"]
    assert small.uses == pytest.approx(1e6 / (per_inference_j - 0.01), rel=1e-3, abs=1)


def test_what_is_unknown_gives_no_answer() -> None:
    assert paybacks(ROWS, search_j=1.0, baseline="initial") == []
    assert paybacks(with_energy(ROWS, 10.0), search_j=None, baseline="initial") == []
    with pytest.raises(ValueError, match="`baseline` must be one of initial, ResNet-50"):
        paybacks(ROWS, search_j=1.0, baseline="VGG")
