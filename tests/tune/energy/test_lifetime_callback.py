"""Carbon of a candidate's life beside a trial's results, by hand."""

import pytest

from nasray.carbon.fu2021 import CarbonFactors
from nasray.tune.candidate_result import METRICS
from nasray.tune.energy.lifetime_callback import LIFETIME, LifetimeCarbonCallback


def lifetime_g(result):
    factors = CarbonFactors(intensity_g_per_kwh=100.0, pue=1.5)
    callback = LifetimeCarbonCallback(factors, num_inferences=288_000, power_w=50.0, num_images=8)
    callback.on_trial_result(iteration=1, trials=[], trial=None, result=result)
    return result[LIFETIME]


def test_inference_time_is_of_all_images_and_an_inference_of_one() -> None:
    # Training: 2 kWh. Inferences: 50 W x 4 s / 8 images = 25 J each, 2 kWh for all. At 1.5 x 100 g/kWh.
    result = {METRICS: {"inference_time_s": 4.0}, "energy_j": 7.2e6}
    assert lifetime_g(result) == pytest.approx(2 * 150 + 2 * 150)
    assert lifetime_g({METRICS: {"inference_time_s": 0.0}, "energy_j": 7.2e6}) == pytest.approx(2 * 150)


@pytest.mark.parametrize(
    "result", [{}, {METRICS: {"inference_time_s": 4.0}}, {METRICS: {}, "energy_j": 1.0}, {"energy_j": 1.0}]
)
def test_what_is_not_known_in_part_is_not_known(result) -> None:
    assert lifetime_g(result) is None
