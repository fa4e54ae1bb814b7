"""CO2 of searches and trainings that were never metered, from GPU hours: equations 1 and 2 of Fu et al. 2021.

What a meter measured is worth more; these equations serve searches of which only the GPU hours are known.

Source: Fu, Hosseini, Plataniotis 2021, "Reconsidering CO2 emissions from Computer Vision", Sec. 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from nasray.carbon.fu2021_gpus import ASSUMED_GPU, GPU_POWERS

J_PER_KWH = 3.6e6

POUNDS_PER_GPU_HOUR = 1438 / (64 * 79)
"""CO2 of a V100-hour after BERT, 1438 lb on 64 V100 for 79 h (Strubell et al. 2019, Table 3; NetAdaptV2, app. E)."""

US_AVERAGE_G_PER_KWH = 369.473
"""Mean of the US grid as codecarbon has it, for comparison: the paper's is 1.91 times that, near EPA's marginal one."""


def _check(name: str, value: float) -> None:
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"`{name}` must be a finite number of at least 0, got {value}.")


@dataclass(frozen=True, kw_only=True)
class CarbonFactors:
    """What turns the energy of computers into CO2.

    Args:
        intensity_g_per_kwh: CO2 of the electricity where it was used.
        pue: Power usage effectiveness: energy of the data centre per energy of its computers; 1 for a device at home
            or in a pocket.

    Raises:
        ValueError: If a factor is out of its range.
    """

    intensity_g_per_kwh: float
    pue: float = 1.0

    def __post_init__(self) -> None:
        _check("intensity_g_per_kwh", self.intensity_g_per_kwh)
        if not (math.isfinite(self.pue) and self.pue >= 1):
            raise ValueError(f"`pue` must be a number of at least 1, got {self.pue}. 1 means no overhead.")

    def carbon_g(self, energy_j: float) -> float:
        """Return the CO2 of energy measured at the computers, overhead added, in g."""
        _check("energy_j", energy_j)
        return energy_j / J_PER_KWH * self.pue * self.intensity_g_per_kwh


@dataclass(frozen=True, kw_only=True)
class Factors(CarbonFactors):
    """What turns GPU hours into energy and energy into CO2.

    Args:
        intensity_g_per_kwh: CO2 of the electricity.
        pue: Power usage effectiveness.
        cpu_power_w: Power of the processor that goes with each GPU.

    Raises:
        ValueError: If a factor is out of its range.

    Source: Fu et al. 2021, eq. 1 (1.59; i7-10750H, 45 W) and eq. 2 (0.707e-3 t/kWh). Deviation: none.
    """

    intensity_g_per_kwh: float = 707.0
    pue: float = 1.59
    cpu_power_w: float = 45.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check("cpu_power_w", self.cpu_power_w)


PAPER = Factors()
"""The factors of the paper."""


def energy_wh(
    gpu_hours: float, *, gpu_power_w: float = GPU_POWERS[ASSUMED_GPU].power_w, factors: Factors = PAPER
) -> float:
    """Return the energy of a computation, in Wh, overhead of the data centre included.

    Args:
        gpu_hours: Hours times GPUs.
        gpu_power_w: Rated power of one GPU.
        factors: Overhead, and power of the processor per GPU.

    Raises:
        ValueError: If the hours or the power are negative or not finite.

    Source: Fu et al. 2021, eq. 1. Deviation: none.
    """
    _check("gpu_hours", gpu_hours)
    _check("gpu_power_w", gpu_power_w)
    return factors.pue * gpu_hours * (gpu_power_w + factors.cpu_power_w)


def carbon_kg(energy_wh: float, *, factors: Factors = PAPER) -> float:
    """Return the CO2 of energy that already includes the overhead, in kg.

    Args:
        energy_wh: From `energy_wh`.
        factors: Carbon intensity of the electricity; the overhead is not added again.

    Source: Fu et al. 2021, eq. 2. Deviation: none; 0.707e-3 t/kWh is 0.707e-3 kg/Wh, the unit that makes eq. 2 right.
    """
    return energy_wh * factors.intensity_g_per_kwh * 1e-6


def strubell_lb(gpu_hours: float) -> float:
    """Return the CO2 of GPU hours by the ratio of a single well-known training, in pounds.

    Source: Yang et al. 2021 (NetAdaptV2), Table 1 and appendix E. Deviation: none.
    """
    _check("gpu_hours", gpu_hours)
    return gpu_hours * POUNDS_PER_GPU_HOUR
