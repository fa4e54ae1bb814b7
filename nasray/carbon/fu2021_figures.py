"""The figures of Fu et al. 2021 as rows of numbers, sound ones and published ones side by side and never added."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nasray.carbon.fu2021 import PAPER, Factors
from nasray.carbon.fu2021_training import (
    HAND_MADE,
    HAND_MADE_MINUTES_PER_EPOCH,
    RESNET_MACS,
    SEARCHED_MINUTES_PER_EPOCH,
    PublishedEstimate,
    equation_3,
    training_hours,
    trainings_carbon_t,
)
from nasray.carbon.nas_costs import SearchMethod, search_cost

MILLION = 1_000_000


@dataclass(frozen=True, kw_only=True)
class TrainingsRow:
    """What a million trainings of a network emit (Fig. 3).

    Args:
        name: The network.
        search_t: CO2 of its search by eq. 1, in t; None for a hand-made network, whose search nobody recorded.
        trainings_t: CO2 of the trainings by eq. 1, in t.
        published: CO2 of the trainings by eq. 3, flagged.
    """

    name: str
    search_t: float | None
    trainings_t: float
    published: PublishedEstimate

    @property
    def total_t(self) -> float:
        """CO2 of trainings and of the search, as far as it is known, in t."""
        return self.trainings_t + (self.search_t or 0.0)


@dataclass(frozen=True, kw_only=True)
class LifetimeRow:
    """What all trainings of a hand-made network so far emitted (Fig. 4).

    Args:
        name: The network.
        printed_t: As printed in Table 1.
        published: By eq. 3 from what the paper prints, flagged; None where it prints too little.
        trainings_t: By eq. 1, in t; None where the paper does not print how often it has been trained.
    """

    name: str
    printed_t: float
    published: PublishedEstimate | None
    trainings_t: float | None


def figure_3(methods: Iterable[SearchMethod], *, factors: Factors = PAPER) -> list[TrainingsRow]:
    """Return a million trainings of ResNet and of each network whose search and multiply-adds are known.

    By eq. 1 all searched networks cost the same to train, because the paper assumes the same hours for them.

    Source: Fu et al. 2021, Fig. 3 and Sec. 2.1 (250 epochs; 40 minutes each for ResNet, 60 for searched networks).
    Deviation: eq. 1 stands beside eq. 3.
    """
    hours = training_hours(HAND_MADE_MINUTES_PER_EPOCH)
    rows = [
        TrainingsRow(
            name="ResNet",
            search_t=None,
            trainings_t=trainings_carbon_t(hours, MILLION, factors=factors),
            published=equation_3(RESNET_MACS, hours, MILLION),
        )
    ]
    hours = training_hours(SEARCHED_MINUTES_PER_EPOCH)
    for method in methods:
        cost = search_cost(method, factors=factors)
        if cost is not None and method.macs is not None:
            rows.append(
                TrainingsRow(
                    name=method.name,
                    search_t=cost.carbon_kg / 1000,
                    trainings_t=trainings_carbon_t(hours, MILLION, factors=factors),
                    published=equation_3(method.macs, hours, MILLION),
                )
            )
    return rows


def figure_4(*, factors: Factors = PAPER) -> list[LifetimeRow]:
    """Return the lifetimes of the hand-made networks, fewest citations first.

    Source: Fu et al. 2021, Fig. 4 and Table 1. Deviation: eq. 1 stands beside eq. 3.
    """
    hours = training_hours(HAND_MADE_MINUTES_PER_EPOCH)
    rows = []
    for network in HAND_MADE.values():
        macs, trainings = network.macs, network.trainings
        rows.append(
            LifetimeRow(
                name=network.name,
                printed_t=network.published_t,
                published=None if macs is None or trainings is None else equation_3(macs, hours, trainings),
                trainings_t=None if trainings is None else trainings_carbon_t(hours, trainings, factors=factors),
            )
        )
    return rows


def left_out(methods: Sequence[SearchMethod]) -> list[str]:
    """Say in a sentence each which methods and networks a figure does not show, and for want of what."""
    wanted = {
        "The table of searches and Fig. 2": [m.name for m in methods if m.gpu_hours is None],
        "Fig. 2": [m.name for m in methods if m.gpu_hours is not None and m.top1_accuracy is None],
        "Fig. 3": [m.name for m in methods if m.gpu_hours is not None and m.macs is None],
        "Fig. 4 by equation 1 or 3": [n.name for n in HAND_MADE.values() if n.trainings is None or n.macs is None],
    }
    lacking = ("GPU hours", "ImageNet accuracy", "multiply-adds", "citations or FLOPs")
    return [
        f"{figure} without {', '.join(names)}: no {what} known."
        for (figure, names), what in zip(wanted.items(), lacking, strict=True)
        if names
    ]
