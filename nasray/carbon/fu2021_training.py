"""CO2 of networks that others train again and again: figures 3 and 4 and equation 3 of Fu et al. 2021.

Equation 3 multiplies FLOPs (a count) by W/FLOPS (W s per operation) and by hours: the product is W s h, which is no
energy. Its number means nothing physical, so it has a type of its own that cannot be mistaken for a sound figure. By
eq. 1 ResNet's trainings cost about 700 times as much.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from nasray.carbon.fu2021 import PAPER, Factors, carbon_kg, energy_wh

EPOCHS = 250
HAND_MADE_MINUTES_PER_EPOCH = 40
SEARCHED_MINUTES_PER_EPOCH = 60
TRAININGS_PER_CITATION = 50
"""Fu et al. 2021, Sec. 2.1: assumed for ResNet, for networks of a search, and for each paper that cites one."""

GPU_W_PER_FLOPS = 300 / 14e12
CPU_W_PER_FLOPS = 45 / 249.6e9
"""V100 and Core i7-10750H at their peak. The paper prints neither; with these eq. 3 gives its ResNet to 0.5 %."""

RESNET_MACS = 3.8e9
"""ResNet-50's "3.8 billion FLOPs" of He et al. 2016, Table 1; Fu et al. print none."""

WHY_INCONSISTENT = (
    "Equation 3 multiplies FLOPs, W/FLOPS and hours, which gives W s h and not an energy. Its figures are shown as "
    "published and are not comparable with any other."
)


@dataclass(frozen=True, kw_only=True)
class PublishedEstimate:
    """What equation 3 of Fu et al. gives, as published: not an energy, and never to be added to one.

    Args:
        published_wh: The number that the paper calls Wh.
        published_kg: The number that the paper calls kg of CO2.
        is_consistent: Always False: the units do not work out.
        explanation: Why.
    """

    published_wh: float
    published_kg: float
    is_consistent: bool = field(default=False, init=False)
    explanation: str = field(default=WHY_INCONSISTENT, init=False)


@dataclass(frozen=True, kw_only=True)
class TrainedNetwork:
    """A hand-made network that others train.

    Args:
        name: Its name.
        macs: Multiply-adds of one inference, which the paper calls FLOPs; None where it prints none.
        citations: Papers that cite it; None where the paper prints no number.
        trainings: How often it has been trained; None where that is not known.
        published_t: CO2 of its lifetime as published, in t (Table 1, by eq. 3).
    """

    name: str
    macs: float | None = None
    citations: int | None = None
    trainings: float | None = None
    published_t: float


HAND_MADE: Mapping[str, TrainedNetwork] = {
    network.name: network
    for network in (
        TrainedNetwork(name="GoogLeNet", published_t=65.1),
        TrainedNetwork(name="VGG", published_t=181.7),
        TrainedNetwork(name="ResNet", macs=RESNET_MACS, citations=73_000, trainings=3.6e6, published_t=326.6),
    )
}
"""Fu et al. 2021, Table 1 and Sec. 2.1, fewest citations first. ResNet's trainings are rounded there (73k x 50).
Citations and FLOPs of the others are not printed."""


def training_hours(minutes_per_epoch: float, epochs: float = EPOCHS) -> float:
    """Return the hours of one training on one GPU."""
    if not (math.isfinite(minutes_per_epoch) and math.isfinite(epochs) and minutes_per_epoch > 0 and epochs > 0):
        raise ValueError(f"`minutes_per_epoch` and `epochs` must be positive, got {minutes_per_epoch} and {epochs}.")
    return epochs * minutes_per_epoch / 60


def lifetime_trainings(citations: float, trainings_per_citation: float = TRAININGS_PER_CITATION) -> float:
    """Return how often a network has been trained if each citing paper trained it so many times."""
    if not (citations >= 0 and trainings_per_citation >= 0):
        raise ValueError(
            f"`citations` and `trainings_per_citation` must be at least 0, got {citations}, {trainings_per_citation}."
        )
    return citations * trainings_per_citation


def trainings_carbon_t(gpu_hours_each: float, num_trainings: float, *, factors: Factors = PAPER) -> float:
    """Return the CO2 of many trainings on a V100 each, in t: the sound figure.

    Args:
        gpu_hours_each: From `training_hours`, or measured.
        num_trainings: How many.
        factors: Overhead and carbon intensity.

    Source: Fu et al. 2021, eq. 1 and 2. Deviation: none of the equations, but the paper uses eq. 3 here.
    """
    return carbon_kg(energy_wh(gpu_hours_each, factors=factors), factors=factors) * num_trainings / 1000


def equation_3(macs: float, gpu_hours_each: float, num_trainings: float = 1.0) -> PublishedEstimate:
    """Return what equation 3 gives, flagged; only to compare with what the paper printed.

    Args:
        macs: The network's FLOPs, as the paper counts them (a multiply-add is one).
        gpu_hours_each: Hours of one training.
        num_trainings: How many trainings.

    Source: Fu et al. 2021, eq. 3, with the paper's carbon intensity and, as there, no overhead. Deviation: none.
    """
    if not (macs >= 0 and gpu_hours_each >= 0 and num_trainings >= 0):
        raise ValueError(
            "`macs`, `gpu_hours_each` and `num_trainings` must be at least 0, got "
            f"{macs}, {gpu_hours_each} and {num_trainings}."
        )
    number = macs * (GPU_W_PER_FLOPS + CPU_W_PER_FLOPS) * gpu_hours_each * num_trainings
    return PublishedEstimate(published_wh=number, published_kg=carbon_kg(number))
