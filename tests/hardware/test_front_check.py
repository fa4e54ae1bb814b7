import numpy as np
import pytest

from nasray.hardware.front_check import CheckedNetwork, CostCheck, measure_front
from nasray.spaces.mobile_networks import mobile_space

SPACE = mobile_space("mobile-8", num_classes=10)
NETWORKS = [SPACE.random(np.random.default_rng(seed)) for seed in range(4)]


def checked(predicted, measured, **settings):
    values = dict(zip(NETWORKS, measured, strict=True))
    options = {"metric": "latency_ms", "unit": "ms", "device": "here", "generator": np.random.default_rng(0)}
    return measure_front(NETWORKS, predicted, values.__getitem__, **(options | settings))


def test_figures_have_the_textbook_values():
    check = checked([1.0, 2.0, 3.0, 5.0], [2.0, 2.5, 2.4, 4.0])
    assert check.kendall_tau == pytest.approx((5 - 1) / 6)
    assert check.spearman_rho == pytest.approx(1 - 6 * 2 / (4 * 15))
    assert check.mean_absolute_percentage_error == pytest.approx(100 * (0.5 + 0.2 + 0.25 + 0.25) / 4)
    assert check.median_ratio == pytest.approx((0.8 + 1.25) / 2)
    assert CostCheck.from_json(check.to_json()) == check
    assert "4 networks on here" in check.describe()


def test_networks_are_measured_in_turns_and_the_median_counts():
    seen, progress = [], []

    def measure(architecture):
        seen.append(architecture)
        return 1.0 + len(seen) // 4

    check = measure_front(
        NETWORKS,
        [1.0] * 4,
        measure,
        metric="m",
        unit="u",
        device="d",
        generator=np.random.default_rng(0),
        rounds=3,
        progress=lambda *counts: progress.append(counts),
    )
    assert [set(seen[turn * 4 : turn * 4 + 4]) for turn in range(3)] == [set(NETWORKS)] * 3
    assert progress == [(done, 12) for done in range(1, 13)]
    assert {network.measured for network in check.networks} <= {2.0, 3.0}
    assert all(network.spread > 0 for network in check.networks)
    least = checked([1.0] * 4, [2.0, 3.0, 4.0, 5.0], keep="minimum")
    assert [network.measured for network in least.networks] == [2.0, 3.0, 4.0, 5.0]
    assert (check.kendall_tau, check.spearman_rho) == (None, None)


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match="must be as many, got 4, 1 and 4"):
        checked([1.0], [1.0] * 4)
    with pytest.raises(ValueError, match="`rounds` must be at least 1, got 0"):
        checked([1.0] * 4, [1.0] * 4, rounds=0)
    with pytest.raises(ValueError, match=r"must be positive, got 0.0 predicted"):
        checked([0.0] * 4, [1.0] * 4)
    with pytest.raises(ValueError, match="must hold a network to compare, got none"):
        CostCheck.of([], metric="m", unit="u", device="d")
    with pytest.raises(ValueError, match="`schema_version` must be 1, got 2"):
        CostCheck.from_json({"schema_version": 2})


def test_a_single_network_has_no_order():
    one = CheckedNetwork(arch_id="a", label="a", predicted=1.0, measured=2.0, spread=None)
    check = CostCheck.of([one], metric="m", unit="u", device="d")
    assert (check.kendall_tau, check.median_ratio) == (None, 0.5)
