"""What a found network is compared with: random cells in the same layout, and MSDNet, both at about its cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise, product

import numpy as np

from nasray.models.msdnet_plan import MSDNetPlan, MSDNetSettings
from nasray.spaces.multi_scale import MultiScaleSpace
from nasray.spaces.multi_scale_layout import MultiScaleSettings
from nasray.spaces.multi_scale_plan import MultiScalePlan

TOLERANCE = 0.05
"""Share by which the multiply-adds of a rival's last exit may differ from those of the found network."""

_MAX_DRAWS = 3000
_BLOCKS = tuple(product((4, 3, 2, 1), (2, 1)))
"""Layers of the first block and of every further one, the published ones first."""
_MAX_GROWTH = 48
_CHANNELS_PER_GROWTH = 16 / 6


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


def scaled_msdnet(layout: MultiScaleSettings, macs: float) -> MSDNetPlan:
    """Return the MSDNet with a layout's exits, scales and images whose last exit costs nearest to some multiply-adds.

    Channels keep the published ratio of 16 to a growth of 6. Blocks keep the published size as long as that comes
    within `TOLERANCE`; else smaller ones are tried too.

    Raises:
        ValueError: If none has exits that cost ever more.
    """
    nearest: tuple[float, MSDNetPlan] | None = None
    for base, step in _BLOCKS:
        for plan in _of_blocks(layout, base, step):
            distance = abs(math.log(plan.exit_macs(layout.exits) / macs))
            if nearest is None or distance < nearest[0]:
                nearest = distance, plan
        if nearest is not None and nearest[0] <= TOLERANCE:
            return nearest[1]
    if nearest is None:
        raise ValueError(f"`exits` must leave room for an MSDNet, got {layout.exits} with {layout.scales} scales.")
    return nearest[1]


def _of_blocks(layout: MultiScaleSettings, base: int, step: int) -> Sequence[MSDNetPlan]:
    if base + (layout.exits - 1) * step < layout.scales:
        return []
    smallest = MSDNetSettings(
        blocks=layout.exits,
        base=base,
        step=step,
        scales=layout.scales,
        num_classes=layout.num_classes,
        in_channels=layout.in_channels,
        resolution=layout.resolution,
    )
    plans = (
        MSDNetPlan(replace(smallest, growth=growth, channels=round(growth * _CHANNELS_PER_GROWTH)))
        for growth in range(1, _MAX_GROWTH + 1)
    )
    return [plan for plan in plans if _ascends(plan)]


def _ascends(plan: MSDNetPlan) -> bool:
    """Return whether every exit costs more than the one before; dropping a scale can make classifiers cheaper."""
    costs = [plan.exit_macs(exit) for exit in range(1, plan.settings.blocks + 1)]
    return all(later > earlier for earlier, later in pairwise(costs))
