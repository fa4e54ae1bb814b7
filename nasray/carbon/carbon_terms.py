"""Carbon as something to search for: in rewards, in differentiable search, and as metrics to minimise.

Fu et al. name the place of carbon in each branch of NAS and give no formulas; the forms are those that the branches use
for latency. The third, a regulariser of an evolution's fitness, is `nasray.regularised.Regularised`.

Array letters: E edges (or layers), O operations. Arrays may be numpy's or torch's, all of one kind.

Source: Fu et al. 2021, Sec. 3.1 (a) and (b).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nasray.carbon.fu2021 import CarbonFactors
from nasray.objectives import Objective

TRAINING_CARBON = Objective(name="training_carbon_g", unit="g")
LIFETIME_CARBON = Objective(name="lifetime_carbon_g", unit="g")


def carbon_metrics(
    *,
    training: CarbonFactors,
    training_energy_j: float,
    inference: CarbonFactors | None = None,
    energy_per_inference_j: float | None = None,
    num_inferences: float | None = None,
) -> Mapping[str, float]:
    """Return the metrics of a candidate that `TRAINING_CARBON` and `LIFETIME_CARBON` minimise.

    Args:
        training: Factors of where the candidate was trained.
        training_energy_j: Energy of its training.
        inference: Factors of where it will run; None leaves the lifetime out.
        energy_per_inference_j: Energy of one inference there.
        num_inferences: Expected inferences of its lifetime.

    Returns:
        `training_carbon_g`, and with the other three given `lifetime_carbon_g`, which includes the training.

    Raises:
        ValueError: If a figure is out of its range, or only some of the lifetime's three are given.
    """
    training_g = training.carbon_g(training_energy_j)
    if inference is None and energy_per_inference_j is None and num_inferences is None:
        return {TRAINING_CARBON.name: training_g}
    if inference is None or energy_per_inference_j is None or num_inferences is None:
        raise ValueError(
            "`inference`, `energy_per_inference_j` and `num_inferences` must be given together or not at all, got "
            f"{inference}, {energy_per_inference_j} and {num_inferences}."
        )
    if not (math.isfinite(num_inferences) and num_inferences >= 0):
        raise ValueError(f"`num_inferences` must be a finite number of at least 0, got {num_inferences}.")
    lifetime_g = training_g + inference.carbon_g(energy_per_inference_j) * num_inferences
    return {TRAINING_CARBON.name: training_g, LIFETIME_CARBON.name: lifetime_g}


def product_reward(
    accuracy: float, carbon_g: float, *, target_g: float, weight: float = -0.07, weight_above: float | None = None
) -> float:
    """Return accuracy x (carbon / target)^w, for reinforcement learning: more is better.

    Args:
        accuracy: The candidate's, as a fraction.
        carbon_g: Its CO2; of training, of an inference or of a lifetime.
        target_g: The CO2 that costs nothing and earns nothing.
        weight: Exponent; not positive. -0.07 for a soft target; 0 with `weight_above=-1` for a hard one.
        weight_above: Exponent above the target; by default the same.

    Raises:
        ValueError: If carbon or target are not positive, or an exponent is positive.

    Source: Tan et al. 2019 (MnasNet), eq. 2 and 3; Fu et al. 2021, Sec. 3.1 (a). Deviation: CO2 instead of latency.
    """
    above = weight if weight_above is None else weight_above
    if weight > 0 or above > 0:
        raise ValueError(f"`weight` and `weight_above` must not be positive, got {weight} and {above}.")
    if not carbon_g > 0:
        raise ValueError(f"`carbon_g` must be positive, got {carbon_g}. Use sum_reward.")
    _check_target(target_g)
    return float(accuracy * (carbon_g / target_g) ** (weight if carbon_g <= target_g else above))


def sum_reward(accuracy: float, carbon_g: float, *, target_g: float, weight: float) -> float:
    """Return accuracy - w x carbon / target, for reinforcement learning: more is better.

    Args:
        accuracy: The candidate's, as a fraction.
        carbon_g: Its CO2.
        target_g: The CO2 that costs `weight`.
        weight: Accuracy that a target's worth of CO2 must bring; not negative.

    Raises:
        ValueError: If the target is not positive, or carbon or weight are negative.

    Source: Fu et al. 2021, Sec. 3.1 (a). Deviation: the form is ours.
    """
    if not (carbon_g >= 0 and weight >= 0):
        raise ValueError(f"`carbon_g` and `weight` must be at least 0, got {carbon_g} and {weight}.")
    _check_target(target_g)
    return accuracy - weight * carbon_g / target_g


def expected_carbon_g(probabilities_EO: Any, carbon_g_EO: Any) -> Any:
    """Return the CO2 of a run that is expected when each edge draws its operation, as a scalar of the arrays' kind.

    Args:
        probabilities_EO: (E, O) probability of each operation, as a softmax of architecture parameters gives.
        carbon_g_EO: (E, O) CO2 of each operation per run, in g; a row (O,) holds for all edges.
    """
    return (probabilities_EO * carbon_g_EO).sum()


def budget_penalty(probabilities_EO: Any, carbon_g_EO: Any, *, budget_g: float) -> Any:
    """Return by what share the expected CO2 exceeds the budget: a term for the loss of the architecture parameters.

    It is 0 with no gradient below the budget, and differentiable above it.

    Args:
        probabilities_EO: (E, O) probability of each operation.
        carbon_g_EO: (E, O) or (O,) CO2 of each operation per run, in g.
        budget_g: The CO2 allowed.

    Raises:
        ValueError: If the budget is not positive.

    Source: Fu et al. 2021, Sec. 3.1 (b), which gives no form; the expectation is ProxylessNAS' of latency (Cai et al.
    2019). Deviation: a hinge at a budget.
    """
    if not (math.isfinite(budget_g) and budget_g > 0):
        raise ValueError(f"`budget_g` must be a positive number, got {budget_g}.")
    excess = expected_carbon_g(probabilities_EO, carbon_g_EO) / budget_g - 1
    return excess * (excess > 0)


@dataclass(frozen=True, kw_only=True)
class OperationLimit:
    """What a single operation may emit or compute; a limit that is None does not bind.

    Args:
        carbon_g: CO2 per run.
        macs: Multiply-adds per run.
        carbon_g_per_mac: CO2 per multiply-add. An operation without multiply-adds (pooling, skip) has no such ratio
            and meets it.

    Raises:
        ValueError: If there is no limit at all, or one is negative or not finite.

    Source: Fu et al. 2021, Sec. 3.1 (b), "CO2/FLOP constraint on the chosen-operations level". Deviation: "/" may mean
    "per" or "or", so all three are here.
    """

    carbon_g: float | None = None
    macs: float | None = None
    carbon_g_per_mac: float | None = None

    def __post_init__(self) -> None:
        limits = [limit for limit in (self.carbon_g, self.macs, self.carbon_g_per_mac) if limit is not None]
        if not limits or not all(math.isfinite(limit) and limit >= 0 for limit in limits):
            raise ValueError(f"`OperationLimit` must have a limit, each a finite number of at least 0, got {limits}.")

    def broken(self, carbon_g_EO: Any, macs_EO: Any = None) -> Any:
        """Return the mask of operations to leave out: (E, O) booleans, true where a limit is broken.

        Args:
            carbon_g_EO: (E, O) CO2 of each operation per run, in g.
            macs_EO: (E, O) multiply-adds of each operation; needed for the limits that concern them.

        Raises:
            ValueError: If multiply-adds are needed and not given.
        """
        mask_EO = carbon_g_EO > math.inf if self.carbon_g is None else carbon_g_EO > self.carbon_g
        if self.macs is None and self.carbon_g_per_mac is None:
            return mask_EO
        if macs_EO is None:
            raise ValueError("`macs_EO` must be given for a limit on multiply-adds. Count them for each operation.")
        if self.macs is not None:
            mask_EO = mask_EO | (macs_EO > self.macs)
        if self.carbon_g_per_mac is not None:
            mask_EO = mask_EO | ((macs_EO > 0) & (carbon_g_EO > self.carbon_g_per_mac * macs_EO))
        return mask_EO


def _check_target(target_g: float) -> None:
    if not (math.isfinite(target_g) and target_g > 0):
        raise ValueError(f"`target_g` must be a positive number, got {target_g}.")
