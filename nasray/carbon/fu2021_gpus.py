"""Rated power of GPUs, for estimates of runs that nobody metered.

A rating says what the cooling must bear, not what a training draws. Where a
meter ran, use the meter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

ASSUMED_GPU = "V100"
"""Fu et al. 2021, Sec. 2: "if no GPU type was found", this one."""


@dataclass(frozen=True, kw_only=True)
class GpuPower:
    """The rated power of a GPU type.

    Args:
        power_w: Thermal design power of one board.
        source: Who says so.

    Raises:
        ValueError: If the power is not a positive finite number.
    """

    power_w: float
    source: str

    def __post_init__(self) -> None:
        if not (math.isfinite(self.power_w) and self.power_w > 0):
            raise ValueError(f"`power_w` must be a positive number of watts, got {self.power_w}.")


def _listed(power_w: float) -> GpuPower:
    return GpuPower(power_w=power_w, source="mlco2/impact, gpus.csv")


GPU_POWERS: Mapping[str, GpuPower] = {
    ASSUMED_GPU: GpuPower(power_w=300.0, source="Fu et al. 2021, Sec. 2, after TechPowerUp"),
    "A100 PCIe": _listed(250.0),
    "A100 SXM4": _listed(400.0),
    "GTX 1080": _listed(180.0),
    "GTX 1080 Ti": _listed(250.0),
    "GTX TITAN X": _listed(250.0),
    "H100 SXM": _listed(700.0),
    "P100": _listed(250.0),
    "P40": _listed(250.0),
    "RTX 2080 Ti": _listed(250.0),
    "RTX 3090": _listed(350.0),
    "RTX 4090": _listed(450.0),
    "RTX A6000": _listed(300.0),
    "T4": _listed(70.0),
    "Titan RTX": _listed(280.0),
    "Titan Xp": _listed(250.0),
}
"""Types by name. For another one, give its watts where a type is asked for."""


def gpu_power_w(gpu_type: str | None, powers: Mapping[str, GpuPower] = GPU_POWERS) -> float:
    """Return the rated power of a GPU type, in W.

    Args:
        gpu_type: Its name, however it is cased; `None` where a paper does not say, which counts as a V100.
        powers: The known types; merge your own into `GPU_POWERS`.

    Raises:
        ValueError: If the type is not known.

    Source: Fu et al. 2021, Sec. 2 (a V100 where none is named). Deviation: none.
    """
    wanted = (ASSUMED_GPU if gpu_type is None else gpu_type).casefold().strip()
    for name, power in powers.items():
        if name.casefold() == wanted:
            return power.power_w
    raise ValueError(f"`gpu_type` must be one of {', '.join(powers)}, got {gpu_type!r}. Or give its power in watts.")
