"""Carbon of a candidate's whole life: its training as charged, and the inferences that are expected of it."""

from __future__ import annotations

from typing import Any

from ray import tune

from nasray.carbon.carbon_terms import carbon_metrics
from nasray.carbon.fu2021 import CarbonFactors
from nasray.tune.candidate_result import METRICS

LIFETIME = "lifetime_carbon_g"


class LifetimeCarbonCallback(tune.Callback):
    """Adds `lifetime_carbon_g` to results that have energy and inference time; stands after an `EnergyCallback`.

    An inference is taken to draw the power of one busy worker for as long as it was timed.

    Args:
        factors: Where candidates will run: the search's place, unless they are shipped elsewhere.
        num_inferences: Inferences of a lifetime.
        power_w: Power of a busy worker.
        num_images: Images that `inference_time_s` covers.
    """

    def __init__(self, factors: CarbonFactors, *, num_inferences: float, power_w: float, num_images: int) -> None:
        self._factors, self._num_inferences = factors, num_inferences
        self._power_w, self._num_images = power_w, num_images

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Add the column; None where a part of it is unknown."""
        seconds, energy_j = result.get(METRICS, {}).get("inference_time_s"), result.get("energy_j")
        if seconds is None or energy_j is None:
            result[LIFETIME] = None
            return
        metrics = carbon_metrics(
            training=self._factors,
            training_energy_j=energy_j,
            inference=self._factors,
            energy_per_inference_j=self._power_w * seconds / self._num_images,
            num_inferences=self._num_inferences,
        )
        result[LIFETIME] = metrics[LIFETIME]
