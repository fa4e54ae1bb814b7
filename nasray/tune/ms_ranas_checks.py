"""What must fit together before an MS-RANAS run starts."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nasray.data import ImageData
from nasray.differentiable.expected_cost import CostTerm, macs_table
from nasray.hardware.device import check_device
from nasray.tune.ms_ranas_rivals import MOST_RANDOM
from nasray.tune.ms_ranas_settings import MSRanasSettings, Variant


def check_run(
    settings: MSRanasSettings, data: ImageData, *, seeds: Sequence[int], budgets_macs: Sequence[float]
) -> None:
    """Check a run's settings against each other and against the data.

    Args:
        settings: Of the run.
        data: Data set.
        seeds: Of searches and trainings.
        budgets_macs: Multiply-adds for an image that are expected.

    Raises:
        ValueError: If something does not fit.
    """
    if min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise ValueError(f"`seeds` must be different whole numbers of at least 0, got {list(seeds)}.")
    check_device(settings.latency_device)
    if settings.num_random > MOST_RANDOM:
        raise ValueError(f"`random` must be at most {MOST_RANDOM:,}, got {settings.num_random:,}. Ask for fewer.")
    if not all(0 < budget_macs < math.inf for budget_macs in budgets_macs):
        raise ValueError(f"`inference-budget` must be positive numbers of multiply-adds, got {list(budgets_macs)}.")
    if len(data.holdout) == 0:
        raise ValueError("`data` must hold out images to choose networks by, got none. Use more images.")
    if len(set(settings.variants)) < len(settings.variants):
        raise ValueError(f"`exits` must not repeat, got {settings.layers - 1}, which stands for all of them, twice.")
    for variant in settings.variants:
        _check_variant(settings, data, variant)


def _check_variant(settings: MSRanasSettings, data: ImageData, variant: Variant) -> None:
    cutout_px = max(variant.cutout_px, settings.final_cutout(variant))
    if cutout_px >= data.resolution:
        raise ValueError(
            f"`cutout` must be below {data.resolution} pixels, the side of the images, got {cutout_px}. Half of it is "
            "usual."
        )
    settings.final_layout(variant, data)
    if settings.cost == "macs" and variant.cost_weight:  # a target out of reach shows before anything starts
        layout = settings.search_layout(variant, data)
        CostTerm(table=macs_table(layout), weight=variant.cost_weight, target=settings.cost_target)
