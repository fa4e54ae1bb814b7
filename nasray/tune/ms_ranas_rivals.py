"""What a found network is compared with: random cells in the same layout, and MSDNet, both at about its cost."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise, product

import numpy as np

from nasray.models.msdnet_plan import MSDNetPlan, MSDNetSettings
from nasray.spaces.multi_scale import MultiScaleSpace
from nasray.spaces.multi_scale_layout import MultiScaleSettings
from nasray.spaces.multi_scale_plan import MultiScalePlan

TOLERANCE = 0.05
"""Share by which the multiply-adds of a random rival's last exit may differ from those of the found network."""

MSDNET_TOLERANCE = 0.1
"""The same of an MSDNet, whose channels are whole numbers."""

MOST_RANDOM = 1000
"""Random rivals of a found network that can be asked for: a third of the draws."""

_MAX_DRAWS = 3 * MOST_RANDOM
_PUBLISHED = MSDNetSettings()
_BLOCKS = tuple(product((4, 3, 2, 1), (2, 1, 4)))
"""Layers of the first block and of every further one, the published ones first."""
_FIRST_SHARE = 0.35
"""What exit 1 may cost of the last exit: the published networks with seven and six exits have 0.26 and 0.31."""
_CLASSIFIERS = (128, 64, 32)
"""Channels of a classifier, the published ones first."""
_RATIOS = (_PUBLISHED.channels / _PUBLISHED.growth, 2.0, 1.5, 1.0)
"""Channels of the first layer for each that a layer adds, the published ratio first."""
_MOST_GROWTH = 48
_NO_MATTER = 0.02
"""Share of the cost by which a network may be off before another ratio of channels is taken."""


def random_plans(
    plan: MultiScalePlan, count: int, *, generator: np.random.Generator, tolerance: float = TOLERANCE
) -> list[MultiScalePlan]:
    """Draw different networks of a plan's layout, uniformly among those of about its multiply-adds.

    Where a share of the draws is too small to hit the range, the nearest of the draws are taken.

    Args:
        plan: Whose last exit's multiply-adds are to be met; itself never drawn.
        count: How many.
        generator: Source of randomness.
        tolerance: Share by which multiply-adds may differ.

    Raises:
        ValueError: If the layout has too few different architectures.
    """
    space, target = MultiScaleSpace(plan.settings), plan.macs
    nearest: dict[MultiScalePlan, float] = {}
    within: list[MultiScalePlan] = []
    for _ in range(_MAX_DRAWS):
        if len(within) == count:
            return within
        drawn = space.plan(space.random(generator))
        if drawn != plan and drawn not in nearest:
            nearest[drawn] = abs(drawn.macs / target - 1)
            if nearest[drawn] <= tolerance:
                within.append(drawn)
    if len(nearest) < count:
        raise ValueError(f"`random` must be at most {len(nearest)}, the architectures that were found, got {count}.")
    return sorted(nearest, key=nearest.__getitem__)[:count]


def scaled_msdnet(layout: MultiScaleSettings, exit_macs: Sequence[float]) -> MSDNetPlan:
    """Return the MSDNet with a layout's exits, scales and images that is to rival a network of some costs.

    The published blocks (4 layers, then 2 each) and classifiers stay where they come within `MSDNET_TOLERANCE` of the
    last exit's cost with a first exit about as cheap as published: channels alone are scaled. With few exits, or so
    few channels that classifiers are most of the cost, they do not; there, of all blocks, classifiers and ratios of
    channels that come as near, those are taken whose exits are nearest in cost to the network's, exit by exit.

    Args:
        layout: Of the network.
        exit_macs: Multiply-adds of one image to each of its exits and to no other.

    Raises:
        ValueError: If none has exits that cost ever more.
    """
    published = _published(layout, exit_macs[-1])
    if published is not None:
        return published
    plans = [plan for plan in _all(layout, exit_macs[-1]) if _ascends(plan)]
    if not plans:
        raise ValueError(f"`exits` must leave room for an MSDNet, got {layout.exits} with {layout.scales} scales.")
    near = [plan for plan in plans if _distance(plan, exit_macs[-1]) <= MSDNET_TOLERANCE]
    if not near:
        return min(plans, key=lambda plan: _distance(plan, exit_macs[-1]))
    return min(near, key=lambda plan: _exits_distance(plan, exit_macs))


def first_share(exit_macs: Sequence[float]) -> float:
    """Return what exit 1 costs of the last exit's cost."""
    return exit_macs[0] / exit_macs[-1]


def msdnet_exit_macs(plan: MSDNetPlan) -> list[int]:
    """Return the multiply-adds of one image to each exit and to no other."""
    return [plan.exit_macs(exit) for exit in range(1, plan.settings.blocks + 1)]


def _published(layout: MultiScaleSettings, macs: float) -> MSDNetPlan | None:
    """Return the published MSDNet with other channels, or None if none is near in cost with as cheap a first exit."""
    settings = _settings(layout, _PUBLISHED.base, _PUBLISHED.step)
    plans = [
        MSDNetPlan(replace(near.settings, channels=channels))
        for near in _of_growths(settings, _RATIOS[0], macs)
        for channels in range(2 * near.settings.growth, 10 * near.settings.growth // 3 + 1)
    ]

    def rank(plan: MSDNetPlan) -> tuple[float, float]:
        ratio = plan.settings.channels / plan.settings.growth
        return max(_NO_MATTER, _distance(plan, macs)), abs(ratio - _RATIOS[0])

    best = min(plans, key=rank)
    is_cheap = layout.exits == 1 or first_share(msdnet_exit_macs(best)) <= _FIRST_SHARE
    return best if is_cheap and _ascends(best) and _distance(best, macs) <= MSDNET_TOLERANCE else None


def _all(layout: MultiScaleSettings, macs: float) -> Iterator[MSDNetPlan]:
    """Yield MSDNets of all blocks, classifiers and ratios of channels, those of each next to a cost.

    A classifier is no narrower than the classes are many, nor than is usual for the channels that it reads.
    """
    for (base, step), classifier, ratio in product(_BLOCKS, _CLASSIFIERS, _RATIOS):
        if base + (layout.exits - 1) * step >= layout.scales:
            settings = replace(_settings(layout, base, step), classifier_channels=classifier)
            for plan in _of_growths(settings, ratio, macs):
                if classifier >= min(_CLASSIFIERS[0], max(layout.num_classes, 8 * plan.settings.growth)):
                    yield plan


def _settings(layout: MultiScaleSettings, base: int, step: int) -> MSDNetSettings:
    return MSDNetSettings(
        blocks=layout.exits,
        base=base,
        step=step,
        scales=layout.scales,
        num_classes=layout.num_classes,
        in_channels=layout.in_channels,
        resolution=layout.resolution,
    )


def _of_growths(settings: MSDNetSettings, ratio: float, macs: float) -> list[MSDNetPlan]:
    """Return the networks below and above a cost that differ in their channels alone."""

    def plan(growth: int) -> MSDNetPlan:
        return MSDNetPlan(replace(settings, growth=growth, channels=round(growth * ratio)))

    growths = range(1, _MOST_GROWTH + 1)
    above = bisect_left(growths, macs, key=lambda growth: plan(growth).exit_macs(settings.blocks))
    return [plan(growth) for growth in growths[max(0, above - 1) : above + 1]]


def _distance(plan: MSDNetPlan, macs: float) -> float:
    """Return how far the last exit's cost is from another, as a logarithm."""
    return abs(math.log(plan.exit_macs(plan.settings.blocks) / macs))


def _exits_distance(plan: MSDNetPlan, exit_macs: Sequence[float]) -> float:
    return sum(math.log(cost / wanted) ** 2 for cost, wanted in zip(msdnet_exit_macs(plan), exit_macs, strict=True))


def _ascends(plan: MSDNetPlan) -> bool:
    """Return whether every exit costs more than the one before; dropping a scale can make classifiers cheaper."""
    return all(later > earlier for earlier, later in pairwise(msdnet_exit_macs(plan)))
