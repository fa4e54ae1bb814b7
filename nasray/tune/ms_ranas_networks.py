"""The networks that an MS-RANAS run trains: what was found, and rivals at about the same multiply-adds."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from nasray.data import ImageData
from nasray.models.msdnet_plan import MSDNetPlan
from nasray.spaces.genotype import Genotype
from nasray.spaces.multi_scale_layout import MultiScaleSettings
from nasray.spaces.multi_scale_plan import MultiScalePlan
from nasray.training.exit_jobs import ExitJob, ExitPlan
from nasray.tune.ms_ranas_rivals import random_plans, scaled_msdnet
from nasray.tune.ms_ranas_settings import MSRanasSettings, Variant

Group = Literal["found", "random", "msdnet"]
GROUPS: Mapping[Group, str] = {"found": "Found", "random": "Random cells", "msdnet": "MSDNet"}
"""What a network of a run is, and what people read."""


@dataclass(frozen=True, kw_only=True)
class TrainedNetwork:
    """A network that a run trains.

    Args:
        name: Of its trial.
        group: What it is.
        variant: Label of the search that found it, or for which it is a rival; of the first of them for an MSDNet.
        seed: Of search and training.
        job: Its training.
    """

    name: str
    group: Group
    variant: str
    seed: int
    job: ExitJob


def trained_networks(
    settings: MSRanasSettings, data: ImageData, *, seeds: Sequence[int], found: Mapping[str, Mapping[str, Any]]
) -> list[TrainedNetwork]:
    """Return all networks to train.

    Args:
        settings: Of the run.
        data: Data set.
        seeds: Of the run.
        found: Results of the searches that found something, by trial name, each with a `genotype`.
    """
    networks: list[TrainedNetwork] = []
    plans: dict[tuple[Variant, MultiScaleSettings], list[MultiScalePlan]] = {}
    for number, variant in enumerate(settings.variants):
        layout = settings.final_layout(variant, data)
        for seed in seeds:
            if (name := variant.trial_name(seed)) not in found:
                continue
            plan = MultiScalePlan(genotype=Genotype.from_json(found[name]["genotype"]), settings=layout)
            plans.setdefault((variant, layout), []).append(plan)
            networks.append(_network(settings, f"found-{name}", "found", variant, seed, plan))
            generator = np.random.default_rng([seed, number])
            networks += [
                _network(settings, f"random{index}-{name}", "random", variant, seed, rival)
                for index, rival in enumerate(random_plans(plan, settings.num_random, generator=generator))
            ]
    return [*networks, *(_msdnets(settings, plans, seeds) if settings.has_msdnet else ())]


def _msdnets(
    settings: MSRanasSettings,
    plans: Mapping[tuple[Variant, MultiScaleSettings], Sequence[MultiScalePlan]],
    seeds: Sequence[int],
) -> Iterator[TrainedNetwork]:
    """Return MSDNets with every seed: one for all found networks of a layout and cutout, at their mean cost."""
    costs: dict[tuple[MultiScaleSettings, int], list[int]] = {}
    variants: dict[tuple[MultiScaleSettings, int], Variant] = {}
    for (variant, layout), found in plans.items():
        key = (layout, settings.final_cutout(variant))
        variants.setdefault(key, variant)
        costs.setdefault(key, []).extend(plan.macs for plan in found)
    for (layout, cutout_px), macs in costs.items():
        plan = scaled_msdnet(layout, statistics.mean(macs))
        for seed in seeds:
            name = f"msdnet-s{layout.scales}-e{layout.exits}-c{cutout_px}-seed{seed}"
            yield _network(settings, name, "msdnet", variants[layout, cutout_px], seed, plan)


def _network(
    settings: MSRanasSettings, name: str, group: Group, variant: Variant, seed: int, plan: ExitPlan
) -> TrainedNetwork:
    job = ExitJob(
        plan=plan,
        training=settings.final,
        cutout_px=settings.final_cutout(variant),
        drop_path=0.0 if isinstance(plan, MSDNetPlan) else settings.drop_path,
        seed=seed,
    )
    return TrainedNetwork(name=name, group=group, variant=variant.label, seed=seed, job=job)
